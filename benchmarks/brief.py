"""Stored results as one short table, and its place in a document such as the README."""

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias

from benchmarks.matrix import BASELINE, Boundary, Precision
from benchmarks.report import against_strongest, median, number, sizes, table
from benchmarks.results import Results
from deploy import metrics

#: Backend and precision.
Engine: TypeAlias = tuple[str, Precision]

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
#: The latencies of the short table: one image at a time.
LATENCY: tuple[tuple[int, Boundary], ...] = ((1, "model"), (1, "e2e"))


def render(results: Sequence[Results]) -> str:
    """A table a task, a line an engine and experiment, and below them the machine: Markdown, ends with a newline.

    Of PyTorch's rows, eager fp32 and the strongest are shown.
    """
    tables = [_table(task, list(group)) for task, group in groupby(sorted(results, key=_task), key=_task)]
    machines = {
        f"{r.environment.cpu_model}, {r.environment.cores} cores, {r.environment.threads} threads; "
        f"torch {r.environment.versions.get('torch')}, onnxruntime {r.environment.versions.get('onnxruntime')}; "
        f"{r.date_utc[:10]}"
        for r in results
    }
    remark = (
        f"On {' and '.join(sorted(machines))}. ms: median of one image; images/s: `e2e` of images that are all there at once; "
        "faster: `model`, one image, against the strongest PyTorch row that keeps its accuracy, and against eager PyTorch."
    )
    return "\n".join([*(line for lines in tables for line in (*lines, "")), remark]) + "\n"


def _task(results: Results) -> str:
    return results.task


def _table(task: str, results: Sequence[Results]) -> list[str]:
    headline = next(iter(metrics.titles(task).values()))
    header = ["experiment", "engine", headline, "input", *(f"{boundary}, ms" for _, boundary in LATENCY)]
    header += ["offline, images/s", "faster [95 % CI]", "than eager", "peak MiB", "artifact"]
    return table(header, [_cells(result, engine) for result in results for engine in _shown(result)])


def _shown(results: Results) -> list[Engine]:
    """Eager PyTorch, the strongest PyTorch row of the short table, and every engine that is no PyTorch."""
    strongest = {row.strongest for row in results.rows if (row.batch, row.boundary) == LATENCY[0]}
    pytorch = {(row.backend, row.precision) for row in results.rows if row.key in strongest} | {BASELINE}
    rows = dict.fromkeys((row.backend, row.precision) for row in results.rows if row.status != "unavailable")
    return [engine for engine in rows if engine in pytorch or not engine[0].startswith(BASELINE[0])]


def _cells(results: Results, engine: Engine) -> list[str]:
    ok = [
        row for row in results.rows if (row.backend, row.precision) == engine and row.status == "ok" and not row.shape
    ]
    rows = {(row.batch, row.boundary): row for row in ok if row.scenario == "stream"}
    offline = next((row for row in ok if row.scenario == "offline"), None)
    accuracy = next((entry for entry in results.accuracy if (entry.backend, entry.precision) == engine), None)
    first = rows.get(LATENCY[0])
    headline = f"{accuracy.headline[1]:.2f} of {accuracy.images}" if accuracy else number(None, 0)
    return [
        results.experiment,
        " ".join(engine),
        headline,
        sizes(first.sizes) + " windows" * (first.unit == "window") if first else number(None, 0),
        *(number(median(row), 2) if (row := rows.get(cell)) else number(None, 0) for cell in LATENCY),
        number(offline.throughput_ips if offline else None, 0),
        against_strongest(first) if first else number(None, 0),
        (f"{first.speedup_eager.value:.2f}×" if first.speedup_eager else number(None, 0)) if first else number(None, 0),
        number(first.peak_rss_mib if first else None, 0),
        f"`{first.artifact_sha256[:8]}`" if first else number(None, 0),
    ]
