"""Results as Markdown."""

from collections.abc import Sequence

from benchmarks.environment import Environment
from benchmarks.gates import accuracy_deltas
from benchmarks.inputs import Size
from benchmarks.matrix import BASELINE
from benchmarks.results import Accuracy, Interval, Results, Row
from benchmarks.stats import min_samples
from deploy import metrics

FILE_NAME = "report.md"
NONE = "–"
_HEADER = ["backend", "precision", "batch", "shape", "boundary", "median ms", "p90", "p95", "p99", "images/s"]
_HEADER += ["vs strongest PyTorch [95 % CI]", "vs eager [95 % CI]", "vs its fp32 [95 % CI]", "J/image"]
_OPTIONAL = ("shape", "vs its fp32 [95 % CI]", "J/image")


def render(results: Sequence[Results]) -> str:
    """One section an experiment; ends with a newline."""
    return "\n".join(line for result in results for line in (*_section(result), "")).rstrip("\n") + "\n"


def _section(results: Results) -> list[str]:
    names = [name for name in _metric_names(results) if "/" not in name]
    lines = [_cells(row, results, names) for row in results.rows]
    header = [*_HEADER, *(metrics.titles(results.task)[name] for name in names), "peak MiB", "artifact", "status"]
    return [
        f"# {results.experiment}",
        "",
        _environment(results.environment, results.device),
        "",
        *table(*_without_empty(header, lines)),
        "",
        *_reasons(results.rows),
        *_remarks(results),
        *_by_class(results),
    ]


def _metric_names(results: Results) -> list[str]:
    return list(dict.fromkeys(name for entry in results.accuracy for name in entry.values))


def _cells(row: Row, results: Results, names: Sequence[str]) -> list[str]:
    measured = row.status in ("ok", "invalid")
    accuracy = results.accuracy_of(row)
    values = accuracy.values if accuracy is not None and measured else {}
    tails = (row.latency_ms_p90, row.latency_ms_p95, row.latency_ms_p99)
    return [
        row.backend,
        row.precision,
        str(row.batch),
        "×".join(map(str, row.shape)) if row.shape else NONE,
        row.boundary + (" offline" if row.scenario == "offline" else ""),
        number(median(row), 3),
        *(number(value, 3) for value in tails),
        number(row.throughput_ips, 1),
        against_strongest(row),
        ratio(row.speedup_eager),
        ratio(row.speedup_fp32),
        number(row.energy_j_per_image, 3),
        *(number(values.get(name), 2) for name in names),
        number(row.peak_rss_mib, 0),
        row.artifact_sha256[:8] or NONE,
        _status(row),
    ]


