"""Which cells to measure, in which order, and what is left in `work/<experiment>/bench/`."""

import contextlib
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from benchmarks import backends, exported, html, journal, memory, process, report, rows, telemetry
from benchmarks.environment import DISTRIBUTIONS, Environment, capture
from benchmarks.exported import Exported
from benchmarks.journal import Cell, Plan, Record, Run
from benchmarks.matrix import Matrix, Precision
from benchmarks.outcome import Outcome, Spec
from benchmarks.results import Results
from train.cli import say
from train.errors import BackendError
from train.files import sha256_json, write_atomic
from train.lock import only_writer
from train.machine import available_cores

#: Raise it whenever a change of this room alters what a number means; stored results are then measured anew.
HARNESS_VERSION = 3


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
    """One experiment, what is to be measured of it, and what was measured before."""

    exported: Exported
    run: Run
    specs: dict[str, Spec]
    records: list[Record]

    @property
    def journal(self) -> Path:
        """Where its results go."""
        return self.exported.experiment.bench / journal.FILE_NAME

    def pending(self, force: bool) -> list[Plan]:
        """The cells that are not there yet, or did not end well."""
        found = {} if force else journal.cells(self.records)
        return [plan for plan in self.run.plan if plan.key not in found or not _finished(found[plan.key].outcome)]


def run(request: Request) -> list[tuple[Results, bool]]:
    """Measure what is not measured yet of experiments, and write their reports.

    Returns:
        For each experiment, in the order asked for: its results, and whether any of it was measured now.

    Raises:
        UsageError, InputError, BundleError: see `exported.read`, `backends.check`, `journal.read` and `only_writer`.
            Nothing was measured then.
    """
    for name, precision in request.matrix.engines:
        backends.check(name, precision)
    found = {name: exported.read(request.work, name) for name in dict.fromkeys(request.experiments)}
    with contextlib.ExitStack() as writing:
        for root in {each.experiment.root for each in found.values()}:
            writing.enter_context(only_writer(root))
        return _run(found, request)


def _run(found: dict[str, Exported], request: Request) -> list[tuple[Results, bool]]:
    threads = request.matrix.threads or available_cores()
    environment = _environment(request, threads)
    subjects = {name: _subject(each, request, environment) for name, each in found.items()}
    pending = {name: subject.pending(request.force) for name, subject in subjects.items()}
    for name, subject in subjects.items():
        before = [record for record in subject.records if isinstance(record, Run)][-1:]
        if not pending[name] and before and _same(before[0], subject.run):
            subjects[name] = replace(subject, run=before[0])
        else:
            journal.append(subject.journal, subject.run)
    _measure([(subjects[name], plan) for name, plans in pending.items() for plan in plans], request.matrix)
    done = [(_report(subject), bool(pending[name])) for name, subject in subjects.items()]
    if len(done) > 1:
        _write(request.work / "bench", [results for results, _ in done])
    return done


def _environment(request: Request, threads: int) -> Environment:
    engines = [backends.get(name) for name in request.matrix.backends]
    found = capture({name for engine in engines for name in engine.distributions}, threads, request.device)
    found.versions |= backends.versions(engines)
    return found


def _subject(subject: Exported, request: Request, environment: Environment) -> Subject:
    matrix = request.matrix
    specs, plans = {}, []
    axes = product(matrix.engines, matrix.batch_sizes, matrix.shapes, range(matrix.repetitions))
    for (backend, precision), batch, shape, repetition in axes:
        if shape and not {"model", "host"} & set(matrix.boundaries):
            continue
        spec = _spec(subject, request, environment.threads, backend, precision, batch, shape, repetition)
        artifact = _artifact(subject, backend, precision)
        key = _key(subject, spec, artifact, environment)
        specs[key] = spec
        plans.append(
            Plan(
                key=key,
                backend=backend,
                precision=precision,
                batch=batch,
                shape=shape,
                repetition=repetition,
                artifact_sha256=artifact,
                baseline=backends.get(backend).baseline,
            )
        )
    path = subject.experiment.bench / journal.FILE_NAME
    return Subject(
        exported=subject,
        run=Run(
            date_utc=environment.date_utc,
            experiment=subject.experiment.name,
            task=subject.manifest.task,
            windows=getattr(subject.manifest.postprocess, "window", None) is not None,
            device=request.device,
            bundle_sha256=subject.bundle_sha256,
            data_fingerprint=subject.data_fingerprint,
            parity_passed=subject.parity_passed(),
            environment=environment,
            matrix=matrix,
            plan=plans,
        ),
        specs=specs,
        records=journal.read(path) if path.exists() else [],
    )


