"""`python -m benchmarks diff BEFORE AFTER`: two results of the same experiments, row by row, and whether anything got worse.

Every ratio comes with its interval, from the raw samples of both sides. The two were not measured in turns, as the rows of
one run are: what the machine did differently in between is in the ratio and not in its interval.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmarks import journal, paired, rows, stats
from benchmarks.environment import Environment
from benchmarks.gates import Gates, Status
from benchmarks.matrix import Precision
from benchmarks.report import table
from benchmarks.results import Accuracy, Comparison, Interval, Results, Row
from train.errors import InputError, MeasurementError, SlipwayError, VerificationError

#: What of an environment is the machine: times on another one are no regression.
_MACHINE = ("cpu_model", "cores", "threads", "gpus")
_ROUNDING = 1e-9


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RowChange(_Model):
    """One row on both sides.

    Attributes:
        before_ms, after_ms: median latency of a call.
        slower: after / before, with its interval; above 1 it takes longer.
        same_artifact: whether both measured the same file.
    """

    key: str
    before_ms: float
    after_ms: float
    slower: Interval
    same_artifact: bool
    status: Status


class AccuracyChange(_Model):
    """One artifact's headline on both sides, in percent.

    Attributes:
        points: after − before.
        comparison: image by image; None where either side keeps nothing by image.
    """

    backend: str
    precision: Precision
    metric: str
    before: float
    after: float
    points: float
    comparison: Comparison | None
    status: Status


class Change(_Model):
    """One experiment on both sides.

    Attributes:
        warnings: why numbers may differ that are no regression: another machine, versions, data.
        left_out: rows and accuracies that cannot be compared, and why.
        broken: rows that were ok before and failed after.
    """

    experiment: str
    warnings: list[str]
    rows: list[RowChange]
    accuracy: list[AccuracyChange]
    left_out: list[str]
    broken: list[str]


class Side(_Model):
    """One experiment's results with its per-image data, by backend and precision."""

    results: Results
    packed: dict[tuple[str, Precision], str]


def read(path: Path) -> dict[str, Side]:
    """Experiment → what `results.jsonl` says of it; of a folder, every one below it.

    Raises:
        InputError: there is none, one cannot be read, or two are of one experiment.
    """
    files = sorted(path.rglob(journal.FILE_NAME)) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: expected {journal.FILE_NAME} somewhere below, found none; name another folder")
    found: dict[str, Side] = {}
    for file in files:
        side = _side(journal.read(file))
        if side.results.experiment in found:
            raise InputError(f"{path}: two results of {side.results.experiment} below; name the file of one")
        found[side.results.experiment] = side
    return found


def _side(records: Sequence[journal.Record]) -> Side:
    results = rows.assemble(records)
    packed = {
        (entry.backend, entry.precision): text
        for cell in journal.cells(records).values()
        for entry in results.accuracy
        if (text := cell.outcome.per_image)
        and (cell.backend, cell.precision, cell.artifact_sha256, cell.outcome.accuracy)
        == (entry.backend, entry.precision, entry.artifact_sha256, entry.values)
    }
    return Side(results=results, packed=packed)


def compare(before: dict[str, Side], after: dict[str, Side], gates: Gates) -> list[Change]:
    """What changed in every experiment that both have.

    Raises:
        InputError: they have none in common.
    """
    common = [name for name in before if name in after]
    if not common:
        raise InputError(f"nothing to compare: before has {', '.join(before)}, after has {', '.join(after)}")
    return [_change(before[name], after[name], gates) for name in common]


def _change(before: Side, after: Side, gates: Gates) -> Change:
    old, new = before.results, after.results
    one_machine = not _differing(old.environment, new.environment, _MACHINE)
    pairs, missing = _matched({row.key: row for row in old.rows}, {row.key: row for row in new.rows})
    compared = [pair for pair in pairs if all(row.status == "ok" for row in pair)]
    broken = [b for a, b in pairs if a.status == "ok" and b.status == "failed"]
    accuracy, uncounted = _accuracy(before, after, gates)
    return Change(
        experiment=new.experiment,
        warnings=_warnings(old, new),
        rows=[_row(a, b, (old, new), gates if one_machine else None) for a, b in compared],
        accuracy=accuracy,
        left_out=[*missing, *_not_ok(pairs, broken), *uncounted],
        broken=[f"{row.key}: {row.reason}" for row in broken],
    )


