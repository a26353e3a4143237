"""Documents of which a part is made from results."""

from pathlib import Path

from train.errors import UsageError
from train.files import write_atomic


def insert(document: Path, text: str, begin: str, end: str) -> None:
    """Put a text between a document's two markers.

    Raises:
        UsageError: the document lacks the markers.
    """
    content = document.read_text(encoding="utf-8")
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UsageError(f"{document}: has no place for a table; add the lines {begin} and {end}")
    write_atomic(document, f"{before}{begin}\n{text}{end}{after}")


def between(document: Path, begin: str, end: str) -> str:
    """What `insert` put there."""
    return document.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0].removeprefix("\n")
