"""MMDeploy 1.3.1's own exporter on a model of the list: `python -m deploy.zoo.mmdeploy MODEL static|dynamic` → one JSON object.

Does it export, does stock ONNX Runtime load the graph, does it agree with the unpatched model? The model, its weights and the
images are those of our own cells (`deploy.zoo.cell`). The exporter runs as it is, in a process of its own
(`deploy.zoo.mmdeploy_export`), by deploy configs with its documented values (`configs/zoo-mmdeploy.yaml`).

How the two are compared: logits and scores element by element at our own tolerance. Of detectors, what MMDeploy's own
post-processing makes of its graph against the model's own `predict`: detections are matched one to one as ours are
(`deploy.matching`, with the same excuses for rounding), masks have an IoU ≥ 0.98. A dynamic graph is compared at sizes it was not
traced at, two images at once, but for models of which MMDeploy's documentation says that they take one.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from deploy import zoo
from train import cli
from train.errors import SlipwayError

SETTINGS = Path(__file__).parents[2] / "configs" / "zoo-mmdeploy.yaml"
#: Its deploy config, by package.
FIRST = {"mmpretrain": "classification", "mmseg": "segmentation", "mmdet": "detection"}
#: Tried in this order: what its configs say, and what torch's exporter of today may ask for.
LATER_OPSET = 17
TIMEOUT_S = 600.0
#: Characters of a reason.
LONGEST = 300


class Theirs(BaseModel):
    """What came of it.

    Attributes:
        documented: what its documentation says of ONNX Runtime: "dynamic", "static" only, "no"; "" where it lists no such model.
        tried: whether there is a model to compare with.
        exports: whether its exporter wrote a graph.
        opset: of the graph.
        loads: whether stock ONNX Runtime loads it.
        custom: operators of the graph that are not ONNX's own.
        library: whether ONNX Runtime loads it with MMDeploy's library of custom operators.
        agrees: whether what it gives, with that library, is what the model gives.
        one_image: whether it agrees where several images at once do not, given one at a time; None where that was not tried.
        reason: why not, in one line, of the first of these that does not hold.
        cause: what in MMDeploy's code makes the difference, where it was looked for.
        sizes, batch: what was compared.
        max_error: largest |ONNX − PyTorch| of logits and scores; of detections, the largest |Δscore| of a pair.
        detections: of both sides, where the model detects.
        nodes, mib: of the graph.
        seconds: of the export.
    """

    model_config = ConfigDict(extra="forbid")
    documented: Literal["dynamic", "static", "no", ""] = ""
    tried: bool = True
    exports: bool = False
    opset: int | None = None
    loads: bool = False
    custom: list[str] = []
    library: bool = False
    agrees: bool = False
    one_image: bool | None = None
    reason: str = ""
    cause: str = ""
    sizes: list[tuple[int, int]] = []
    batch: int = 1
    max_error: float | None = None
    detections: int | None = None
    nodes: int = 0
    mib: float = 0.0
    seconds: float = 0.0
    total_seconds: float = 0.0


def run(line: zoo.Line, shape: zoo.Shape) -> Theirs:
    """Build the model, have it exported, compare.

    Raises:
        UsageError: the model itself cannot be built.
    """
    from deploy.zoo import compare, mmdeploy_compare, models

    started = time.monotonic()
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    own = settings["models"].get(line.model, {})
    # Small images of ours may be too small for its pooling.
    if "size" in own:
        line = line.model_copy(update={"size": tuple(own["size"]), "sizes": tuple(map(tuple, own.get("sizes", ())))})
    theirs = Theirs(documented=own.get("documented", ""))
    with tempfile.TemporaryDirectory(prefix="zoo-") as name:
        folder = Path(name)
        reference = models.build(line, folder)
        kind, theirs.sizes, _ = compare.plan(reference, shape, line.size, line.sizes)
        batches = compare.batches(kind, theirs.sizes)
        several = [] if own.get("one_image") else batches
        single = [batch[:1] for batch in batches] if shape == "dynamic" or not several else []
        theirs.batch = max(map(len, several), default=1)
        _prepare(folder, reference, line, deploy_config(settings, line, shape), [*several, *single])
        exported = _export(folder)
        _take(theirs, exported)
        if theirs.library:
            why, theirs.max_error, theirs.detections = mmdeploy_compare.compare(
                folder, reference, exported["runs"], several or single, 0
            )
            theirs.agrees = not why
            if why:
                theirs.reason = f"{theirs.reason}; with its library, {why}" if theirs.reason else why
            if why and several and single:
                runs, first = exported["runs"], len(several)
                theirs.one_image = not mmdeploy_compare.compare(folder, reference, runs, single, first).why
        theirs.reason = _shortened(theirs.reason)
    if not (theirs.agrees and theirs.loads):
        theirs.cause = own.get("cause", "")
    theirs.total_seconds = round(time.monotonic() - started, 1)
    return theirs


def deploy_config(settings: dict[str, Any], line: zoo.Line, shape: zoo.Shape) -> dict[str, Any]:
    """Its deploy config for a model."""
    chosen = settings["configs"][settings["models"].get(line.model, {}).get("config", FIRST[line.package])]
    onnx = {**settings["onnx"], "output_names": list(chosen["axes"])}
    onnx["opset_version"] = chosen.get("opset", onnx["opset_version"])
    # mmdet's static configs leave the size to the test pipeline.
    onnx["input_shape"] = list(reversed(line.size)) if shape == "static" and line.package != "mmdet" else None
    if shape == "dynamic":
        onnx["dynamic_axes"] = {"input": {0: "batch", 2: "height", 3: "width"}, **chosen["axes"]}
    return {"onnx_config": onnx, "codebase_config": chosen["codebase"], "backend_config": {"type": "onnxruntime"}}


def _prepare(folder: Path, reference: Any, line: zoo.Line, config: dict[str, Any], batches: Sequence[Tensor]) -> None:
    """Files for the exporter. The test pipeline gives images of the line's size; what a graph is traced with is one of ours."""
    import cv2

    from deploy.zoo.seeding import images

    height, width = line.size
    own = reference.config.copy()
    pack = {"mmpretrain": "PackInputs", "mmseg": "PackSegInputs", "mmdet": "PackDetInputs"}[line.package]
    resize: dict[str, Any] = dict(type="Resize", scale=(width, height))
    if line.package != "mmpretrain":
        resize["keep_ratio"] = False
    own.test_pipeline = [dict(type="LoadImageFromFile"), resize, dict(type=pack)]
    own.dump(str(folder / "config.py"))
    preprocessor = own.model.get("data_preprocessor") or own.get("data_preprocessor") or {}
    mean, deviation = (np.array(preprocessor.get(key) or [most] * 3) for key, most in (("mean", 127.5), ("std", 64.0)))
    image = images((1, 3, height, width))[0].numpy().transpose(1, 2, 0) * deviation + mean
    cv2.imwrite(str(folder / "image.png"), image.clip(0, 255).astype(np.uint8)[..., ::-1])
    np.savez(folder / "inputs.npz", *(batch.numpy() for batch in batches))
    first = config["onnx_config"]["opset_version"]
    (folder / "job.json").write_text(json.dumps({"deploy": config, "opsets": [first, LATER_OPSET]}))


