"""All rows of all experiments in one table that can be sorted and filtered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from benchmarks.html import groups, verdict
from benchmarks.html.engines import engine
from benchmarks.html.markup import NONE, element, milliseconds, number, points, within
from benchmarks.matrix import BASELINE
from benchmarks.results import Interval, Results, Row
from deploy import metrics

#: What rows can be filtered by: the attribute's name, and the value of a row.
FILTERS: dict[str, Callable[[Row], str]] = {
    "experiment": lambda row: row.experiment,
    "boundary": lambda row: row.boundary,
    "batch": lambda row: str(row.batch),
    "shape": groups.shape,
    "scenario": lambda row: row.scenario,
    "precision": lambda row: row.precision,
    "status": lambda row: row.status,
}


@dataclass(frozen=True)
class Cell:
    """What a cell shows; what it is sorted by (None: behind all others); a smaller remark behind it."""

    shown: str | Element
    value: float | str | None = None
    remark: str | None = None


Make = Callable[[Results, Row], Cell]


@dataclass(frozen=True)
class Column:
    """A title, what the title means, and how a row's cell is made. One that no row fills is left out."""

    title: str
    meaning: str
    make: Make
    text: bool = False


def render(results: Sequence[Results], reasons: dict[str, int]) -> Element:
    """The table; `reasons`: the number of each reason's note below it."""
    rows = [(result, row) for result in results for row in result.rows]
    columns = [column for column in _columns(reasons) if _filled(column, rows)]
    head = element("thead", element("tr", *(_heading(column, n) for n, column in enumerate(columns))))
    body = element("tbody", *(_line(columns, result, row) for result, row in rows))
    caption = element("caption", "All rows. A latency is of one call, which handles a batch.", class_="hidden")
    table = element("table", caption, head, body, id="rows")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="All rows, scrolls sideways")


def _filled(column: Column, rows: Sequence[tuple[Results, Row]]) -> bool:
    values = {column.make(result, row).value for result, row in rows}
    return values - {None} != set() and (column.title != "experiment" or len(values) > 1)


def _heading(column: Column, index: int) -> Element:
    button = element("button", column.title, type="button", title=column.meaning)
    return element("th", button, scope="col", class_="t" if column.text else None, data_column=index)


def _line(columns: Sequence[Column], results: Results, row: Row) -> Element:
    filters = {f"data_{name}": of(row) for name, of in FILTERS.items()}
    return element("tr", *(_cell(column, column.make(results, row), n) for n, column in enumerate(columns)), **filters)


def _cell(column: Column, cell: Cell, index: int) -> Element:
    remark = element("small", f" {cell.remark}") if cell.remark else None
    value = cell.value if cell.value is None or isinstance(cell.value, str) else f"{cell.value:.6g}"
    # What a cell shows is what it is sorted by, as a rule; then saying it once is enough.
    own = None if value == cell.shown else value
    name, scope = ("th", "row") if index == 0 else ("td", None)
    missing = "" if cell.value is None else None
    kind = "t" if column.text else None
    return element(name, cell.shown, remark, scope=scope, class_=kind, data_v=own if missing is None else missing)


