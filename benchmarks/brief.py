"""Stored results as one short table, and its place in a document such as the README."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.matrix import Boundary
from benchmarks.report import number, sizes, speedup, table
from benchmarks.results import Results, Row
from deploy import metrics
from train.errors import UsageError
from train.files import write_atomic

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
#: The cells of the short table: one image at a time, and a batch.
LATENCY: tuple[tuple[int, Boundary], ...] = ((1, "model"), (1, "e2e"))
THROUGHPUT: tuple[int, Boundary] = (8, "e2e")


def render(results: Sequence[Results]) -> str:
    """A table a task, a line a backend and experiment, and below them the machine: Markdown, ends with a newline."""
    tables = [_table(task, list(group)) for task, group in groupby(sorted(results, key=_task), key=_task)]
    machines = {
        f"{r.environment.cpu_model}, {r.environment.cores} cores, {r.environment.threads} threads; "
        f"torch {r.environment.versions.get('torch')}, onnxruntime {r.environment.versions.get('onnxruntime')}; "
        f"{r.environment.date_utc[:10]}"
        for r in results
    }
    remark = (
        f"fp32 on {' and '.join(sorted(machines))}. ms: median of one image; images/s: batch {THROUGHPUT[0]}; "
        "faster: `model`, one image, against PyTorch eager."
    )
    return "\n".join([*(line for lines in tables for line in (*lines, "")), remark]) + "\n"


def _task(results: Results) -> str:
    return results.task


def _table(task: str, results: Sequence[Results]) -> list[str]:
    headline = next(iter(metrics.titles(task).values()))
    header = ["experiment", "backend", headline, "input", *(f"{boundary}, ms" for _, boundary in LATENCY)]
    header += [f"{THROUGHPUT[1]}, images/s", "faster [95 % CI]", "peak MiB", "artifact"]
    lines = [_cells(result, backend) for result in results for backend in result.matrix.backends]
    if all(line[3] == number(None, 0) for line in lines):  # stored before sizes were
        header, *lines = [[*line[:3], *line[4:]] for line in (header, *lines)]
    return table(header, lines)


def insert(document: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Put the table between a document's two markers.

    Raises:
        UsageError: the document lacks the markers.
    """
    content = document.read_text(encoding="utf-8")
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UsageError(f"{document}: has no place for a table; add the lines {begin} and {end}")
    write_atomic(document, f"{before}{begin}\n{text}{end}{after}")


def _cells(results: Results, backend: str) -> list[str]:
    rows = {(row.batch, row.boundary): row for row in results.rows if row.backend == backend and row.status == "ok"}
    accuracy = next((entry for entry in results.accuracy if entry.backend == backend), None)
    first = rows.get(LATENCY[0])
    headline = f"{accuracy.headline[1]:.2f} of {accuracy.images}" if accuracy else number(None, 0)
    return [
        results.experiment,
        backend,
        headline,
        sizes(first.sizes) + " windows" * (first.unit == "window") if first and first.sizes else number(None, 0),
        *(number(_of(rows.get(cell), "latency_ms_median"), 2) for cell in LATENCY),
        number(_of(rows.get(THROUGHPUT), "throughput_ips"), 0),
        speedup(first, results.matrix.baseline) if first else number(None, 0),
        number(_of(first, "peak_rss_mib"), 0),
        f"`{first.artifact_sha256[:8]}`" if first else number(None, 0),
    ]


def _of(row: Row | None, field: str) -> float | None:
    return getattr(row, field) if row else None
