"""The accuracy of every engine: all metrics of the task, what the headline differs by, and class by class."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from benchmarks.html.markup import NONE, element, number, points, within
from benchmarks.results import Accuracy, Results
from deploy import metrics


def render(results: Results) -> list[Element]:
    """A table of engines, and one of classes behind a disclosure; words where nothing was counted."""
    if not results.accuracy:
        return [element("h3", "Accuracy"), element("p", "No accuracy was measured.")]
    titles = metrics.titles(results.task)
    names = dict.fromkeys(name for entry in results.accuracy for name in entry.values if "/" not in name)
    head = ["engine", *(titles[name] for name in names), "95 % interval", "Δ points", "better / worse", "p", "images"]
    lines = [[_engine(entry), *_values(entry, list(names)), *_compared(entry)] for entry in results.accuracy]
    filled = [n for n in range(len(head)) if any(line[n] != NONE for line in lines)]
    head, lines = [head[n] for n in filled], [[line[n] for n in filled] for line in lines]
    return [element("h3", "Accuracy"), table(head, lines), *_method(results), *_by_class(results, titles)]


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Element:
    """A small table in a box of its own that scrolls; the first column names the line, the others are numbers."""
    heading = element(
        "tr", *(element("th", title, scope="col", class_=None if n else "t") for n, title in enumerate(head))
    )
    body = [
        element("tr", element("th", first, scope="row", class_="t"), *(element("td", cell) for cell in rest))
        for first, *rest in lines
    ]
    made = element("table", element("thead", heading), element("tbody", *body))
    return element("div", made, class_="scroll small", tabindex="0", role="region", aria_label=f"By {head[0]}")


def _engine(entry: Accuracy) -> str:
    return f"{entry.backend} {entry.precision}"


def _values(entry: Accuracy, names: Sequence[str]) -> list[str]:
    return [number(entry.values.get(name), 2) for name in names]


def _compared(entry: Accuracy) -> list[str]:
    d = entry.difference
    counts = f"{d.better} / {d.worse}" if d and d.better is not None and d.worse is not None else NONE
    return [
        within(entry.interval) or NONE,
        points(d.points) if d else NONE,
        counts,
        NONE if d is None or d.p_value is None else f"{d.p_value:.3g}",
        str(entry.images),
    ]


def _method(results: Results) -> list[Element]:
    found = [entry.difference for entry in results.accuracy if entry.difference]
    if not found:
        return []
    methods = "; ".join(dict.fromkeys(each.method for each in found))
    test = " p: McNemar's exact test." if any(each.p_value is not None for each in found) else ""
    words = f"Differences are from eager PyTorch in fp32, on the same images: {methods}.{test}"
    return [element("p", words, class_="note")]


def _by_class(results: Results, titles: dict[str, str]) -> list[Element]:
    split = [name.split("/", 1) for entry in results.accuracy for name in entry.values if "/" in name]
    names, classes = dict.fromkeys(name for name, _ in split), dict.fromkeys(which for _, which in split)
    if not classes:
        return []
    head = ["class", *(f"{titles[name]} {_engine(entry)}" for name in names for entry in results.accuracy)]
    lines = [
        [which, *(number(entry.values.get(f"{name}/{which}"), 2) for name in names for entry in results.accuracy)]
        for which in classes
    ]
    return [element("details", element("summary", f"By class ({len(classes)})"), table(head, lines))]
