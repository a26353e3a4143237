"""Whether results may be relied on: what makes a run end with an exit code other than 0."""

from benchmarks.results import Accuracy, Results
from train.errors import BackendError, MeasurementError, SlipwayError, VerificationError

#: A difference of counts, divided: below this it is the division's rounding.
_ROUNDING = 1e-9


def accuracy_deltas(results: Results) -> list[tuple[Accuracy, Accuracy, float]]:
    """(entry, baseline's entry, headline difference in percentage points) for every entry but the baseline's."""
    base = next((entry for entry in results.accuracy if entry.backend == results.matrix.baseline), None)
    others = [entry for entry in results.accuracy if entry is not base]
    return [(entry, base, entry.headline[1] - base.headline[1]) for entry in others] if base else []


def verdict(results: Results) -> SlipwayError | None:
    """The error that a run with these results ends with, or None when they are good.

    In this order: nothing ran (exit 4), accuracy lost (5), a row that failed or no valid row at all (6).
    """
    name, rows = results.experiment, results.rows
    if not results.ran:
        reasons = dict.fromkeys(f"{row.backend}: {row.reason}" for row in rows)
        return BackendError(f"{name}: nothing could be measured. {'; '.join(reasons)}")
    limit = results.matrix.gates.accuracy_points
    for entry, base, delta in accuracy_deltas(results):
        if abs(delta) > limit + _ROUNDING:
            metric = entry.headline[0].removesuffix("_percent")
            return VerificationError(
                f"{name}: {metric} of {entry.backend} {entry.precision} is {entry.headline[1]:.3f} %, "
                f"of {base.backend} {base.headline[1]:.3f} %: {delta:+.3f} points, at most {limit} allowed "
                "(gates.accuracy_points); verify the bundle with python -m deploy verify, or export again"
            )
    failed = next((row for row in rows if row.status == "failed"), None)
    if failed is not None:
        return MeasurementError(f"{name}: {failed.key} failed: {failed.reason}")
    if not any(row.status == "ok" for row in rows):
        return MeasurementError(
            f"{name}: no row is valid; first: {next(row.reason for row in rows if row.reason)}. "
            "Close other programs, or raise timer.max_windows or timer.window_ms"
        )
    return None
