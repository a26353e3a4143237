"""What an experiment's results come to: a ratio, a sentence or two, and stamps for whatever is not as it should be."""

from collections import Counter
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from benchmarks import gates
from benchmarks.html import groups
from benchmarks.html.engines import engine
from benchmarks.html.markup import element, milliseconds, plural, points, within
from benchmarks.results import Accuracy, Interval, Results, Row, Status
from deploy import metrics

#: A sign besides the colour, and what is to be thought of it.
STAMPS: dict[Status, tuple[str, str]] = {
    "ok": ("✓ ok", "good"),
    "invalid": ("⚠ INVALID", "bad"),
    "failed": ("✕ FAILED", "bad"),
    "unavailable": ("∅ unavailable", "absent"),
    "pending": ("… pending", "absent"),
}


def card(results: Results) -> Element:
    """The headline of one experiment."""
    best, sentences = _best(results), _sentences(results)
    return element(
        "article",
        element("h3", results.experiment),
        _ratio(best.speedup) if best and best.speedup else None,
        element("div", *(element("p", sentence) for sentence in sentences)),
        _stamps(results),
        class_="card",
        data_experiment=results.experiment,
    )


def _ratio(ratio: Interval) -> Element:
    """The number in large type; one that is no clear difference says so and steps back."""
    doubt = bool(_doubt(ratio))
    remark = element("small", "no clear difference" if doubt else "vs strongest PyTorch")
    return element("p", f"{ratio.value:.2f}×", remark, class_="ratio doubt" if doubt else "ratio")


def stamp(status: Status, count: int | None = None) -> Element:
    """The status as a word with a sign: never by its colour alone."""
    text, kind = STAMPS[status]
    return element("span", text if count is None else f"{text}: {plural(count, 'row')}", class_=f"stamp {kind}")


def _stamps(results: Results) -> Element | None:
    counts = Counter(row.status for row in results.rows)
    made = [stamp(status, counts[status]) for status in STAMPS if counts[status] and status != "ok"]
    made += [element("span", f"✕ ACCURACY LOST: {_engine(lost)}", class_="stamp bad") for lost in _lost(results)]
    if results.parity_passed is False:
        made.append(element("span", "✕ PARITY FAILED", class_="stamp bad"))
    return element("p", *made, class_="stamps") if made else None


def _lost(results: Results) -> list[Accuracy]:
    return list(gates.lost(results.accuracy))


def _engine(entry: Accuracy) -> str:
    return f"{entry.backend} {entry.precision}"


def _holding(results: Results, rows: Sequence[Row]) -> list[Row]:
    """The rows that are ok and whose engine keeps the baseline's accuracy; all that are ok where none was counted."""
    lost = {_engine(entry) for entry in _lost(results)}
    counted = {_engine(entry) for entry in results.accuracy} - lost
    return [row for row in groups.measured(rows) if row.status == "ok" and (not counted or engine(row) in counted)]


def _fastest(results: Results, rows: Sequence[Row]) -> Row | None:
    holding = _holding(results, rows)
    return min(holding, key=lambda row: row.latency_ms_median.value if row.latency_ms_median else 0.0, default=None)


def _best(results: Results) -> Row | None:
    """The fastest row that holds accuracy in the first group that has one."""
    return next((found for rows in groups.split(results) if (found := _fastest(results, rows))), None)


def _sentences(results: Results) -> list[str]:
    best = _best(results)
    if best is None:
        return [_nothing(results)]
    return [_headline(results, best), *_end_to_end(results, best), _accuracy(results, best)]


def _nothing(results: Results) -> str:
    if not results.ran:
        pending = any(row.status == "pending" for row in results.rows)
        why = "the run was stopped before it came to one that can" if pending else "no row can"
        return f"Nothing was measured: {why} run on this machine."
    return "No verdict: no row is valid and holds its accuracy. The reasons are below the table."


def _headline(results: Results, best: Row) -> str:
    assert best.latency_ms_median
    where = f"{groups.label(best)}, {best.device}"
    took = f"{milliseconds(best.latency_ms_median.value)} ms"
    if best.strongest == best.key:
        others = len(_holding(results, [row for row in results.rows if row.group == best.group])) > 1
        rest = " Nothing that holds its accuracy is faster." if others else " No other row is there to compare it with."
        return f"{engine(best)}, itself PyTorch, takes {took} a call ({where}).{rest}"
    strongest = next((row for row in results.rows if row.key == best.strongest), None)
    if best.speedup is None or strongest is None:
        return f"{engine(best)} takes {took} a call ({where}). No valid PyTorch row is there to compare it with."
    eager = f", and {_times(best.speedup_eager)} as fast as eager PyTorch" if _other(best, strongest) else ""
    return (
        f"{engine(best)} is {_times(best.speedup)} as fast as the strongest PyTorch row, {engine(strongest)}{eager}: "
        f"{took} a call ({where}).{_doubt(best.speedup)}"
    )


def _other(best: Row, strongest: Row) -> bool:
    """Whether eager PyTorch is another row than the strongest."""
    return best.speedup_eager is not None and best.speedup_eager != best.speedup and strongest.speedup_eager is not None


def _doubt(ratio: Interval) -> str:
    return " The interval holds 1: no clear difference." if ratio.low <= 1 <= ratio.high else ""


def _times(ratio: Interval | None) -> str:
    return f"{ratio.value:.2f}× {within(ratio)}" if ratio else "–"


def _end_to_end(results: Results, best: Row) -> list[str]:
    """The same question from file to prediction, where it was measured and is not the headline."""
    found = next((rows for rows in groups.split(results) if rows[0].boundary == "e2e"), None)
    row = _fastest(results, found) if found and best.boundary != "e2e" else None
    if row is None or row.speedup is None or row.latency_ms_median is None:
        return []
    took = f"{milliseconds(row.latency_ms_median.value)} ms"
    return [f"From file to prediction: {engine(row)}, {_times(row.speedup)}, {took}.{_doubt(row.speedup)}"]


def _accuracy(results: Results, best: Row) -> str:
    entry = results.accuracy_of(best)
    if entry is None:
        return "Its accuracy was not measured."
    name, value = entry.headline
    title = metrics.titles(results.task)[name].removesuffix(" %")
    against = f"; {points(entry.difference.points)} points from eager PyTorch" if entry.difference else ""
    shown = " ".join(filter(None, (f"{title} {value:.2f} %", within(entry.interval))))
    return f"{shown} of {plural(entry.images, 'image')}{against}."
