"""Journals made by hand: what a run would have written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment, journal
from benchmarks.journal import Cell, Plan, Record, Run
from benchmarks.matrix import Matrix
from benchmarks.outcome import Outcome
from benchmarks.timing import Timing

ENGINES = (("pytorch", "fp32"), ("onnxruntime", "fp32"))
TOP1 = {"top1_percent": 90.0, "top5_percent": 99.5}


def timing(*samples_us: float, **changes: Any) -> Timing:
    """100 samples that alternate between the given ones."""
    samples = list(samples_us or (2500.0,)) * (100 // (len(samples_us) or 1))
    return Timing(samples_us=samples, wall_s=sum(samples) / 1e6, warmup_us=[]).model_copy(update=changes)


def outcome(*samples_us: float, **changes: Any) -> Outcome:
    """Of one boundary, `model`, on images of 32×48."""
    made = Outcome(
        timings={"model": timing(*samples_us)},
        sizes={"model": [(32, 48)]},
        peak_rss_mib=241.6,
        images=2000,
        accuracy=TOP1,
    )
    return made.model_copy(update=changes)


def records(
    outcomes: dict[tuple[str, str], Sequence[Outcome]], matrix: Matrix | None = None, **changes: Any
) -> list[Record]:
    """A run line and a cell line a repetition; an engine with fewer outcomes than repetitions was not finished."""
    matrix = matrix or Matrix(
        backends=[name for name, _ in outcomes], batch_sizes=(1,), boundaries=("model",), scenarios=("stream",)
    )
    plans = [
        Plan(
            key=f"{backend} {precision} {repetition}",
            backend=backend,
            precision=precision,
            batch=1,
            shape=None,
            repetition=repetition,
            artifact_sha256=(backend[0] + precision[0]).encode().hex().ljust(64, "0"),
            baseline=backend.startswith("pytorch"),
        )
        for backend, precision in outcomes
        for repetition in range(matrix.repetitions)
    ]
    run = Run(
        date_utc="2026-01-02T03:04:05+00:00",
        experiment="cls/x",
        task="classification",
        windows=False,
        device="cpu",
        bundle_sha256="c3" * 32,
        data_fingerprint="e5",
        parity_passed=True,
        environment=environment.capture(["torch"], 2, "cpu"),
        matrix=matrix,
        plan=plans,
    ).model_copy(update=changes)
    cells = [
        Cell(**plan.model_dump(exclude={"baseline"}), device=run.device, outcome=found[plan.repetition])
        for plan in plans
        if plan.repetition < len(found := outcomes[plan.backend, plan.precision])
    ]
    return [run, *cells]


def write(path: Path, lines: Sequence[Record]) -> Path:
    """Append them to a journal."""
    for line in lines:
        journal.append(path, line)
    return path
