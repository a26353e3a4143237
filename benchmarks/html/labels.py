"""Names beside the marks of a chart, where they cover neither another name nor a mark."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from benchmarks.html.markup import element

#: Classes of a mark, and its precision, which filters ask for.
Look = tuple[str, str]
#: Left, top, right, bottom in user units.
Box = tuple[float, float, float, float]
_LETTER, _LINE, _MARK = 5.9, 12.0, 6.0
#: Where to try, nearest first. Never beside a mark: marks of one accuracy stand side by side themselves.
_ABOVE_AND_BELOW = [sign * step for step in (14, 28, 42, 56, 70, 84) for sign in (-1, 1)]


def place(names: Sequence[str], looks: Sequence[Look], at: Sequence[tuple[float, float]], inside: Box) -> list[Element]:
    """A text for each name, joined to its mark by a thin line where it had to move away; none where there is no room."""
    taken = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in at]
    made: list[Element] = []
    for name, look, (x, y) in zip(names, looks, at, strict=True):
        width = _LETTER * len(name)
        spots = [(x - width * share, y + down) for down in _ABOVE_AND_BELOW for share in (0.5, 0.1, 0.9)]
        for left, middle in spots:
            box = (left, middle - _LINE / 2, left + width, middle + _LINE / 2)
            if _holds(inside, box) and not any(_meet(box, other) for other in taken):
                taken.append(box)
                made += _text(name, look, box, (x, y))
                break
    return made


def _text(name: str, look: Look, box: Box, mark: tuple[float, float]) -> list[Element]:
    left, top, right, bottom = box
    x, y = mark
    text = element(
        "text", name, x=f"{left:.1f}", y=f"{bottom - 2.5:.1f}", class_=f"name tag {look[0]}", data_precision=look[1]
    )
    if abs((top + bottom) / 2 - y) < 16:
        return [text]
    end = bottom if bottom < y else top
    join = element(
        "path",
        d=f"M{x:.1f} {y:.1f}L{min(max(x, left), right):.1f} {end:.1f}",
        class_="tag join",
        data_precision=look[1],
    )
    return [join, text]


def _holds(outer: Box, inner: Box) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
