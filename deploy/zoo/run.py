"""Runs the cells of the list: each in a process of its own, several at once, those that are not done yet."""

import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deploy.zoo import LIST, SHAPES, Line, Shape
from train import child
from train.cli import say
from train.files import sha256, sha256_json, write_json
from train.machine import versions

ROOT = Path(__file__).parents[2]
FOLDER = "zoo"
TIMEOUT_S = 1200.0
#: Who exports: we do, or MMDeploy as it is.
EXPORTERS = {"slipway": "deploy.zoo.cell", "mmdeploy": "deploy.zoo.mmdeploy"}
#: Whose versions decide a result.
PACKAGES = ("torch", "torchvision", "mmcv-lite", "mmengine", "mmdeploy", "onnx", "onnxruntime", "onnxslim", "numpy")
WHEELS = {"mmpretrain": "mmpretrain", "mmdet": "mmdet", "mmseg": "mmsegmentation"}


@dataclass(frozen=True)
class Cell:
    """One model, exported with one shape policy by one exporter."""

    line: Line
    shape: Shape
    exporter: str = "slipway"

    def __str__(self) -> str:
        return f"{self.line} {self.shape}" + (f" by {self.exporter}" if self.exporter != "slipway" else "")

    @property
    def name(self) -> str:
        """Of its file."""
        model = re.sub(r"[^a-z0-9]+", "-", self.line.model.lower().replace("+", "plus"))
        return f"{self.line.package}-{model}-{self.shape}-{self.exporter}.json"

    @property
    def key(self) -> str:
        """The hash of all that the result depends on."""
        package = WHEELS[self.line.package]
        return sha256_json(
            {
                # What is expected, and what is said of it, changes nothing.
                "line": self.line.model_dump(mode="json", exclude={"static", "dynamic", "note"}),
                "shape": self.shape,
                "source": _source(self.line.package, self.exporter),
                "versions": versions({*PACKAGES, package}),
            }
        )


@cache
def _source(package: str, exporter: str) -> str:
    """The hash of our code that a cell runs: other packages' rewrites, and what reports on results, do not count."""
    deploy, train = ROOT / "deploy", ROOT / "train"
    zoo = ("__init__", "seeding", "models", "heads", "compare", "cell")
    files = {
        *deploy.glob("*.py"),
        *(deploy / "tasks").glob("*.py"),
        *(deploy / "rewrites").glob("*.py"),
        *(deploy / "rewrites" / package).glob("*.py"),
        *(deploy / "zoo" / f"{name}.py" for name in zoo),
        *(ROOT / "configs" / "deploy").glob("*.py"),
        *(train / f"{name}.py" for name in ("config", "runner", "checkpoint")),
        *(train / "compat").rglob("*.py"),
    } - {deploy / "__main__.py"}
    if exporter == "mmdeploy":
        files = {file for file in files if file.parent.parent.name != "rewrites" and file.parent.name != "rewrites"}
        files |= {*(deploy / "zoo").glob("mmdeploy*.py"), ROOT / "configs" / "zoo-mmdeploy.yaml"}
    return sha256_json({str(file.relative_to(ROOT)): sha256(file) for file in sorted(files)})


class Store:
    """What was found before, a file a cell in a folder.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """A cell's result, if there is one of what the cell is now; a process that ended badly gave none."""
        try:
            found = json.loads((self.folder / cell.name).read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict) or found.get("key") != cell.key:
            return None
        result: dict[str, Any] = found["result"]
        return None if result.get("status") == "failed" else result

    def write(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Keep it, whole or not at all."""
        write_json(self.folder / cell.name, {"key": cell.key, "cell": str(cell), "result": result})


def cells(lines: Sequence[Line], exporters: Sequence[str] = ("slipway",)) -> list[Cell]:
    """Every cell of some lines, in their order."""
    return [Cell(line, shape, exporter) for line in lines for shape in SHAPES for exporter in exporters]


def run(
    wanted: Sequence[Cell],
    store: Store,
    *,
    jobs: int,
    force: bool = False,
    timeout_s: float = TIMEOUT_S,
    listed: Path = LIST,
) -> dict[Cell, dict[str, Any]]:
    """The results of some cells; those that are not stored yet are run, `jobs` at once, and stored as they come.

    Ctrl-C ends every process; what was stored stays.
    """
    found = {} if force else {cell: result for cell in wanted if (result := store.read(cell)) is not None}
    missing = [cell for cell in wanted if cell not in found]
    if found:
        say(f"{len(found)} of {len(wanted)} are done already (FORCE=1 runs them again)")
    children = child.Children()
    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        futures: dict[Future[dict[str, Any]], Cell] = {
            pool.submit(_run, cell, timeout_s, listed, children): cell for cell in missing
        }
        for number, future in enumerate(as_completed(futures), start=1):
            cell, result = futures[future], future.result()
            found[cell] = result
            store.write(cell, result)
            say(f"[{number}/{len(missing)}] {cell} {_told(cell, result)} {result['total_seconds']:.0f} s")
    finally:
        children.end()
        pool.shutdown(cancel_futures=True)
    return {cell: found[cell] for cell in wanted}


def _run(cell: Cell, timeout_s: float, listed: Path, children: child.Children) -> dict[str, Any]:
    """A cell in a fresh process; an error, a crash or a timeout of it is a result too."""
    started = time.monotonic()
    command = [sys.executable, "-m", EXPORTERS[cell.exporter], cell.line.model, cell.shape, "--list", str(listed)]
    with tempfile.TemporaryFile("w+") as out:
        ended = child.run(command, timeout_s, env={"OMP_NUM_THREADS": "1"}, out=out, children=children)
        out.seek(0)
        reason = ended.reason(f"{timeout_s:g} s")
        if reason is None:
            result: dict[str, Any] = json.loads(out.read().splitlines()[-1])
            return result
    if ended.code == -signal.SIGKILL and not ended.expired:
        reason = f"{reason}; a machine out of memory does that: run fewer at once (JOBS=)"
    return {"status": "failed", "reason": reason, "total_seconds": round(time.monotonic() - started, 1)}


def _told(cell: Cell, result: Mapping[str, Any]) -> str:
    if cell.exporter != "slipway":
        steps = [step for step in ("exports", "loads", "agrees") if result.get(step)]
        return ", ".join(steps) or "does not export"
    expected = cell.line.expected(cell.shape)
    if result["status"] == expected:
        return str(result["status"])
    return f"{result['status']}, expected {expected}: {result['reason']}"


def differing(results: Mapping[Cell, Mapping[str, Any]]) -> list[str]:
    """The cells of ours that did not end as the list says, one line each."""
    return [
        f"{cell} {_told(cell, result)}"
        for cell, result in results.items()
        if cell.exporter == "slipway" and result["status"] != cell.line.expected(cell.shape)
    ]
