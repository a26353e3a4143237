"""Progress of long work, drawn on stderr."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield the items and draw a bar of `total` steps meanwhile; without a terminal, one line at the end."""
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description=what, total=total, console=Console(stderr=True))
