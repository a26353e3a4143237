"""Groups of rows that may be compared with one another: of one batch, shape, scenario and boundary."""

from collections.abc import Sequence

from benchmarks.results import Results, Row

#: As a reader asks: the engine alone first, one image first, the stream first.
_BOUNDARIES = ("model", "host", "e2e")


def key(row: Row) -> str:
    """What names the group in the page: "model 1 stream – ", boundary first."""
    return " ".join([row.boundary, str(row.batch), row.scenario, shape(row) or "own"])


def label(row: Row) -> str:
    """The group in words: "model · batch 8 · 224×224 · offline"."""
    words = [row.boundary, f"batch {row.batch}", shape(row), "offline" if row.scenario == "offline" else ""]
    return " · ".join(filter(None, words))


def shape(row: Row) -> str:
    """Height × width that inputs were resized to, or nothing."""
    return "{}×{}".format(*row.shape) if row.shape else ""


def split(results: Results) -> list[list[Row]]:
    """The rows by group, the one to look at first in front."""
    found: dict[str, list[Row]] = {}
    for row in results.rows:
        found.setdefault(key(row), []).append(row)
    return sorted(found.values(), key=lambda rows: _order(rows[0]))


def _order(row: Row) -> tuple[bool, bool, int, int]:
    return row.scenario == "offline", row.shape is not None, row.batch, _BOUNDARIES.index(row.boundary)


def measured(rows: Sequence[Row]) -> list[Row]:
    """Those that have a latency, also one that must not be trusted."""
    return [row for row in rows if row.latency_ms_median is not None and row.status in ("ok", "invalid")]
