"""What explains the numbers: the machine, the matrix, the artifacts, the method in words, and the reasons."""

from collections import Counter
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from benchmarks.environment import Environment, Gpu
from benchmarks.html import accuracy, groups
from benchmarks.html.engines import engine
from benchmarks.html.markup import element, plural
from benchmarks.report import sizes
from benchmarks.results import Results
from benchmarks.stats import min_samples

_PARITY = {True: "passed", False: "✕ FAILED", None: "not checked (no parity.json)"}


def render(results: Results) -> Element:
    """Accuracy of every engine, then environment, matrix and artifacts behind a disclosure."""
    blocks = {
        "Environment": _environment(results.environment, results.device),
        "Matrix": _matrix(results),
        "Artifacts": _artifacts(results),
        "Inputs, height×width": _inputs(results),
    }
    return element(
        "div",
        *accuracy.render(results),
        element(
            "details",
            element("summary", "Environment, matrix and artifacts"),
            element("div", *(_block(title, entries) for title, entries in blocks.items() if entries), class_="blocks"),
        ),
        class_="details",
    )


def _block(title: str, entries: Mapping[str, str]) -> Element:
    return element("section", element("h4", title), definitions(entries))


def definitions(entries: Mapping[str, str]) -> Element:
    """Names and what they are."""
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in entries.items())
    return element("dl", *pairs)


def _environment(e: Environment, device: str) -> dict[str, str]:
    commit = f"{e.git_commit[:12]}{' with changes' if e.git_dirty else ''}" if e.git_commit else "unknown"
    clocks = f", at most {' to '.join(f'{mhz:g}' for mhz in e.cpu_max_mhz)} MHz" if e.cpu_max_mhz else ""
    return {
        "device": device,
        "CPU": f"{e.cpu_model}, {plural(e.cores, 'core')}, {plural(e.threads, 'thread')}{clocks}",
        "CPU features": " ".join(e.cpu_flags) or "unknown",
        "memory": f"{e.memory_gib} GiB",
        **{f"GPU {number}": _gpu(gpu) for number, gpu in enumerate(e.gpus)},
        "energy": e.energy_source or f"not counted: {e.energy_reason or 'unknown'}",
        "governor": e.governor or "unknown",
        "load before": f"{e.load_average_1m}",
        "system": f"{e.os}{', in a container' if e.container else ''}",
        "Python": e.python,
        "versions": ", ".join(f"{name} {version}" for name, version in e.versions.items()),
        "commit": commit,
        "captured": e.date_utc,
    }


def _gpu(gpu: Gpu) -> str:
    told = {
        "compute capability": gpu.compute_capability,
        "MiB": gpu.memory_mib,
        "W at most": gpu.power_limit_w,
        "MHz": gpu.sm_clock_mhz,
        "MHz at most": gpu.max_sm_clock_mhz,
        "MHz set": gpu.application_clock_mhz,
        "ECC": None if gpu.ecc is None else _words(gpu.ecc),
        "persistence": None if gpu.persistence is None else _words(gpu.persistence),
        "held back by": ", ".join(gpu.throttle_reasons) or None,
    }
    return ", ".join([gpu.name, f"driver {gpu.driver}", *(f"{name} {value}" for name, value in told.items() if value)])


def _matrix(results: Results) -> dict[str, str]:
    """Every key as it was asked for."""
    asked = results.matrix.model_dump(mode="json")
    timer = asked.pop("timer")
    flat = {**asked, **{f"timer.{key}": value for key, value in timer.items()}}
    return {key: _words(value) for key, value in flat.items()}


def _words(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _inputs(results: Results) -> dict[str, str]:
    """The different heights and widths that were fed, each with its boundaries and batches."""
    where: dict[str, dict[str, None]] = {}
    for row in results.rows:
        if row.sizes:
            where.setdefault(sizes(row.sizes), {})[groups.label(row)] = None
    found = {text: ", ".join(labels) for text, labels in where.items()}
    if any(row.unit == "window" for row in results.rows):
        found["windows"] = "An image goes through the graph in parts: model and host time those, e2e whole images."
    return found


def _artifacts(results: Results) -> dict[str, str]:
    engines = {engine(row): row.artifact_sha256 or "none" for row in results.rows}
    engines |= {engine(row): f"{row.artifact_sha256} ({row.built})" for row in results.rows if row.built}
    return {
        "bundle": results.bundle_sha256,
        **engines,
        "data": results.data_fingerprint,
        "parity with PyTorch": _PARITY[results.parity_passed],
        "measured": results.date_utc,
    }


def reasons(results: Sequence[Results]) -> dict[str, int]:
    """The number of each different reason, from 1."""
    found = dict.fromkeys(row.reason for result in results for row in result.rows if row.reason is not None)
    return {reason: number for number, reason in enumerate(found, start=1)}


def notes(results: Sequence[Results], numbers: Mapping[str, int]) -> Element | None:
    """The reasons by their numbers, each with the engines that it holds for."""
    if not numbers:
        return None
    where: dict[str, Counter[str]] = {reason: Counter() for reason in numbers}
    for result in results:
        for row in result.rows:
            if row.reason is not None:
                where[row.reason][f"{row.experiment}: {engine(row)}" if len(results) > 1 else engine(row)] += 1
    entries = (
        element("li", reason, element("br"), element("small", _rows(where[reason])), id=f"reason-{number}")
        for reason, number in numbers.items()
    )
    return element("section", element("h3", "Reasons"), element("ol", *entries), class_="reasons")


def _rows(counts: Counter[str]) -> str:
    return "; ".join(f"{name}, {plural(count, 'row')}" for name, count in counts.items())


def method(results: Sequence[Results]) -> Element:
    """How the numbers came about, in words."""
    needs = ", ".join(f"p{round(100 * p)} {min_samples(p)}" for p in (0.90, 0.95, 0.99))
    entries = {
        "boundaries": "model: tensor on the device → outputs on the device. host: tensor in host memory → outputs in host "
        "memory. e2e: encoded image → final prediction. The same for every row, PyTorch's too.",
        "scenarios": "stream: one call after another, each timed. offline: all images are there at once; a latency is of a "
        "pass over them.",
        "processes": "Each cell runs in a fresh process, cells of all backends in random order, as often as the matrix "
        "repeats them. A warm-up that never settles makes a row INVALID: it is shown, and never compared.",
        "intervals": "95 %, by a hierarchical bootstrap: processes are drawn with replacement, then calls within each, so "
        "that what differs between processes counts; widened as Student's t asks, for a few processes tell little of the "
        f"spread between them.{_single(results)}",
        "ratios": "Of medians. Against the strongest PyTorch row of the same batch, shape, scenario and boundary that holds "
        "its accuracy, then against eager PyTorch in fp32.",
        "percentiles": "A latency that so many of all calls stay within, with confidence 0.99, as MLPerf's LoadGen reports "
        f"it; left out where there are fewer calls than that takes ({needs}).",
        "throughput": "Images through the timed loops by the time they took, not one over the median.",
        "accuracy": "Counted over the whole validation set with the artifact whose hash stands in the row; its interval by "
        "bootstrap over images.",
    }
    return element("section", element("h2", "Method"), definitions(entries), id="method")


def _single(results: Sequence[Results]) -> str:
    alone = [result.experiment for result in results if result.matrix.repetitions == 1]
    if not alone:
        return ""
    return f" One process a cell in {', '.join(alone)}: there the intervals are of its calls alone, and too narrow."
