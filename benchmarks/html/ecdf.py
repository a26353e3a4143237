"""What share of calls took no longer than so many milliseconds: the whole distribution, not its median alone."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from benchmarks import stats
from benchmarks.html import axes, groups
from benchmarks.html.engines import Styles, engine
from benchmarks.html.markup import element, milliseconds, tip
from benchmarks.results import Results, Row

TITLE = "Latency distribution"
#: Of each row: enough for a line that is two pixels wide.
MOST_QUANTILES = 80


def quantiles(samples_us: stats.Repetitions) -> list[float]:
    """At most `MOST_QUANTILES` of all samples in milliseconds, rising, the smallest and the largest among them."""
    pooled = stats.pool(samples_us) / 1e3
    return [float(q) for q in np.quantile(pooled, np.linspace(0, 1, min(len(pooled), MOST_QUANTILES)))]


def render(results: Results, rows: Sequence[Row], styles: Styles, name: str) -> Element:
    """The chart of one group of rows; `name`: of the chart, which no other has."""
    curves = [
        (row, quantiles(samples))
        for row in groups.measured(rows)
        if any(samples := results.samples_us.get(row.key, []))
    ]
    if not curves:
        return axes.words(TITLE, "No row of this group has samples.", data_chart="ecdf")
    x = axes.spread([end for _, curve in curves for end in (curve[0], curve[-1])], axes.LEFT, axes.RIGHT, log=True)
    y = axes.Scale(0, 100, axes.BOTTOM, axes.TOP)
    chart = axes.svg(
        f"Distribution of the latencies of {len(curves)} rows",
        axes.x_axis(x, "latency of a call, ms (logarithmic)"),
        axes.y_axis(y, "calls, %", (0, 25, 50, 75, 90, 100)),
        *(_curve(row, curve, x, y, styles, f"{name}-{n}") for n, (row, curve) in enumerate(curves)),
        height=304,
    )
    return axes.figure(
        f"{TITLE} · {groups.label(rows[0])}",
        "Share of calls that took no longer. Left is faster; steep is steady; a long flat end is a tail.",
        chart,
        data_chart="ecdf",
    )


def _curve(row: Row, curve: Sequence[float], x: axes.Scale, y: axes.Scale, styles: Styles, name: str) -> Element:
    line = element("g", element("path", id=name, d=path(curve, x, y)), class_="curve")
    half = len(curve) // 2
    stamp = " · INVALID" if row.status == "invalid" else ""
    lines = [
        f"{engine(row)}{stamp}",
        f"median {milliseconds(curve[half])} ms",
        f"{milliseconds(curve[0])} to {milliseconds(curve[-1])} ms, {row.samples} calls",
    ]
    return element(
        "g",
        line,
        element("use", href=f"#{name}", class_="hit"),
        class_=f"line {styles.of(row)} {row.status}",
        data_precision=row.precision,
        **tip(*lines),
    )


def path(curve: Sequence[float], x: axes.Scale, y: axes.Scale) -> str:
    """Steps from the first to the last quantile, in tenths of a user unit, without a sum of rounding errors."""
    across = [round(10 * x(value)) for value in curve]
    up = [round(10 * y(100 * (n + 1) / len(curve))) for n in range(len(curve))]
    parts = [f"M{across[0] / 10:g} {y(0):g}V{up[0] / 10:g}"]
    for n in range(1, len(curve)):
        parts.append(f"h{_tenths(across[n] - across[n - 1])}v{_tenths(up[n] - up[n - 1])}")
    return "".join(parts)


def _tenths(units: int) -> str:
    """Ten times the number → as short as SVG allows: 3 → ".3", -21 → "-2.1"."""
    return f"{units / 10:g}".replace("0.", ".", 1) if abs(units) < 10 else f"{units / 10:g}"
