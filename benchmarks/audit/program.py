"""The checks of a program of its own, `ort_infer`, as far as they can be made from outside."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.audit import TRIES, Finding, caching, timer
from benchmarks.inputs import Inputs
from benchmarks.matrix import Boundary
from benchmarks.native import Program
from benchmarks.native.reports import Report
from benchmarks.timing import TimerSettings

#: Seconds that the longer of the timer's two runs measures longer: starting a process varies by some 100 ms on a busy machine.
LONGER_S = 8.0
_SHORT_S = 0.2
_UNREACHABLE = (
    "the program's calls cannot be looked into from outside; on the CPU ONNX Runtime returns finished outputs"
)


def check(program: Program, inputs: Inputs, boundaries: Sequence[Boundary], settings: TimerSettings) -> list[Finding]:
    """All checks at every boundary that the images give a batch for.

    Raises:
        MeasurementError: the program failed.
    """
    found: list[Finding] = []
    for boundary in boundaries:
        groups = inputs.encoded_paths if boundary == "e2e" else inputs.tensor_paths
        if groups:
            subject = _Subject(program, boundary, groups)
            found += [subject.answers(settings), subject.caching(settings), subject.timer(settings)]
            found.append(Finding.impossible("synchronisation", boundary, _UNREACHABLE))
    return found


class _Subject:
    def __init__(self, program: Program, boundary: Boundary, groups: Sequence[Sequence[Path]]) -> None:
        self.program = program
        self.boundary = boundary
        self.paths = [path for group in groups for path in group]
        self.batch = len(groups[0])
        self.groups = len(groups)

    def answers(self, settings: TimerSettings) -> Finding:
        """What the last timed calls answered, against a run that times nothing."""
        report = self._measure(settings, answers=True)
        assert report.answers
        if self.boundary == "e2e":
            wanted: Any = [
                line.rstrip("\n") for line in self.program.lines(self.paths, "--json", "--batch", self.batch)
            ]
            pairs = list(zip(report.answers.e2e, wanted, strict=True))
            wrong = sum(_answer(found) != _answer(want) for found, want in pairs)
            if report.answers.label_maps:
                maps = [_hash(result) for result in self.program.predict(self.paths, self.batch)]
                wrong += sum(a != b for a, b in zip(report.answers.label_maps, maps, strict=True))
        else:
            assert report.expected
            pairs = list(zip(_of(report.answers, self.boundary), _of(report.expected, self.boundary), strict=True))
            wrong = sum(found != want for found, want in pairs)
        if not pairs:
            return Finding.of("answers", self.boundary, float("inf"), 0, "the program reported no answers")
        return Finding.of(
            "answers", self.boundary, wrong, 0, f"different answers to {len(pairs)} inputs, by hash or text"
        )

    def caching(self, settings: TimerSettings) -> Finding:
        """The first input alone against the first input in turn, in processes that alternate."""
        saved = float("inf")
        for _ in range(TRIES):
            turn = self._samples(self._measure(settings))[:: self.groups]
            alone = self._samples(self._measure(settings, repeat_one=True))
            saved = min(saved, 1 - median(alone) / median(turn))
            if saved <= caching.LIMIT:
                break
        detail = "share of the time that answering the first input alone saves, against in turn with others"
        return Finding.of("caching", self.boundary, saved, caching.LIMIT, detail)

    def timer(self, settings: TimerSettings) -> Finding:
        """Short and long runs: the processes must differ by as much as the reported loops do."""
        brief = settings.model_copy(
            update={"settled_windows": 2, "tolerance": 1e9, "window_ms": 20.0, "window_calls": 1, "max_calls": 10**8}
        )
        error = float("inf")
        around: dict[float, list[float]] = {_SHORT_S: [], _SHORT_S + LONGER_S: []}
        for _ in range(TRIES):
            for seconds, outside in around.items():
                outside.append(self._around(brief, seconds))
            short, long = map(min, around.values())  # a busy machine delays a start; it brings none forward
            error = abs(long - short) / LONGER_S
            if error <= timer.LIMIT:
                break
        detail = f"share of {LONGER_S:g} s more of timing by which the processes differ from their reported loops"
        return Finding.of("timer", self.boundary, error, timer.LIMIT, detail)

    def _around(self, settings: TimerSettings, seconds: float) -> float:
        """Seconds that the process lives before and after its timed loop, as the loop is reported."""
        start = perf_counter()
        report = self._measure(settings.model_copy(update={"seconds": seconds}))
        return perf_counter() - start - report.boundaries[self.boundary].wall_s

    def _samples(self, report: Report) -> list[float]:
        return report.boundaries[self.boundary].samples_us

    def _measure(self, settings: TimerSettings, **options: bool) -> Report:
        return self.program.measure(self.paths, self.boundary, self.batch, settings, **options)


def _of(found: Any, boundary: Boundary) -> list[Any]:
    given: list[Any] = getattr(found, boundary)
    return given


def _answer(line: str) -> Any:
    return json.loads(line)


def _hash(result: Any) -> str:
    return hashlib.sha256(result.label_map.tobytes()).hexdigest()
