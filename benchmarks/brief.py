"""Stored results as one short table, and its place in a document such as the README."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.matrix import Boundary
from benchmarks.report import number, speedup, table
from benchmarks.results import Results, Row
from train.errors import UsageError
from train.files import write_atomic

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
#: The cells of the short table: one image at a time, and a batch.
LATENCY: tuple[tuple[int, Boundary], ...] = ((1, "model"), (1, "e2e"))
THROUGHPUT: tuple[int, Boundary] = (8, "e2e")


def render(results: Sequence[Results]) -> str:
    """A line a backend and experiment, and below it the machine: Markdown, ends with a newline."""
    header = ["experiment", "backend", "top-1 %", *(f"{boundary}, ms" for _, boundary in LATENCY)]
    header += [f"{THROUGHPUT[1]}, images/s", "faster [95 % CI]", "peak MiB", "artifact"]
    lines = [_cells(result, backend) for result in results for backend in result.matrix.backends]
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
    return "\n".join([*table(header, lines), "", remark]) + "\n"


def insert(document: Path, text: str) -> None:
    """Put the table between a document's two markers.

    Raises:
        UsageError: the document lacks the markers.
    """
    content = document.read_text(encoding="utf-8")
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{document}: has no place for a table; add the lines {BEGIN} and {END}")
    write_atomic(document, f"{before}{BEGIN}\n{text}{END}{after}")


def _cells(results: Results, backend: str) -> list[str]:
    rows = {(row.batch, row.boundary): row for row in results.rows if row.backend == backend and row.status == "ok"}
    accuracy = next((entry for entry in results.accuracy if entry.backend == backend), None)
    first = rows.get(LATENCY[0])
    top1 = f"{accuracy.headline[1]:.2f} of {accuracy.images}" if accuracy else number(None, 0)
    return [
        results.experiment,
        backend,
        top1,
        *(number(_of(rows.get(cell), "latency_ms_median"), 2) for cell in LATENCY),
        number(_of(rows.get(THROUGHPUT), "throughput_ips"), 0),
        speedup(first, results.matrix.baseline) if first else number(None, 0),
        number(_of(first, "peak_rss_mib"), 0),
        f"`{first.artifact_sha256[:8]}`" if first else number(None, 0),
    ]


def _of(row: Row | None, field: str) -> float | None:
    return getattr(row, field) if row else None
