"""Which cells to measure, in which order, and what is left in `work/<experiment>/bench/`."""

import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks import backends, exported, gates, process, report, results, rows
from benchmarks.cell import Outcome, Spec
from benchmarks.environment import Environment, available_cores, capture
from benchmarks.exported import Exported
from benchmarks.matrix import Matrix
from benchmarks.results import HARNESS_VERSION, Results
from train.cli import say
from train.errors import InputError, MeasurementError
from train.files import sha256_json, write_atomic


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    experiments: tuple[str, ...]
    matrix: Matrix
    work: Path = Path("work")
    device: str = "cpu"
    force: bool = False


@dataclass(frozen=True)
class Subject:
    """One experiment with the fingerprint of everything that its numbers depend on."""

    exported: Exported
    fingerprint: str

    @property
    def bench(self) -> Path:
        """Where its results go."""
        return self.exported.experiment.bench


#: (experiment, backend, batch) → the outcomes of its repetitions.
Outcomes = dict[tuple[str, str, int], list[Outcome]]


def run(request: Request) -> list[tuple[Results, bool]]:
    """Measure experiments, leaving out those whose stored results are current and have no failed row.

    Returns:
        For each experiment, in the order asked for: its results, and whether they were measured now.

    Raises:
        UsageError, InputError, BundleError: see `exported.read` and `backends.get`. Nothing was measured then.
    """
    matrix = request.matrix
    engines = [backends.get(name) for name in {*matrix.backends, matrix.baseline}]
    threads = matrix.threads or available_cores()
    environment = capture({name for engine in engines for name in engine.distributions}, threads, request.device)
    environment.versions |= backends.versions(engines)
    subjects = {name: _subject(exported.read(request.work, name), request, environment) for name in request.experiments}
    stored = {name: None if request.force else _current(subject) for name, subject in subjects.items()}
    pending = {name: subject for name, subject in subjects.items() if stored[name] is None}
    outcomes = _measure(list(pending.values()), request, threads)
    made = {name: _store(subject, request, environment, outcomes) for name, subject in pending.items()}
    return [(stored[name] or made[name], name in made) for name in subjects]


def _subject(subject: Exported, request: Request, environment: Environment) -> Subject:
    matrix = request.matrix
    artifacts = {name: backends.get(name).artifact(subject)[1] for name in matrix.backends}
    return Subject(
        subject,
        sha256_json(
            {
                "harness": HARNESS_VERSION,
                "experiment": subject.experiment.name,
                "artifacts": artifacts,
                "bundle": subject.bundle_sha256,
                "data": subject.data_fingerprint,
                "matrix": matrix.model_dump(mode="json"),
                "device": request.device,
                "environment": environment.identity(),
            }
        ),
    )


def _current(subject: Subject) -> Results | None:
    try:
        found = results.read(subject.bench / results.FILE_NAME)
    except InputError:
        return None
    tried_in_vain = isinstance(gates.verdict(found), MeasurementError)
    return found if found.fingerprint == subject.fingerprint and not tried_in_vain else None


def _measure(subjects: Sequence[Subject], request: Request, threads: int) -> Outcomes:
    """Run every cell. A cell that did not end well is not repeated."""
    outcomes: Outcomes = defaultdict(list)
    cells = _schedule(subjects, request.matrix)
    if request.force:
        for subject in subjects:
            shutil.rmtree(subject.bench / "cells", ignore_errors=True)
    for number, (subject, backend, batch, repetition) in enumerate(cells, start=1):
        name = subject.exported.experiment.name
        earlier = outcomes[name, backend, batch]
        if any(outcome.status != "ok" for outcome in earlier):
            continue
        say(f"[{number}/{len(cells)}] {name} {backend} batch {batch} rep {repetition + 1} …")
        spec = _spec(subject, request, backend, batch, repetition, threads)
        file = subject.bench / "cells" / subject.fingerprint[:16] / f"{backend}-b{batch}-r{repetition}.json"
        outcome = process.run(spec, file, request.matrix.cell_timeout_s)
        if outcome.status != "ok":
            say(f"      {outcome.status}: {outcome.reason}")
        earlier.append(outcome)
    return outcomes


def _schedule(subjects: Sequence[Subject], matrix: Matrix) -> list[tuple[Subject, str, int, int]]:
    """Every cell once a repetition, each round in an order of its own.

    Randomised blocks: what the machine does meanwhile (clocks, other load) hits all cells alike instead of one backend.
    """
    rng = random.Random(matrix.seed)
    cells = []
    for repetition in range(matrix.repetitions):
        block = list(product(subjects, matrix.backends, matrix.batch_sizes, [repetition]))
        rng.shuffle(block)
        cells += block
    return cells


def _spec(subject: Subject, request: Request, backend: str, batch: int, repetition: int, threads: int) -> Spec:
    matrix, found = request.matrix, subject.exported
    fixed = found.manifest.inputs[0].shape[0]
    counts = repetition == 0 and batch == (fixed if fixed in matrix.batch_sizes else matrix.batch_sizes[0])
    return Spec(
        work=found.experiment.work,
        experiment=found.experiment.name,
        backend=backend,
        device=request.device,
        batch=batch,
        repetition=repetition,
        boundaries=matrix.boundaries,
        inputs=matrix.inputs,
        threads=threads,
        seed=matrix.seed,
        timer=matrix.timer,
        accuracy_batch_size=matrix.accuracy_batch_size if counts else None,
    )


def _store(subject: Subject, request: Request, environment: Environment, outcomes: Outcomes) -> Results:
    """Add up a subject's outcomes and, when anything ran, write `results.json` and `report.md`."""
    matrix, found = request.matrix, subject.exported
    table, samples, accuracy = [], {}, []
    for engine in map(backends.get, matrix.backends):
        of_engine = {batch: outcomes[found.experiment.name, engine.name, batch] for batch in matrix.batch_sizes}
        for batch, repetitions in of_engine.items():
            for boundary in matrix.boundaries:
                row, raw = rows.make(found, engine, request.device, batch, boundary, repetitions)
                table.append(row)
                samples[row.key] = raw
        accuracy.append(
            rows.accuracy(found, engine, request.device, [o for group in of_engine.values() for o in group])
        )
    made = Results(
        experiment=found.experiment.name,
        task=found.manifest.task,
        fingerprint=subject.fingerprint,
        data_fingerprint=found.data_fingerprint,
        parity_passed=found.parity_passed(),
        environment=environment,
        matrix=matrix,
        rows=rows.add_speedups(table, samples, matrix.baseline, matrix.seed),
        accuracy=[entry for entry in accuracy if entry is not None],
        samples_us=samples,
    )
    if made.ran:  # else older results are worth more
        write_atomic(subject.bench / report.FILE_NAME, report.render([made]))
        results.write(subject.bench / results.FILE_NAME, made)
    shutil.rmtree(subject.bench / "cells", ignore_errors=True)
    return made