def _matched(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[tuple[Any, Any]], list[str]]:
    only = [f"{name}: only before" for name in before if name not in after]
    only += [f"{name}: only after" for name in after if name not in before]
    return [(before[name], after[name]) for name in before if name in after], only


def _not_ok(pairs: Iterable[tuple[Row, Row]], broken: Sequence[Row]) -> list[str]:
    return [
        f"{new.key}: {when} it is {row.status}: {row.reason}"
        for old, new in pairs
        for when, row in (("before", old), ("after", new))
        if row.status != "ok" and new not in broken
    ]


def _row(old: Row, new: Row, results: tuple[Results, Results], gates: Gates | None) -> RowChange:
    assert old.latency_ms_median
    assert new.latency_ms_median
    value, low, high = stats.ratio_interval(*(each.samples_us[new.key] for each in reversed(results)))
    return RowChange(
        key=new.key,
        before_ms=old.latency_ms_median.value,
        after_ms=new.latency_ms_median.value,
        slower=Interval(value=value, low=low, high=high),
        same_artifact=old.artifact_sha256 == new.artifact_sha256,
        status=_slower(low, high, gates),
    )


def _slower(low: float, high: float, gates: Gates | None) -> Status:
    """Undecided where the interval holds the limit, and between two machines."""
    if gates is None:
        return "undecided"
    most = 1 + gates.diff.slower_percent / 100
    if low > most:
        return "fail"
    return "pass" if high <= most else "undecided"


def _accuracy(before: Side, after: Side, gates: Gates) -> tuple[list[AccuracyChange], list[str]]:
    named: list[dict[str, Accuracy]] = [
        {f"accuracy of {entry.backend} {entry.precision}": entry for entry in side.results.accuracy}
        for side in (before, after)
    ]
    if before.results.data_fingerprint != after.results.data_fingerprint:
        return [], [f"{name}: counted over another data set" for name in named[1]]
    pairs, missing = _matched(*named)
    return [_counted(old, new, before, after, gates) for old, new in pairs], missing


def _counted(old: Accuracy, new: Accuracy, before: Side, after: Side, gates: Gates) -> AccuracyChange:
    which = (new.backend, new.precision)
    own, theirs = after.packed.get(which), before.packed.get(which)
    points = new.headline[1] - old.headline[1]
    return AccuracyChange(
        backend=new.backend,
        precision=new.precision,
        metric=new.headline[0].removesuffix("_percent"),
        before=old.headline[1],
        after=new.headline[1],
        points=points,
        comparison=paired.compare(after.results.task, theirs, own) if own and theirs else None,
        status="fail" if points < -gates.diff.lost_points - _ROUNDING else "pass",
    )


def _warnings(old: Results, new: Results) -> list[str]:
    said = [
        f"another machine: {name} was {_told(was)}, is {_told(now)}; times are shown, not judged"
        for name, was, now in _differing(old.environment, new.environment, _MACHINE)
    ]
    told = _differing(old.environment, new.environment, ("os", "python", "governor", "versions"))
    said += [f"{name} was {_told(was)}, is {_told(now)}" for name, was, now in told]
    for when, machine in (("before", old.environment), ("after", new.environment)):
        if machine.load_average_1m > machine.cores:
            load = f"{machine.load_average_1m:g} on {machine.cores} cores"
            said.append(f"the machine was busy {when}, load {load}: measure on a quiet one")
    if old.data_fingerprint != new.data_fingerprint:
        said.append("another data set: accuracy is not compared")
    return said


def _differing(old: Environment, new: Environment, names: Iterable[str]) -> list[tuple[str, Any, Any]]:
    """Fields that differ, with both values; of versions and the like, what differs of them."""
    both = [each.model_dump() | {"gpus": [(gpu.name, gpu.driver) for gpu in each.gpus]} for each in (old, new)]
    found = [(name, *(each[name] for each in both)) for name in names]
    return [(name, *_narrowed(was, now)) for name, was, now in found if was != now]


