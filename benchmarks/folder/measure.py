"""Rounds in which every way of predicting a folder runs once, in random order, each in a fresh process."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks import backends, environment, exported, stats
from benchmarks.environment import ROOT, Environment
from benchmarks.exported import Exported
from benchmarks.folder.passes import WAYS
from benchmarks.inputs import Size
from benchmarks.native import Program
from benchmarks.results import Interval
from benchmarks.timing import TimerSettings
from slipway_runtime.image import decode
from train import tasks
from train.cli import say
from train.errors import MeasurementError
from train.machine import available_cores

ORT_INFER = "ort_infer"
#: Passes of a process over the images that are timed, after one that is not.
PASSES = 2
#: `ort_infer` times three passes at least, each of the graph alone and of the whole, and ends where both took this long.
SHORT = TimerSettings(seconds=0.01)


class Folder(BaseModel):
    """One experiment.

    Attributes:
        images: how many images a pass predicts.
        sizes: their different sizes, height and width, smallest first.
        seconds: way → round → seconds of each pass from files to predictions.
        graph_seconds: of `ort_infer`'s graph alone, as `seconds`.
        peak_rss_mib: way → most resident memory of one process that predicts the images once or more.
    """

    model_config = ConfigDict(extra="forbid")

    experiment: str
    images: int
    sizes: list[Size]
    seconds: dict[str, list[list[float]]]
    graph_seconds: list[list[float]]
    peak_rss_mib: dict[str, float]

    def images_per_second(self, way: str) -> float:
        """Over the median pass."""
        return self.images / float(np.median(stats.pool(self.seconds[way])))

    def faster_than(self, way: str) -> Interval:
        """How many times as many images a second as another way `ort_infer` predicts."""
        return _ratio(self.seconds[way], self.seconds[ORT_INFER])

    def whole_to_graph(self) -> Interval:
        """The time that `ort_infer` takes from files to predictions, in that of its graph alone."""
        return _ratio(self.seconds[ORT_INFER], self.graph_seconds)


class Stored(BaseModel):
    """What was measured, and where."""

    model_config = ConfigDict(extra="forbid")

    environment: Environment
    folders: list[Folder]


def _ratio(numerator: stats.Repetitions, denominator: stats.Repetitions) -> Interval:
    value, low, high = stats.ratio_interval(numerator, denominator)
    return Interval(value=value, low=low, high=high)


@dataclass
class _Subject:
    """One experiment while it is measured."""

    exported: Exported
    paths: list[Path]
    threads: int
    seconds: dict[str, list[list[float]]] = field(default_factory=dict)
    graph_seconds: list[list[float]] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)

    def run(self, way: str) -> None:
        """One process of a way."""
        seconds, peak = self._program() if way == ORT_INFER else self._python(way)
        self.seconds.setdefault(way, []).append(seconds)
        self.peaks[way] = max(peak, self.peaks.get(way, 0.0))

    def _program(self) -> tuple[list[float], float]:
        experiment, manifest = self.exported.experiment, self.exported.manifest
        found = Program(experiment.bundle, manifest, "cpu", self.threads).measure(self.paths, "folder", 1, SHORT).folder
        assert found is not None
        self.graph_seconds.append(found.graph_s)
        # Measuring keeps every image's array; predicting does not.
        plain = Program(experiment.bundle, manifest, "cpu", self.threads)
        for _ in plain.lines(self.paths, "--json", "--batch", 1):
            pass
        return found.whole_s, plain.peak_rss_mib

    def _python(self, way: str) -> tuple[list[float], float]:
        experiment = self.exported.experiment
        job = {
            "way": way,
            "bundle": str(experiment.bundle),
            "work": str(experiment.work),
            "experiment": experiment.name,
            "threads": self.threads,
            "images": [str(path) for path in self.paths],
            "passes": PASSES,
        }
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.folder.passes"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"the process exited with {done.returncode}"])[-1]
            raise MeasurementError(f"{experiment.name}: {way} failed: {last}")
        said = json.loads(done.stdout.splitlines()[-1])
        return said["seconds"], said["peak_rss_mib"]

    def folder(self) -> Folder:
        """What was found."""
        sizes = {(shape[0], shape[1]) for shape in (decode(path).shape for path in self.paths)}
        return Folder(
            experiment=self.exported.experiment.name,
            images=len(self.paths),
            sizes=sorted(sizes, key=lambda size: (size[0] * size[1], size)),
            seconds=self.seconds,
            graph_seconds=self.graph_seconds,
            peak_rss_mib=self.peaks,
        )


def measure(work: Path, names: Sequence[str], rounds: int, images: int) -> Stored:
    """Measure experiments on up to `images` images of their validation sets, on the CPU cores that this process may use.

    Raises:
        UsageError, InputError, BundleError: see `exported.read`.
        BackendError: `ort_infer` is not built.
        MeasurementError: a process failed.
    """
    threads = available_cores()
    subjects = [_subject(work, name, threads, images) for name in names]
    engines = [backends.get(name) for name in ("pytorch", "onnxruntime", ORT_INFER)]
    distributions = {name for engine in engines for name in engine.distributions}
    found = environment.capture(distributions, threads, "cpu")
    found.versions |= backends.versions(engines)
    for number, block in enumerate(order(range(len(subjects)), rounds)):
        for index, way in block:
            say(f"round {number + 1} of {rounds}: {subjects[index].exported.experiment.name}, {way} …")
            subjects[index].run(way)
    return Stored(environment=found, folders=[subject.folder() for subject in subjects])


def _subject(work: Path, name: str, threads: int, images: int) -> _Subject:
    subject = exported.read(work, name)
    samples = tasks.named(subject.manifest.task).samples(subject.data_root, "val")
    paths = [path for path, _ in samples]
    return _Subject(subject, random.Random(0).sample(paths, min(images, len(paths))), threads)


def order(subjects: Sequence[int], rounds: int, seed: int = 0) -> list[list[tuple[int, str]]]:
    """Every way for every subject once a round, each round in an order of its own."""
    rng = random.Random(seed)
    cells = [(subject, way) for subject in subjects for way in (ORT_INFER, *WAYS)]
    return [rng.sample(cells, len(cells)) for _ in range(rounds)]
