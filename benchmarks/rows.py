"""Records of the journal → results: rows with their ratios, accuracy with its differences."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from benchmarks import gates, journal, paired, stats
from benchmarks.inputs import Size
from benchmarks.journal import Cell, Plan, Record, Run
from benchmarks.matrix import BASELINE, Boundary, Precision, Scenario
from benchmarks.outcome import Outcome
from benchmarks.results import Accuracy, Interval, Results, Row
from benchmarks.stats import Repetitions
from benchmarks.timing import Timing

#: What a process is asked to measure, whatever its repetition.
Asked = tuple[str, Precision, int, Size | None]
#: Row key → repetition → microseconds of each call.
Samples = dict[str, list[list[float]]]


def assemble(records: Sequence[Record]) -> Results:
    """What the newest run in which anything could run asked for, as far as it was measured."""
    found = journal.cells(records)
    runs = [record for record in records if isinstance(record, Run)]
    run = next((each for each in reversed(runs) if _ran(each, found)), runs[-1])
    groups: dict[Asked, list[Plan]] = {}
    for plan in run.plan:
        groups.setdefault((plan.backend, plan.precision, plan.batch, plan.shape), []).append(plan)
    table, samples = [], {}
    for plans, (scenario, boundary) in product(groups.values(), _measures(run)):
        if skipped(run, plans[0], scenario, boundary):
            continue
        row, raw = _row(run, plans, [found.get(plan.key) for plan in plans], scenario, boundary)
        table.append(row)
        samples[row.key] = raw
    accuracy = _accuracy(run, found)
    return Results(
        experiment=run.experiment,
        task=run.task,
        device=run.device,
        date_utc=run.date_utc,
        bundle_sha256=run.bundle_sha256,
        data_fingerprint=run.data_fingerprint,
        parity_passed=run.parity_passed,
        environment=run.environment,
        matrix=run.matrix,
        rows=_with_ratios(table, samples, {(p.backend, p.precision) for p in run.plan if p.baseline}, accuracy, run),
        accuracy=accuracy,
        samples_us=samples,
        traces=sorted(
            (cell.trace for plan in run.plan if (cell := found.get(plan.key)) and cell.trace),
            key=lambda trace: trace.started_s,
        ),
    )


def skipped(run: Run, plan: Plan, scenario: Scenario, boundary: Boundary) -> bool:
    """Whether there is no such row by design: offline is of whole images in the largest batch, a shape of tensors."""
    if scenario == "offline":
        return boundary != "e2e" or plan.shape is not None or plan.batch != max(run.matrix.batch_sizes)
    return plan.shape is not None and boundary == "e2e"


def _measures(run: Run) -> list[tuple[Scenario, Boundary]]:
    return [(scenario, boundary) for boundary in run.matrix.boundaries for scenario in run.matrix.scenarios]


def _ran(run: Run, found: dict[str, Cell]) -> bool:
    return any((cell := found.get(plan.key)) and cell.outcome.status != "unavailable" for plan in run.plan)


def _row(
    run: Run, plans: Sequence[Plan], cells: Sequence[Cell | None], scenario: Scenario, boundary: Boundary
) -> tuple[Row, list[list[float]]]:
    """One row, without its ratios, and its samples by repetition in microseconds."""
    first = plans[0]
    windows = run.windows and boundary != "e2e"
    row = Row(
        experiment=run.experiment,
        backend=first.backend,
        device=run.device,
        precision=first.precision,
        batch=first.batch,
        shape=first.shape,
        scenario=scenario,
        boundary=boundary,
        unit="window" if windows else "image",
        artifact_sha256=first.artifact_sha256,
        bundle_sha256=run.bundle_sha256,
        status="ok",
    )
    outcomes = [cell.outcome for cell in cells if cell]
    broken = next((each for each in outcomes if _timing(each, scenario, boundary) is None), None)
    if broken is not None:
        status = "unavailable" if broken.status == "ok" else broken.status
        return row.model_copy(update={"status": status, "reason": broken.reason}), []
    if len(outcomes) < len(plans):
        reason = f"the run was stopped after {len(outcomes)} of {len(plans)} repetitions; the same command goes on"
        return row.model_copy(update={"status": "pending", "reason": reason}), []
    timings = [timing for each in outcomes if (timing := _timing(each, scenario, boundary))]
    units = outcomes[0].offline_images if scenario == "offline" else first.batch
    samples = [timing.samples_us for timing in timings]
    return row.model_copy(
        update=_numbers(timings, samples, None if windows else units) | _of_outcomes(outcomes, row)
    ), samples


def _timing(outcome: Outcome, scenario: Scenario, boundary: Boundary) -> Timing | None:
    return outcome.offline if scenario == "offline" else outcome.timings.get(boundary)


def _numbers(timings: Sequence[Timing], samples: Repetitions, images: int | None) -> dict[str, object]:
    """What the timings say; `images`: that a call handles, None where its unit is no image."""
    pooled_ms = stats.pool(samples) / 1e3
    invalid = next((timing.invalid for timing in timings if timing.invalid), None)
    value, low, high = stats.median_interval(samples)
    energy = [timing.energy_j for timing in timings if timing.energy_j is not None]
    return {
        "status": "invalid" if invalid else "ok",
        "reason": invalid,
        "repetitions": len(timings),
        "samples": len(pooled_ms),
        "latency_ms_median": Interval(value=value / 1e3, low=low / 1e3, high=high / 1e3),
        "latency_ms_p90": stats.percentile(pooled_ms, 0.90),
        "latency_ms_p95": stats.percentile(pooled_ms, 0.95),
        "latency_ms_p99": stats.percentile(pooled_ms, 0.99),
        "throughput_ips": images and images * len(pooled_ms) / sum(timing.wall_s for timing in timings),
        "energy_j_per_image": sum(energy) / (images * len(pooled_ms))
        if images and len(energy) == len(timings)
        else None,
        "energy_source": timings[0].energy_source,
    }


def _of_outcomes(outcomes: Sequence[Outcome], row: Row) -> dict[str, object]:
    peaks = [each.peak_device_mib for each in outcomes if each.peak_device_mib is not None]
    staged = row.boundary == "e2e" and row.scenario == "stream" and outcomes[0].stages_us
    return {
        "sizes": outcomes[0].sizes[row.boundary],
        "built": outcomes[0].built,
        "peak_rss_mib": max(each.peak_rss_mib or 0.0 for each in outcomes),
        "peak_device_mib": max(peaks, default=None),
        "stages_ms": {
            stage: float(np.median([value for each in outcomes for value in each.stages_us.get(stage, [])])) / 1e3
            for stage in (staged or ())
        },
    }


def _with_ratios(
    rows: Sequence[Row], samples: Samples, pytorch: set[tuple[str, Precision]], accuracy: Sequence[Accuracy], run: Run
) -> list[Row]:
    """The rows with their ratios to the strongest PyTorch row, of those that hold their accuracy, to eager, and to fp32."""
    kept = pytorch - {(entry.backend, entry.precision) for entry in gates.lost(accuracy)}
    ok = [row for row in rows if row.status == "ok"]
    eager = {row.group: row for row in ok if (row.backend, row.precision) == BASELINE}
    full = {(row.backend, row.group): row for row in ok if row.precision == "fp32"}
    strongest: dict[object, Row] = {}
    for row in ok:
        best = strongest.get(row.group)
        if (row.backend, row.precision) in kept and (best is None or _median(row) < _median(best)):
            strongest[row.group] = row
    made = []
    for row in rows:
        best, first = strongest.get(row.group), eager.get(row.group)
        update = {
            "speedup": _ratio(row, best, samples, run),
            "strongest": best.key if best else None,
            "speedup_eager": _ratio(row, first, samples, run),
            "speedup_fp32": _ratio(row, full.get((row.backend, row.group)), samples, run),
        }
        made.append(row.model_copy(update=update))
    return made


def _median(row: Row) -> float:
    assert row.latency_ms_median
    return row.latency_ms_median.value


def _ratio(row: Row, base: Row | None, samples: Samples, run: Run) -> Interval | None:
    if base is None or base.key == row.key or row.status != "ok":
        return None
    value, low, high = stats.ratio_interval(samples[base.key], samples[row.key], seed=run.matrix.seed)
    return Interval(value=value, low=low, high=high)


def _accuracy(run: Run, found: dict[str, Cell]) -> list[Accuracy]:
    """One entry an artifact and precision that was counted, with its intervals."""
    counted: dict[tuple[str, Precision], Cell] = {}
    for plan in run.plan:
        cell = found.get(plan.key)
        if cell and cell.outcome.accuracy:
            counted.setdefault((plan.backend, plan.precision), cell)
    base = counted.get(BASELINE)
    return [_entry(run, cell, None if cell is base else base) for cell in counted.values()]


def _entry(run: Run, cell: Cell, base: Cell | None) -> Accuracy:
    own, theirs = cell.outcome.per_image, base.outcome.per_image if base else None
    return Accuracy(
        backend=cell.backend,
        device=cell.device,
        precision=cell.precision,
        artifact_sha256=cell.artifact_sha256,
        images=cell.outcome.images,
        values=cell.outcome.accuracy,
        interval=paired.interval(run.task, own, run.matrix.seed) if own else None,
        difference=paired.compare(run.task, theirs, own, run.matrix.seed) if own and theirs else None,
    )
