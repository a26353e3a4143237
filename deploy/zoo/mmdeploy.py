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
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from deploy import matching, zoo
from deploy.matching import Detections, Matched
from deploy.outputs import Agreement, Output
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
    from deploy.zoo import compare, models

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
            why = _compare(theirs, folder, reference, exported["runs"], several or single, 0)
            theirs.agrees = not why
            if why:
                theirs.reason = f"{theirs.reason}; with its library, {why}" if theirs.reason else why
            if why and several and single:
                theirs.one_image = not _compare(theirs, folder, reference, exported["runs"], single, len(several))
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


def _compare(
    theirs: Theirs, folder: Path, reference: Any, runs: dict[str, str], batches: Sequence[Tensor], offset: int
) -> str:
    """Why the first of some batches that does not agree does not; empty where all do. Outputs are numbered from `offset`."""
    detects = "Detection" in reference.task.CODEBASE["task"]
    compared: Output | Matched = Matched() if detects else Output()
    masks = Agreement()
    why = ""
    for number, batch in enumerate(batches, offset):
        if error := runs.get(str(number), "no result"):
            why = error
        else:
            with np.load(folder / f"outputs-{number}.npz") as found:
                if isinstance(compared, Matched):
                    _hold_detections(compared, masks, dict(found), batch, reference)
                else:
                    _hold_arrays(compared, dict(found), batch, reference)
            why = _difference(compared, masks)
        if why:
            count, _, height, width = batch.shape
            why = f"{count}×{height}×{width}: {why}"
            break
    if theirs.max_error is None:
        theirs.max_error = compared.max_abs
        theirs.detections = getattr(compared, "detections", None)
    return why


def _difference(compared: Output | Matched, masks: Agreement) -> str:
    if compared.fault or not compared.passed:
        return compared.fault or compared.reason()
    return f"masks of IoU ≥ {matching.MASK_IOU} are {masks.equal} of {masks.of}" if masks.equal < masks.of else ""


def _shortened(reason: str) -> str:
    """Without folders, as in "Load model from /tmp/zoo-…/graph.onnx failed"."""
    reason = re.sub(r"/\S+/", "", reason)
    return f"{reason[:LONGEST]}…" if len(reason) > LONGEST else reason


def _hold_arrays(compared: Any, found: dict[str, NDArray], batch: Tensor, reference: Any) -> None:
    wanted = reference.predict(batch)["output"].numpy()

    def rounding(image: int) -> float:
        exact = reference.exact(batch[image : image + 1])["output"].numpy()
        return Output.distance(wanted[image : image + 1], exact)

    compared.update(found["output"], wanted, rounding)


def _hold_detections(
    compared: Matched, masks: Agreement, found: dict[str, NDArray], batch: Tensor, reference: Any
) -> None:
    ours = predictions(reference.model, batch)
    own = [
        _detections({name: found.get(f"{name}-{image}") for name in ("bboxes", "scores", "labels", "masks")})
        for image in range(len(batch))
    ]
    rows = max(map(len, (*own, *ours)))

    def rounding(image: int) -> float:
        task, one = reference.task, batch[image : image + 1]
        both = [
            next(iter(task.compared({name: value.numpy() for name, value in outputs.items()}).values()))
            for outputs in (reference(one), reference.exact(one))
        ]
        return float(task.COMPARISON.distance(*both))

    compared.update(_packed(own, rows), _packed(ours, rows), rounding)
    for theirs, wanted in zip(own, ours, strict=True):
        if wanted.masks is None:
            continue
        pairs = matching.pair(theirs, wanted)
        if theirs.masks is None or theirs.masks.shape[1:] != wanted.masks.shape[1:]:
            masks.add(0, len(pairs.found))
            continue
        ious = matching.mask_ious(theirs.masks[pairs.found], wanted.masks[pairs.wanted])
        masks.add(int((ious >= matching.MASK_IOU).sum()), len(ious))


def predictions(model: Any, batch: Tensor) -> list[Detections]:
    """What the model itself predicts of images, N×3×H×W."""
    import torch

    from deploy.tasks import detection

    with torch.inference_mode():
        samples = model.predict(batch, detection._samples(batch), rescale=False)
    return [_detections(sample.pred_instances.numpy()) for sample in samples]


def _detections(found: Any) -> Detections:
    masks = found.get("masks")
    return Detections(
        np.asarray(found["bboxes"], np.float32).reshape(-1, 4),
        np.asarray(found["scores"], np.float32),
        np.asarray(found["labels"], np.int64),
        None if masks is None else np.asarray(masks, bool),
    )


def _packed(images: Sequence[Detections], rows: int) -> dict[str, NDArray]:
    """`dets` and `labels` as `deploy.matching` takes them."""
    dets = np.zeros((len(images), rows, 5), np.float32)
    labels = np.full((len(images), rows), -1, np.int64)
    for image, each in enumerate(images):
        count = len(each)
        dets[image, :count, :4], dets[image, :count, 4] = each.boxes, each.scores
        labels[image, :count] = each.labels
    return {"dets": dets, "labels": labels}


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
            result = Theirs(reason=f"not tried: {error}")
    print(result.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