def _without_empty(header: Sequence[str], lines: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Without the columns of `_OPTIONAL` in which nothing stands."""
    keep = [i for i, name in enumerate(header) if name not in _OPTIONAL or any(line[i] != NONE for line in lines)]
    return [header[i] for i in keep], [[line[i] for i in keep] for line in lines]


def median(row: Row) -> float | None:
    """The median latency in milliseconds."""
    return row.latency_ms_median.value if row.latency_ms_median else None


def against_strongest(row: Row) -> str:
    """The ratio to the strongest PyTorch row, or what stands in its place."""
    return "strongest" if row.key == row.strongest else ratio(row.speedup)


def ratio(interval: Interval | None) -> str:
    """A ratio with its interval."""
    return f"{interval.value:.2f}× [{interval.low:.2f}, {interval.high:.2f}]" if interval else NONE


def _status(row: Row) -> str:
    return "**INVALID**" if row.status == "invalid" else row.status


def number(value: float | None, digits: int) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _environment(environment: Environment, device: str) -> str:
    e = environment
    gpus = "".join(f"; {gpu.name}, driver {gpu.driver}" for gpu in e.gpus)
    versions = ", ".join(f"{name} {version}" for name, version in e.versions.items())
    commit = f"{e.git_commit[:12]}{' + changes' if e.git_dirty else ''}" if e.git_commit else "unknown"
    return (
        f"{device} on {e.cpu_model}, {e.threads} threads on {e.cores} cores, {e.memory_gib} GiB{gpus}; "
        f"governor {e.governor or 'unknown'}, load {e.load_average_1m}; "
        f"{e.os}{', in a container' if e.container else ''}; Python {e.python}, {versions}; "
        f"commit {commit}; {e.date_utc}"
    )


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Why rows are not ok: one line a reason, with the rows it holds for."""
    keys: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason is not None:
            keys.setdefault((_status(row), " ".join(row.reason.split())), []).append(row.key)
    return [f"- {status}: {reason} ({', '.join(where)})" for (status, reason), where in keys.items()]


def _remarks(results: Results) -> list[str]:
    matrix = results.matrix
    needs = ", ".join(f"p{round(100 * p)} {min_samples(p)}" for p in (0.9, 0.95, 0.99))
    single = " One process: the interval leaves out what differs between processes." if matrix.repetitions == 1 else ""
    offline = " `offline`: of a pass over images that are all there at once." if "offline" in matrix.scenarios else ""
    return [
        f"- Latency is of one call with `batch` images; processes a cell: {matrix.repetitions}, each boundary timed "
        f"{matrix.timer.seconds:g} s. A percentile with fewer samples than it needs ({needs}: MLPerf early stopping, "
        f"confidence 0.99) is {NONE}.{single}{offline}",
        "- `vs strongest PyTorch`: against the fastest PyTorch row at the same batch and boundary that keeps its accuracy; "
        "`vs eager`: against PyTorch as it comes, in fp32; `vs its fp32`: against the same backend in fp32.",
        *_input_remarks(results.rows),
        *_accuracy_remarks(results),
        *_built(results.rows),
        f"- Parity of the bundle: {_parity(results.parity_passed)}.",
    ]


def _built(rows: Sequence[Row]) -> list[str]:
    """How engines that are built ahead were built: a line each."""
    found = {f"{row.backend} {row.precision}": row.built for row in rows if row.built}
    return [f"- {name}: {text}." for name, text in found.items()]


def _input_remarks(rows: Sequence[Row]) -> list[str]:
    where: dict[str, list[str]] = {}
    for row in rows:
        if row.sizes:
            where.setdefault(sizes(row.sizes), []).append(f"b{row.batch} {row.boundary}")
    lines = [f"- Inputs of {text} pixels ({', '.join(dict.fromkeys(cells))})." for text, cells in where.items()]
    if any(row.unit == "window" for row in rows):
        lines.append(
            "- An image goes through the graph in windows: `model` and `host` time windows, `e2e` whole images."
        )
    return lines


def sizes(different: Sequence[Size]) -> str:
    """Heights×widths, smallest first, in short."""
    first, last = (f"{height}×{width}" for height, width in (different[0], different[-1]))
    return first if len(different) == 1 else f"{first} to {last} ({len(different)} sizes)"


def _accuracy_remarks(results: Results) -> list[str]:
    deltas = accuracy_deltas(results)
    if not deltas:
        return [f"- No accuracy difference: it takes the {' '.join(BASELINE)} row and another one."]
    name = metrics.titles(results.task)[deltas[0][0].headline[0]].removesuffix(" %")
    return [
        f"- Δ {name} of {entry.backend} {entry.precision} against {base.backend} {base.precision}: {delta:+.3f} percentage "
        f"points over {entry.images} images{_difference(entry)}."
        for entry, base, delta in deltas
    ]


def _difference(entry: Accuracy) -> str:
    """The interval of a difference, and what images say of it."""
    if entry.difference is None:
        return ""
    found = entry.difference
    test = f", McNemar's exact p = {found.p_value:.3g}" if found.p_value is not None else ""
    counts = f"; {found.better} images better, {found.worse} worse{test}" if found.better is not None else ""
    return f" [{found.points.low:+.3f}, {found.points.high:+.3f}] ({found.method}{counts})"


def _parity(passed: bool | None) -> str:
    return {True: "passed", False: "**FAILED**", None: "not checked (no parity.json)"}[passed]


def _by_class(results: Results) -> list[str]:
    """A table of what was counted by class, a column a metric and backend; nothing where a task has no such metric."""
    split = [name.split("/", 1) for name in _metric_names(results) if "/" in name]
    names, classes = dict.fromkeys(name for name, _ in split), dict.fromkeys(which for _, which in split)
    if not classes:
        return []
    titles = metrics.titles(results.task)
    header = [f"{titles[name]} {entry.backend} {entry.precision}" for name in names for entry in results.accuracy]
    lines = [
        [which, *(number(entry.values.get(f"{name}/{which}"), 2) for name in names for entry in results.accuracy)]
        for which in classes
    ]
    return ["", *table(["class", *header], lines)]