def _export(folder: Path) -> dict[str, Any]:
    """`deploy.zoo.mmdeploy_export` in a process of its own; a crash leaves what it found before."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    command = [sys.executable, "-m", "deploy.zoo.mmdeploy_export", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    why = ""
    try:
        done = subprocess.run(
            command, env=environment, cwd=SETTINGS.parents[1], stdout=sys.stderr, timeout=TIMEOUT_S, check=False
        )
        if done.returncode:
            why = f"its process ended with {done.returncode}"
    except subprocess.TimeoutExpired:
        why = f"took longer than {TIMEOUT_S:g} s"
    path = folder / "exported.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"errors": {}}
    return {**found, "died": why}


def _take(theirs: Theirs, exported: dict[str, Any]) -> None:
    theirs.exports = "opset" in exported
    if not theirs.exports:
        theirs.reason = next(iter(exported["errors"].values()), exported["died"])
        return
    theirs.opset, theirs.seconds = exported["opset"], exported["seconds"]
    theirs.nodes, theirs.mib, theirs.custom = (
        exported.get(key, none) for key, none in (("nodes", 0), ("mib", 0.0), ("custom", []))
    )
    theirs.loads = exported.get("load_error", "?") == ""
    theirs.library = exported.get("library_error", "?") == "" and not exported["died"]
    theirs.reason = exported.get("load_error") or exported.get("library_error") or exported["died"]


def _shortened(reason: str) -> str:
    """Without folders, as in "Load model from /tmp/zoo-…/graph.onnx failed"."""
    reason = re.sub(r"/\S+/", "", reason)
    return f"{reason[:LONGEST]}…" if len(reason) > LONGEST else reason


def main(argv: Sequence[str] | None = None) -> int:
    """Print the result as one line of JSON; logs go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m deploy.zoo.mmdeploy", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("shape", choices=zoo.SHAPES)
    parser.add_argument("--list", type=Path, default=zoo.LIST)
    arguments = parser.parse_args(argv)
    (line,) = zoo.select(zoo.read(arguments.list), arguments.model)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            result = run(line, arguments.shape)
        except SlipwayError as error:
            result = Theirs(tried=False, reason=str(error))
    print(result.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
