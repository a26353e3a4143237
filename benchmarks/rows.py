"""Outcomes of cells → rows of the table."""

from collections.abc import Sequence

import numpy as np

from benchmarks import stats
from benchmarks.backends import Backend
from benchmarks.cell import Outcome
from benchmarks.exported import Exported
from benchmarks.matrix import Boundary
from benchmarks.results import Accuracy, Ratio, Row


def make(
    subject: Exported, backend: Backend, device: str, batch: int, boundary: Boundary, outcomes: Sequence[Outcome]
) -> tuple[Row, list[list[float]]]:
    """One row, without its speed-up, and its samples by repetition in microseconds.

    Args:
        outcomes: of every repetition of the cell; at least one.
    """
    windows = boundary != "e2e" and getattr(subject.manifest.postprocess, "window", None) is not None
    row = Row(
        experiment=subject.experiment.name,
        backend=backend.name,
        device=device,
        precision=backend.precision,
        batch=batch,
        boundary=boundary,
        unit="window" if windows else "image",
        artifact_sha256=backend.artifact(subject)[1],
        bundle_sha256=subject.bundle_sha256,
        status="ok",
    )
    broken = next((outcome for outcome in outcomes if boundary not in outcome.timings), None)
    if broken is not None:
        # Results are made to be shown: no path of this machine in them.
        reason = (broken.reason or "").replace(f"{subject.experiment.work}/", "")
        status = "unavailable" if broken.status == "ok" else broken.status
        return row.model_copy(update={"status": status, "reason": reason}), []
    timings = [outcome.timings[boundary] for outcome in outcomes]
    samples = [timing.samples_us for timing in timings]
    pooled_ms = stats.pool(samples) / 1e3
    invalid = next((timing.invalid for timing in timings if timing.invalid), None)
    measured = {
        "status": "invalid" if invalid else "ok",
        "reason": invalid,
        "repetitions": len(timings),
        "samples": len(pooled_ms),
        "latency_ms_median": float(np.median(pooled_ms)),
        "latency_ms_p90": stats.percentile(pooled_ms, 0.90),
        "latency_ms_p95": stats.percentile(pooled_ms, 0.95),
        "latency_ms_p99": stats.percentile(pooled_ms, 0.99),
        "throughput_ips": None if windows else batch * len(pooled_ms) / sum(timing.wall_s for timing in timings),
        "sizes": outcomes[0].sizes[boundary],
        "peak_rss_mib": max(outcome.peak_rss_mib or 0.0 for outcome in outcomes),
    }
    return row.model_copy(update=measured), samples


def add_speedups(rows: Sequence[Row], samples: dict[str, list[list[float]]], baseline: str, seed: int) -> list[Row]:
    """The rows, each with its ratio to the baseline's row of the same batch and boundary where both are ok."""
    bases = {(row.batch, row.boundary): row for row in rows if row.backend == baseline and row.status == "ok"}
    return [
        row.model_copy(update={"speedup": _ratio(row, bases.get((row.batch, row.boundary)), samples, seed)})
        for row in rows
    ]


def _ratio(row: Row, base: Row | None, samples: dict[str, list[list[float]]], seed: int) -> Ratio | None:
    if base is None or base is row or row.status != "ok":
        return None
    value, low, high = stats.ratio_interval(samples[base.key], samples[row.key], seed=seed)
    return Ratio(value=value, low=low, high=high)


def accuracy(subject: Exported, backend: Backend, device: str, outcomes: Sequence[Outcome]) -> Accuracy | None:
    """The accuracy that one of a backend's processes counted, or None when none did."""
    counted = next((outcome for outcome in outcomes if outcome.accuracy), None)
    if counted is None:
        return None
    return Accuracy(
        backend=backend.name,
        device=device,
        precision=backend.precision,
        artifact_sha256=backend.artifact(subject)[1],
        images=counted.images,
        values=counted.accuracy,
    )
