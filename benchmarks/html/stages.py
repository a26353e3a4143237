"""Where the time of one image goes, from file to prediction."""

from collections.abc import Sequence
from typing import get_args
from xml.etree.ElementTree import Element

from benchmarks.html import axes, groups
from benchmarks.html.engines import engine
from benchmarks.html.markup import element, milliseconds, plural, tip
from benchmarks.outcome import Stage
from benchmarks.results import Results, Row

TITLE = "Stages of one image"
STAGES: tuple[str, ...] = get_args(Stage)
_SHOWN = {"h2d": "to device", "d2h": "to host"}
_TOP, _EACH, _BAR = 6, 38, 16


def render(results: Results) -> Element:
    """One bar a row that was taken apart."""
    rows = [row for row in results.rows if row.stages_ms]
    if not rows:
        return axes.words(TITLE, "No row was taken apart into its stages.", data_chart="stages")
    without = sum(row.boundary == "e2e" and row.scenario == "stream" and not row.stages_ms for row in results.rows)
    left_out = f" {plural(without, 'e2e row')} without stages left out." if without else ""
    return axes.figure(
        TITLE,
        "Median of each stage, one after the other in one thread; an e2e row may overlap them, so its own median can "
        f"differ.{left_out}",
        _draw(rows),
        _legend(rows),
        data_chart="stages",
    )


def _draw(rows: Sequence[Row]) -> Element:
    bottom = _TOP + _EACH * len(rows)
    longest = max(sum(row.stages_ms.values()) for row in rows)
    x = axes.Scale(0, longest * 1.12, 2, axes.RIGHT)
    return axes.svg(
        f"Stages of {plural(len(rows), 'row')}",
        axes.x_axis(x, "ms an image", _TOP, bottom),
        *(_bar(row, x, _TOP + n * _EACH) for n, row in enumerate(rows)),
        height=bottom + 40,
    )


def _bar(row: Row, x: axes.Scale, top: float) -> Element:
    edge, parts = 0.0, []
    for stage in _present([row]):
        width = row.stages_ms[stage]
        parts.append(_segment(row, stage, (x(edge), x(edge + width)), top + 15))
        edge += width
    name = f"{engine(row)} · {groups.label(row).removeprefix('e2e · ')}"
    total = element(
        "text", f"{milliseconds(edge)}", x=f"{x(edge) + 5:.1f}", y=f"{top + 28:g}", class_="tick", aria_hidden="true"
    )
    return element(
        "g",
        element("text", name, x=2, y=f"{top + 11:g}", class_="name"),
        *parts,
        total,
        data_precision=row.precision,
    )


def _segment(row: Row, stage: str, ends: tuple[float, float], top: float) -> Element:
    value = row.stages_ms[stage]
    share = 100 * value / sum(row.stages_ms.values())
    return element(
        "rect",
        x=f"{ends[0]:.1f}",
        y=f"{top:g}",
        width=f"{max(ends[1] - ends[0], 0.4):.1f}",
        height=_BAR,
        class_=f"stage {stage}",
        **tip(f"{engine(row)}, {_name(stage)}", f"{milliseconds(value)} ms, {share:.0f} % of the image"),
    )


def _present(rows: Sequence[Row]) -> list[str]:
    return [stage for stage in STAGES if any(stage in row.stages_ms for row in rows)]


def _name(stage: str) -> str:
    return _SHOWN.get(stage, stage)


def _legend(rows: Sequence[Row]) -> Element:
    def entry(stage: str) -> Element:
        box = element("rect", y=-6, width=14, height=12, class_=f"stage {stage}")
        return element(
            "li", element("svg", box, viewBox="0 -7 14 14", class_="swatch", aria_hidden="true"), _name(stage)
        )

    return element("ul", *map(entry, _present(rows)), class_="legend")
