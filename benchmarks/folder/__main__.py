"""`python -m benchmarks.folder EXP…` times whole folders and writes them into docs/native.md."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environment import ROOT, Environment
from benchmarks.folder import measure
from benchmarks.folder.measure import ORT_INFER, Folder, Stored
from benchmarks.report import number, sizes, table
from benchmarks.results import Interval
from train import cli, documents
from train.files import write_json

DOCUMENT = ROOT / "docs" / "native.md"
BEGIN, END = "<!-- folder: begin -->", "<!-- folder: end -->"
TITLES = {ORT_INFER: "`ort_infer`", "slipway_runtime": "`slipway_runtime`", "pytorch": "PyTorch eager"}


def render(stored: Stored) -> str:
    """The table and what it was measured on: Markdown, ends with a newline."""
    header = ["experiment", "images", "by", "images/s", "`ort_infer` is faster [95 % CI]"]
    header += ["whole ÷ graph [95 % CI]", "peak MiB"]
    rows = [_cells(folder, way) for folder in stored.folders for way in TITLES]
    machine = stored.environment
    said = ("torch", "onnxruntime", ORT_INFER)
    versions = "; ".join(f"{name} {machine.versions[name]}" for name in said if name in machine.versions)
    rounds = max(len(folder.graph_seconds) for folder in stored.folders)
    remark = (
        f"fp32 on {machine.cpu_model}, {machine.cores} cores, {machine.threads} threads; {versions}; "
        f"{machine.date_utc[:10]}. {rounds} rounds, each way once a round in random order, in a fresh process and after a "
        "pass that is not timed; images/s of the median pass. The graph: its own time on the same images, "
        "by turns with the whole in one process."
    )
    return "\n".join([*table(header, rows), "", remark]) + "\n"


def _cells(folder: Folder, way: str) -> list[str]:
    ours = way == ORT_INFER
    return [
        folder.experiment,
        f"{folder.images} of {sizes(folder.sizes)}",
        TITLES[way],
        number(folder.images_per_second(way), 1),
        "–" if ours else f"{_text(folder.faster_than(way), 2)}×",
        _text(folder.whole_to_graph(), 3) if ours else "–",
        number(folder.peak_rss_mib[way], 0),
    ]


def _text(ratio: Interval, digits: int) -> str:
    return f"{ratio.value:.{digits}f} [{ratio.low:.{digits}f}, {ratio.high:.{digits}f}]"


def place(machine: Environment) -> Path:
    """Where results of a machine lie: "amd-epyc-2-cores"."""
    words = re.findall(r"[a-z0-9]+", machine.cpu_model.lower())
    return ROOT / "benchmarks" / "results" / "-".join([*words[:2], str(machine.cores), "cores"]) / "folder.json"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.folder", description=__doc__)
    made.add_argument("experiments", nargs="+", metavar="EXP", help="a trained and exported experiment")
    made.add_argument("--work", type=Path, default=Path("work"), metavar="DIR", help="where experiments lie")
    made.add_argument("--rounds", type=_positive, default=5, metavar="N", help="fresh processes a way (default: 5)")
    made.add_argument(
        "--images", type=_positive, default=64, metavar="N", help="at most, of the validation set (default: 64)"
    )
    made.add_argument("--json", action="store_true", help="print what was measured as one JSON object on stdout")
    made.add_argument(
        "--dry", action="store_true", help="print the table on stderr, and write neither results nor docs/native.md"
    )
    return made


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, store, and write the table."""
    arguments = parser().parse_args(argv)
    stored = measure.measure(arguments.work, arguments.experiments, arguments.rounds, arguments.images)
    text, content = render(stored), stored.model_dump(mode="json")
    if arguments.dry:
        return cli.finish(content, as_json=arguments.json, lines=[text])
    results = place(stored.environment)
    write_json(results, content)
    documents.insert(DOCUMENT, text, BEGIN, END)
    return cli.finish(content, as_json=arguments.json, lines=[text, f"wrote: {results}", f"wrote: {DOCUMENT}"])


if __name__ == "__main__":
    sys.exit(cli.run(main))
