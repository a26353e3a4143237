"""Elements of HTML and SVG, built as a tree, so that the standard library escapes every name and reason."""

from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from benchmarks.results import Interval

#: What an element holds: elements, text, and nothing.
Child: TypeAlias = Element | str | None
#: What stands for a value that is not there.
NONE = "–"


def element(name: str, /, *children: Child, **attributes: object) -> Element:
    """An element with its children, in order.

    Args:
        name: of the tag.
        children: elements and text; None is left out.
        attributes: `class_` is "class", `data_value` "data-value"; one that is None is left out.
    """
    kept = {key.rstrip("_").replace("_", "-"): str(value) for key, value in attributes.items() if value is not None}
    made = Element(name, kept)
    last: Element | None = None
    for child in children:
        if isinstance(child, str):
            if last is None:
                made.text = (made.text or "") + child
            else:
                last.tail = (last.tail or "") + child
        elif child is not None:
            made.append(child)
            last = child
    return made


def text(tree: Element) -> str:
    """The element as HTML."""
    return tostring(tree, encoding="unicode", method="html")


def number(value: float | None, digits: int) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def milliseconds(value: float | None) -> str:
    """Three significant digits, and a microsecond at the finest: "0.482", "8.43", "31.3", "1204"."""
    if value is None:
        return NONE
    return f"{value:.{next((3 - n for n, limit in enumerate((1, 10, 100)) if abs(value) < limit), 0)}f}"


def signed(value: float) -> str:
    """Two digits with a sign, and zero without one."""
    shown = f"{value:+.2f}"
    return "0.00" if float(shown) == 0 else shown.replace("-", "−")


def within(interval: Interval | None) -> str:
    """An interval of percents or ratios: "[89.20, 93.50]"; nothing where there is none."""
    return f"[{interval.low:.2f}, {interval.high:.2f}]" if interval else ""


def points(interval: Interval) -> str:
    """A difference in points with its interval: "−0.40 [−0.70, −0.15]"."""
    return f"{signed(interval.value)} [{signed(interval.low)}, {signed(interval.high)}]"


def tip(*lines: str) -> dict[str, str]:
    """Attributes of a mark that can be focused: its name, which the tooltip shows too."""
    return {"tabindex": "0", "role": "img", "aria_label": "\n".join(lines), "data_tip": ""}


def plural(count: int, noun: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
