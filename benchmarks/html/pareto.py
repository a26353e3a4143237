"""Accuracy against latency, both with their intervals, and the front of what nothing else beats in both."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from benchmarks.html import axes, groups, labels
from benchmarks.html.engines import MARKS, Styles, engine
from benchmarks.html.markup import element, milliseconds, plural, tip, within
from benchmarks.results import Accuracy, Interval, Results, Row
from deploy import metrics

TITLE = "Accuracy and latency"
Point = tuple[Row, Interval, Accuracy]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (latency, accuracy) points that no other beats: as fast and as accurate, and better in one."""
    return [
        index
        for index, (latency, accuracy) in enumerate(points)
        if not any(
            other <= latency and value >= accuracy and (other, value) != (latency, accuracy) for other, value in points
        )
    ]


def render(results: Results, rows: Sequence[Row], styles: Styles) -> Element:
    """The chart of one group of rows."""
    points = [
        (row, row.latency_ms_median, entry)
        for row in groups.measured(rows)
        if row.latency_ms_median and (entry := results.accuracy_of(row))
    ]
    if not points:
        return axes.words(TITLE, "No row of this group has both a latency and an accuracy.", data_chart="pareto")
    title = metrics.titles(results.task)[points[0][2].headline[0]]
    return axes.figure(
        f"{TITLE} · {groups.label(rows[0])}",
        _caption(len(groups.measured(rows)) - len(points)),
        _draw(points, title, styles),
        data_chart="pareto",
    )


def _caption(left_out: int) -> str:
    without = f" {plural(left_out, 'row')} without an accuracy left out." if left_out else ""
    return f"Better is up and left. Bars: 95 % intervals; filled and joined: nothing else beats it in both.{without}"


def _draw(points: Sequence[Point], title: str, styles: Styles) -> Element:
    ends = [end for _, _, entry in points for end in _ends(entry)]
    x = axes.spread(
        [v for _, t, _ in points for v in (t.low, t.value, t.high)], axes.LEFT, axes.RIGHT, log=True, margin=0.12
    )
    y = axes.spread(ends, axes.BOTTOM, axes.TOP, margin=0.12)
    valid = [n for n, (row, _, _) in enumerate(points) if row.status == "ok"]
    best = {valid[n] for n in front([(points[n][1].value, points[n][2].headline[1]) for n in valid])}
    at = [(x(t.value), y(entry.headline[1])) for _, t, entry in points]
    names, looks = [_short(row) for row, _, _ in points], [(styles.of(row), row.precision) for row, _, _ in points]
    tags = labels.place(names, looks, at, (axes.LEFT, axes.TOP, axes.RIGHT, axes.BOTTOM))
    return axes.svg(
        f"{title} against latency: {plural(len(points), 'mark')}, {len(best)} on the front",
        axes.x_axis(x, "median latency, ms (logarithmic)"),
        axes.y_axis(y, title),
        *([_line([at[n] for n in sorted(best, key=lambda n: at[n])])] if best else []),
        *(_bars(point, x, y, styles) for point in points),
        *(_mark(point, at[n], n in best, title, styles) for n, point in enumerate(points)),
        *tags,
        height=304,
    )


def _short(row: Row) -> str:
    return f"{engine(row)}{' INVALID' if row.status == 'invalid' else ''}"


def _ends(entry: Accuracy) -> tuple[float, ...]:
    value = entry.headline[1]
    return (entry.interval.low, value, entry.interval.high) if entry.interval else (value,)


def _line(places: Sequence[tuple[float, float]]) -> Element:
    """Steps: between two marks of the front there is the accuracy of the faster one to be had."""
    (x, y), *rest = places
    steps = "".join(f"H{right:.1f}V{up:.1f}" for right, up in rest)
    return element("path", d=f"M{x:.1f} {y:.1f}{steps}", class_="front")


def _bars(point: Point, x: axes.Scale, y: axes.Scale, styles: Styles) -> Element:
    row, t, entry = point
    low, *_, high = _ends(entry)
    d = f"M{x(t.low):.1f} {y(entry.headline[1]):.1f}H{x(t.high):.1f}M{x(t.value):.1f} {y(low):.1f}V{y(high):.1f}"
    return element("path", d=d, class_=f"bars {styles.of(row)}", data_precision=row.precision)


def _mark(point: Point, at: tuple[float, float], best: bool, title: str, styles: Styles) -> Element:
    row, t, entry = point
    lines = [
        f"{_short(row)}{' · on the front' if best else ''}",
        f"{milliseconds(t.value)} ms [{milliseconds(t.low)}, {milliseconds(t.high)}]",
        f"{title} {entry.headline[1]:.2f} {within(entry.interval)}".rstrip(),
    ]
    return element(
        "path",
        d=MARKS[row.precision],
        transform=f"translate({at[0]:.1f} {at[1]:.1f})",
        class_=f"mark {styles.of(row)} {row.status}{' best' if best else ''}",
        data_precision=row.precision,
        **tip(*lines),
    )