def _spec(
    found: Exported,
    request: Request,
    threads: int,
    backend: str,
    precision: Precision,
    batch: int,
    shape: tuple[int, int] | None,
    repetition: int,
) -> Spec:
    matrix = request.matrix
    fixed = found.manifest.inputs[0].shape[0]
    # Once an artifact, in the first process that can: with the graph's own batch where that is fixed.
    counts = repetition == 0 and shape == matrix.shapes[0]
    counts = counts and batch == (fixed if fixed in matrix.batch_sizes else matrix.batch_sizes[0])
    offline = shape is None and batch == max(matrix.batch_sizes) and "e2e" in matrix.boundaries
    return Spec(
        work=found.experiment.work,
        experiment=found.experiment.name,
        backend=backend,
        precision=precision,
        device=request.device,
        batch=batch,
        shape=shape,
        repetition=repetition,
        boundaries=matrix.boundaries,
        scenarios=tuple(each for each in matrix.scenarios if each != "offline" or offline),
        stages=matrix.stages and batch == matrix.batch_sizes[0] and shape is None and "e2e" in matrix.boundaries,
        inputs=matrix.inputs,
        threads=threads,
        seed=matrix.seed,
        timer=matrix.timer,
        accuracy_batch_size=matrix.accuracy_batch_size if counts else None,
    )


def _artifact(subject: Exported, backend: str, precision: Precision) -> str:
    """The hash of what is measured; empty where there is no such file, which its cell will say."""
    try:
        return backends.get(backend).artifact(subject, precision)[1]
    except BackendError:
        return ""


def _key(subject: Exported, spec: Spec, artifact: str, environment: Environment) -> str:
    """The hash of everything that a cell's numbers depend on; other backends, and other files of the bundle, do not count."""
    engine = backends.get(spec.backend)
    versions = {*DISTRIBUTIONS, *engine.distributions, engine.name}
    identity = environment.identity()
    return sha256_json(
        {
            "harness": HARNESS_VERSION,
            "spec": spec.model_dump(mode="json", exclude={"work"}),
            "artifact": artifact,
            "manifest": subject.manifest.model_dump(mode="json", exclude={"files"}),
            "data": subject.data_fingerprint,
            "environment": {
                **identity,
                "versions": {name: value for name, value in environment.versions.items() if name in versions},
            },
        }
    )


def _finished(outcome: Outcome) -> bool:
    """Whether a cell need not be run again: not if it failed, or nothing that it timed ever settled."""
    timings = [*outcome.timings.values(), *filter(None, [outcome.offline])]
    return outcome.status != "failed" and not (timings and all(timing.invalid for timing in timings))


def _same(one: Run, other: Run) -> bool:
    """Whether both ask for the same."""
    return (one.plan, one.matrix) == (other.plan, other.matrix)


def _measure(cells: Sequence[tuple[Subject, Plan]], matrix: Matrix) -> None:
    """Run every cell and note it at once. The other repetitions of one that did not end well are left out."""
    broken: dict[tuple[str, str, int, object], Outcome] = {}
    ordered = schedule(cells, matrix.seed)
    for number, (subject, plan) in enumerate(ordered, start=1):
        same = (subject.run.experiment, f"{plan.backend} {plan.precision}", plan.batch, plan.shape)
        name = f"{same[0]} {same[1]} batch {plan.batch}" + (f" {plan.shape[0]}×{plan.shape[1]}" if plan.shape else "")
        outcome, trace = broken.get(same), None
        if outcome is None:
            say(f"[{number}/{len(ordered)}] {name} rep {plan.repetition + 1} …")
            with telemetry.watch(plan.key, subject.run.device) as trace:
                outcome = process.run(subject.specs[plan.key], matrix.cell_timeout_s)
            outcome.peak_device_mib = memory.peak_device_mib(trace, outcome.timed_until_s)
            if outcome.status != "ok":
                broken[same] = outcome
                # Results are made to be shown: no path of this machine in them.
                outcome.reason = (outcome.reason or "").replace(f"{subject.exported.experiment.work}/", "")
                say(f"      {outcome.status}: {outcome.reason}")
        fields = plan.model_dump(exclude={"baseline"})
        journal.append(subject.journal, Cell(**fields, device=subject.run.device, outcome=outcome, trace=trace))


def schedule(cells: Sequence[tuple[Subject, Plan]], seed: int) -> list[tuple[Subject, Plan]]:
    """The cells, each repetition's in an order of its own.

    Randomised blocks: what the machine does meanwhile (clocks, other load) hits all cells alike instead of one backend.
    """
    rng = random.Random(seed)
    blocks: dict[int, list[tuple[Subject, Plan]]] = defaultdict(list)
    for subject, plan in cells:
        blocks[plan.repetition].append((subject, plan))
    for block in blocks.values():
        rng.shuffle(block)
    return [cell for _, block in sorted(blocks.items()) for cell in block]


def _report(subject: Subject) -> Results:
    """What this run asked for; when anything of it ran, `report.md` and `report.html` beside the journal."""
    made = rows.assemble([subject.run, *journal.cells(journal.read(subject.journal)).values()])
    if made.ran:  # else older reports are worth more
        _write(subject.journal.parent, [made])
    return made


def _write(folder: Path, found: Sequence[Results]) -> None:
    write_atomic(folder / report.FILE_NAME, report.render(found))
    write_atomic(folder / html.FILE_NAME, html.render(found))
