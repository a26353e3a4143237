"""How a row looks in every chart: its backend chooses the colour, its precision the mark and the dashes."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from benchmarks.html.markup import element
from benchmarks.matrix import Precision
from benchmarks.results import Results, Row

COLOURS = 8
#: Marks of about the same area, around (0, 0).
MARKS: dict[Precision, str] = {
    "fp32": "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "bf16": "M-4-4h8v8h-8z",
    "fp16": "M0-5.6L5.6 0L0 5.6L-5.6 0z",
    "int8": "M0-5.4L5.4 4.2H-5.4z",
}


class Styles:
    """Colours by backend, the same in every experiment of a report."""

    def __init__(self, results: Sequence[Results]) -> None:
        names = dict.fromkeys(row.backend for result in results for row in result.rows)
        self._index = {name: index % COLOURS for index, name in enumerate(names)}

    def of(self, row: Row) -> str:
        """The classes of a row's mark or line."""
        return f"c{self._index[row.backend]} {row.precision}"

    def legend(self, rows: Sequence[Row]) -> Element | None:
        """A list of the engines of these rows."""
        engines = {engine(row): row for row in rows}
        if not engines:
            return None
        return element("ul", *(self._entry(row) for row in engines.values()), class_="legend")

    def _entry(self, row: Row) -> Element:
        swatch = element(
            "svg",
            element("path", d="M0 0H32", class_="curve"),
            element("path", d=MARKS[row.precision], transform="translate(16 0)", class_="mark"),
            viewBox="0 -7 32 14",
            class_=f"swatch {self.of(row)}",
            aria_hidden="true",
        )
        return element("li", swatch, engine(row), data_precision=row.precision)


def engine(row: Row) -> str:
    """ "onnxruntime fp32"."""
    return f"{row.backend} {row.precision}"