def _columns(reasons: dict[str, int]) -> list[Column]:
    return [
        Column("backend", "what ran the model, in which precision", lambda _, row: _backend(row), text=True),
        Column("status", "and the number of its reason below", lambda _, row: _status(row, reasons), text=True),
        Column("experiment", "whose bundle was measured", lambda _, row: _text(row.experiment), text=True),
        Column("batch", "images a call", lambda _, row: Cell(str(row.batch), row.batch)),
        Column("shape", "height × width inputs were resized to", lambda _, row: _text(groups.shape(row)), text=True),
        Column("scenario", "a stream of calls, or all images at once", lambda _, row: _text(row.scenario), text=True),
        Column("boundary", "where the clock starts and stops", lambda _, row: _text(row.boundary), text=True),
        Column("median ms", "of one call, with its 95 % interval", lambda _, row: _latency(row)),
        *(Column(p, f"{p} latency in ms", _percentile(f"latency_ms_{p}")) for p in ("p90", "p95", "p99")),
        Column("images/s", "measured over the timed loops", lambda _, row: _number(row.throughput_ips, 1)),
        Column("vs strongest", "ratio to the strongest PyTorch row, 95 % interval", lambda _, row: _strongest(row)),
        Column("vs eager", "ratio to eager PyTorch in fp32, 95 % interval", lambda _, row: _eager(row)),
        Column("accuracy", "the task's headline metric, 95 % interval", _accuracy),
        Column("Δ points", "from eager PyTorch, image by image, 95 % interval", _difference),
        Column("J/image", "energy that the platform counts", lambda _, row: _energy(row)),
        Column("peak MiB", "resident memory of the process", lambda _, row: _number(row.peak_rss_mib, 0)),
        Column("GPU MiB", "peak memory of the device", lambda _, row: _number(row.peak_device_mib, 0)),
        Column("samples", "timed calls, over all repetitions", lambda _, row: _samples(row)),
        Column("artifact", "SHA-256 of what was measured", lambda _, row: _artifact(row), text=True),
    ]


def _text(value: str) -> Cell:
    return Cell(value or NONE, value or None)


def _backend(row: Row) -> Cell:
    return Cell(row.backend, engine(row), row.precision)


def _number(value: float | None, digits: int) -> Cell:
    return Cell(number(value, digits), value)


def _percentile(field: str) -> Make:
    def make(_: Results, row: Row) -> Cell:
        value: float | None = getattr(row, field)
        return Cell(milliseconds(value), value)

    return make


def _latency(row: Row) -> Cell:
    if row.latency_ms_median is None:
        return Cell(NONE)
    median = row.latency_ms_median
    return Cell(milliseconds(median.value), median.value, f"[{milliseconds(median.low)}, {milliseconds(median.high)}]")


def _times(ratio: Interval) -> Cell:
    return Cell(f"{ratio.value:.2f}×", ratio.value, within(ratio))


def _strongest(row: Row) -> Cell:
    if row.status == "ok" and row.strongest == row.key:
        return Cell("strongest", 1.0)
    return _times(row.speedup) if row.speedup else Cell(NONE)


def _eager(row: Row) -> Cell:
    if row.status == "ok" and (row.backend, row.precision) == BASELINE:
        return Cell("eager", 1.0)
    return _times(row.speedup_eager) if row.speedup_eager else Cell(NONE)


def _accuracy(results: Results, row: Row) -> Cell:
    entry = results.accuracy_of(row) if row.status in ("ok", "invalid") else None
    if entry is None:
        return Cell(NONE)
    name, value = entry.headline
    return Cell(f"{value:.2f}", value, f"{metrics.titles(results.task)[name]} {within(entry.interval)}".rstrip())


def _difference(results: Results, row: Row) -> Cell:
    entry = results.accuracy_of(row) if row.status in ("ok", "invalid") else None
    if entry is None or entry.difference is None:
        return Cell(NONE)
    shown, remark = points(entry.difference.points).split(" ", 1)
    return Cell(shown, entry.difference.points.value, remark)


def _energy(row: Row) -> Cell:
    return Cell(number(row.energy_j_per_image, 3), row.energy_j_per_image, row.energy_source)


def _samples(row: Row) -> Cell:
    return Cell(str(row.samples), row.samples, f"of {row.repetitions}") if row.samples else Cell(NONE)


def _artifact(row: Row) -> Cell:
    if not row.artifact_sha256:
        return Cell(NONE)
    return Cell(element("code", row.artifact_sha256[:8]), row.artifact_sha256[:8])


def _status(row: Row, reasons: dict[str, int]) -> Cell:
    made = verdict.stamp(row.status)
    if row.reason is None:
        return Cell(made, row.status)
    note = reasons[row.reason]
    link = element(
        "a", made, f" {note}", href=f"#reason-{note}", data_tip=f"{engine(row)}, {groups.label(row)}\n{row.reason}"
    )
    return Cell(link, row.status)