def _narrowed(was: Any, now: Any) -> tuple[Any, Any]:
    if not (isinstance(was, dict) and isinstance(now, dict)):
        return was, now
    return ({k: v for k, v in was.items() if now.get(k) != v}, {k: v for k, v in now.items() if was.get(k) != v})


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items()) or "without them"
    return ", ".join(" ".join(map(str, each)) for each in value) or "none" if isinstance(value, list) else str(value)


def verdict(changes: Sequence[Change], gates: Gates) -> SlipwayError | None:
    """The error that a comparison ends with: accuracy lost (exit 5), a row broke or got slower, or none is there (6)."""
    lost = [(change, entry) for change in changes for entry in change.accuracy if entry.status == "fail"]
    if lost:
        change, entry = lost[0]
        return VerificationError(
            f"{change.experiment}: {entry.metric} of {entry.backend} {entry.precision} was {entry.before:.3f} %, is "
            f"{entry.after:.3f} %: {entry.points:+.3f} points, at most {gates.diff.lost_points} may be lost"
        )
    for change in changes:
        if change.broken:
            return MeasurementError(f"{change.experiment}: was ok before, failed after: {change.broken[0]}")
        slow = next((row for row in change.rows if row.status == "fail"), None)
        if slow:
            return MeasurementError(
                f"{change.experiment}: {slow.key} takes {_ratio(slow.slower)} as long as before; at most "
                f"{1 + gates.diff.slower_percent / 100:g}× is allowed (diff.slower_percent in gates.yaml)"
            )
    if not any(change.rows or change.accuracy for change in changes):
        return MeasurementError(f"nothing to compare: {next(iter(changes[0].left_out), 'no rows')}")
    return None


def render(changes: Sequence[Change]) -> str:
    """Markdown, one section an experiment and a sentence on all; ends with a newline."""
    return "\n\n".join(["\n".join(_section(change)) for change in changes] + [_summary(changes)]) + "\n"


def _summary(changes: Sequence[Change]) -> str:
    """All in one sentence."""
    said = [row.status for change in changes for row in change.rows]
    said += [entry.status for change in changes for entry in change.accuracy]
    if "fail" in said or any(change.broken for change in changes):
        return "**Worse than before.**"
    apart = [row for change in changes for row in change.rows if not row.slower.low <= 1 <= row.slower.high]
    moved = [entry for change in changes for entry in change.accuracy if entry.points]
    if not apart and not moved:
        return "**No change**: the interval of every ratio holds 1, accuracy is the same."
    return f"**Not worse**: {len(apart)} ratios lie beside 1 and {len(moved)} accuracies moved, within what is allowed."


def _section(change: Change) -> list[str]:
    lines = [f"# {change.experiment}", ""]
    lines += [*(f"> **{warning}**" for warning in change.warnings), ""] if change.warnings else []
    if change.rows:
        header = ["row", "before, ms", "after, ms", "after / before [95 % CI]", "artifact", "verdict"]
        lines += [*table(header, [_cells(row) for row in change.rows]), ""]
    if change.accuracy:
        header = ["accuracy", "metric", "before, %", "after, %", "points [95 % CI]", "verdict"]
        lines += [*table(header, [_accuracy_cells(entry) for entry in change.accuracy]), ""]
    if any(row.status == "undecided" for row in change.rows):
        lines.append("- undecided: the interval holds the limit, or the machines differ; that is no failure.")
    lines += [f"- failed: {text}" for text in change.broken]
    return [*lines, *(f"- not compared: {text}" for text in change.left_out)]


def _cells(row: RowChange) -> list[str]:
    artifact = "same" if row.same_artifact else "another"
    return [row.key, f"{row.before_ms:.3f}", f"{row.after_ms:.3f}", _ratio(row.slower), artifact, row.status]


def _accuracy_cells(entry: AccuracyChange) -> list[str]:
    points = f"{entry.points:+.3f}"
    if entry.comparison:
        points += f" [{entry.comparison.points.low:+.3f}, {entry.comparison.points.high:+.3f}]"
        p = entry.comparison.p_value
        points += f", McNemar's p = {p:.3g}" if p is not None else ""
    values = [entry.metric, f"{entry.before:.3f}", f"{entry.after:.3f}"]
    return [f"{entry.backend} {entry.precision}", *values, points, entry.status]


def _ratio(found: Interval) -> str:
    return f"{found.value:.3f}× [{found.low:.3f}, {found.high:.3f}]"
