"""Adding a precision to a bundle: files first, the manifest last, nothing twice."""

import json
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import slipway_runtime
from deploy import bundle, precision
from deploy.precision.calibration import images as images_
from slipway_runtime import manifest
from slipway_runtime.errors import BundleError
from slipway_runtime.manifest import Manifest
from train.cli import say
from train.errors import UsageError
from train.experiment import Experiment
from train.files import sha256, sha256_json, write_atomic, write_json

#: Counts up when a change of this package changes what it makes, so that old graphs are made anew.
VERSION = 1
_TOOLS = ("onnx", "onnxruntime", "numpy", "opencv-python-headless")


def add(
    experiment: Experiment,
    names: Sequence[str],
    *,
    folder: Path | None = None,
    count: int = images_.CALIBRATION,
    gate: float | None = None,
    force: bool = False,
) -> dict[str, dict[str, Any]]:
    """Give an exported bundle graphs in other precisions.

    Args:
        experiment: exported.
        names: of the precisions.
        folder: images to calibrate on, instead of the training images.
        count: how many of them for ranges.
        gate: the share of the float32 graph's score to reach, in percent; each precision's own when `None`.
        force: make them though current ones are there.

    Returns:
        A report a precision; its "new" says whether it was made now.

    Raises:
        UsageError, InputError: see `images.choose`; a model that finds nothing.
        VerificationError: the gate does not hold; nothing is written for that precision.
    """
    record, root = experiment.read(), experiment.bundle
    described = manifest.read(root)
    manifest.check_files(root, described, [bundle.GRAPH])
    if gate is not None and not 0 < gate <= 100:
        raise UsageError(f"gate: expected a share above 0 and up to 100 %, got {gate:g}")
    chosen = images_.choose(record, folder, count)
    made_from = [VERSION, described.files[bundle.GRAPH], record.data["fingerprint"], chosen.fingerprint(), _tools()]
    reports: dict[str, dict[str, Any]] = {}
    task: precision.Task | None = None
    for name in dict.fromkeys(names):
        own = gate or precision.get(name).GATE
        fingerprint = sha256_json([*made_from, name, own])
        if not force and (known := _current(root, name, fingerprint)):
            reports[name] = {**known, "new": False}
            continue
        task = _task(root, chosen, own, task)
        report = _make(root, name, fingerprint, task)
        reports[name] = {**report, "new": True}
    return reports


def _task(root: Path, chosen: images_.Images, gate: float, known: precision.Task | None) -> precision.Task:
    # onnx and its tools take seconds to import: not before there is work for them.
    import onnx

    from deploy import graph
    from deploy.precision.calibration.scores import Scores

    if known is not None:
        return precision.Task(known.model, known.loaded, chosen, known.scores, gate)
    model = onnx.shape_inference.infer_shapes(graph.load(root / bundle.GRAPH), strict_mode=True)
    say(f"float32: its score on other images of {chosen.source}")
    return precision.Task(model, slipway_runtime.load(root), chosen, Scores(root, chosen), gate)


def _make(root: Path, name: str, fingerprint: str, task: precision.Task) -> dict[str, Any]:
    """Make one precision's graph and its report, and list them."""
    from deploy import graph

    began = time.monotonic()
    made = precision.get(name).make(task)
    graph.check(made.graph)
    report = {
        "precision": name,
        "fingerprint": fingerprint,
        "float32_sha256": manifest.sha256(root / bundle.GRAPH),
        "scored_images": task.scores.images,
        "scores": {"float32": task.scores.wanted, name: made.scores},
        "share_percent": task.scores.share(made.scores),
        "gate_percent": task.gate,
        **made.report,
        "seconds": round(time.monotonic() - began, 1),
        "tools": _tools(),
    }
    # Out of the manifest while its files change: after a crash they are strangers, and the bundle is as it was.
    _list(root, remove=files_of(name))
    graph_file, report_file = files_of(name)
    write_atomic(root / graph_file, made.graph.SerializeToString())
    write_json(root / report_file, report)
    _list(root, add=files_of(name))
    return report


def files_of(name: str) -> tuple[str, str]:
    """The names of a precision's graph and of its report."""
    graph_file = manifest.graph_name(name)
    return graph_file, str(Path(graph_file).with_suffix(".json"))


def _current(root: Path, name: str, fingerprint: str) -> dict[str, Any] | None:
    """The report of a whole graph of this fingerprint, else None."""
    graph_file, report_file = files_of(name)
    try:
        manifest.check_files(root, manifest.read(root), [graph_file, report_file])
        report: dict[str, Any] = json.loads((root / report_file).read_text())
    except (OSError, ValueError, BundleError):
        return None
    return report if report.get("fingerprint") == fingerprint else None


def _list(root: Path, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
    known: Manifest = manifest.read(root)
    files = {key: value for key, value in known.files.items() if key not in remove}
    files |= {key: sha256(root / key) for key in add}
    if files != known.files:
        changed = known.model_copy(update={"files": dict(sorted(files.items()))})
        write_atomic(root / manifest.FILE_NAME, changed.to_json())


def _tools() -> dict[str, str]:
    return {name: metadata.version(name) for name in _TOOLS}
