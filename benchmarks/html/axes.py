"""Scales, ticks and the frame of a chart: SVG in user units, which grows and shrinks with the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from benchmarks.html.markup import element

WIDTH = 480
LEFT, RIGHT, TOP, BOTTOM = 50, 466, 24, 264
#: Of a logarithmic axis: the first of these that gives enough ticks.
_MANTISSAS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))
_ENOUGH = 4


@dataclass(frozen=True)
class Scale:
    """From values (`low` to `high`, not equal) to user units (`start` to `end`)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        low, high = self._line(self.low), self._line(self.high)
        return self.start + (self.end - self.start) * (self._line(value) - low) / (high - low)

    def _line(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self.log else value

    def ticks(self) -> list[float]:
        """Round values inside, four to eight of them where that can be."""
        return _log_ticks(self.low, self.high) if self.log else _even_ticks(self.low, self.high)


def spread(values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.06) -> Scale:
    """A scale that holds all values with some room on both sides, also where they are all one."""
    low, high = min(values), max(values)
    if log:
        low = max(low, 1e-6)
        room = max((high / low) ** margin, 1.04)
        return Scale(low / room, high * room, start, end, log=True)
    room = (high - low) * margin or max(abs(high) * 0.05, 0.5)
    return Scale(low - room, high + room, start, end)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in _MANTISSAS:
        found = [m * 10.0**decade for decade in decades for m in mantissas if low <= m * 10.0**decade <= high]
        if len(found) >= _ENOUGH:
            return found
    return _even_ticks(low, high)


def _even_ticks(low: float, high: float) -> list[float]:
    power = 10.0 ** math.floor(math.log10(high - low))
    for step in (power, power / 2, power / 5, power / 10):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 >= _ENOUGH:
            break
    return [round(n * step, 12) for n in range(first, last + 1)]


def svg(label: str, *children: Element | None, height: float) -> Element:
    """A chart. Its marks can be focused, so it is a group with a name and not an image."""
    return element("svg", *children, viewBox=f"0 0 {WIDTH} {height:g}", role="group", aria_label=label, class_="chart")


def x_axis(scale: Scale, label: str, top: float = TOP, bottom: float = BOTTOM) -> Element:
    """Vertical grid lines, their values and what they are."""
    marks = [
        part
        for value in scale.ticks()
        for part in (
            element("path", d=f"M{scale(value):.1f} {top:g}V{bottom:g}", class_="grid"),
            element("text", f"{value:g}", x=f"{scale(value):.1f}", y=f"{bottom + 16:g}", class_="tick mid"),
        )
    ]
    name = element("text", label, x=f"{(scale.start + scale.end) / 2:g}", y=f"{bottom + 34:g}", class_="axis mid")
    base = element("path", d=f"M{scale.start:g} {bottom:g}H{scale.end:g}", class_="base")
    return element("g", *marks, base, name, aria_hidden="true")


def y_axis(scale: Scale, label: str, ticks: Sequence[float] | None = None) -> Element:
    """Horizontal grid lines, their values, and above the first line what they are."""
    marks = [
        part
        for value in (scale.ticks() if ticks is None else ticks)
        for part in (
            element("path", d=f"M{LEFT} {scale(value):.1f}H{RIGHT}", class_="grid"),
            element("text", f"{value:g}", x=LEFT - 7, y=f"{scale(value) + 4:.1f}", class_="tick end"),
        )
    ]
    name = element("text", label, x=0, y=f"{scale.end - 11:g}", class_="axis")
    return element("g", *marks, name, aria_hidden="true")


def figure(title: str, caption: str, *body: Element, **attributes: object) -> Element:
    """A chart with its title and a sentence on how to read it."""
    return element(
        "figure",
        element("figcaption", element("h3", title), element("p", caption)),
        *body,
        **attributes,
    )


def words(title: str, sentence: str, **attributes: object) -> Element:
    """What stands in the place of a chart that has nothing to show."""
    return figure(title, sentence, **{"class_": "empty", **attributes})
