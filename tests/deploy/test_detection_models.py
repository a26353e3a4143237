"""Every detector that comes with Slipway exports with one graph for all sizes, equal to the unpatched model.

`make models-table` writes what the slow test finds into docs/detection-models.md.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from detectors import compare_heads

from deploy import bundle, export, parity, pipeline
from deploy.reference import Reference
from deploy.zoo.seeding import seeded
from slipway_runtime import preprocess
from slipway_runtime.manifest import Step
from train import config as configs
from train import experiment, plan, runner
from train.files import write_atomic

DOC = Path(__file__).parents[2] / "docs" / "detection-models.md"
#: Experiment → the longer edge of the images that it is tested on here, and their shorter one.
MODELS = {
    "det/rtmdet-tiny_coco": (320, 320),
    "det/yolox-nano_coco": (320, 320),
    "det/yolox-tiny_coco": (320, 320),
    "det/retinanet-r18_coco": (448, 320),
    "det/retinanet-r50_coco": (256, 192),
    "det/fcos-r50_coco": (448, 320),
    "det/faster-rcnn-r50_coco": (256, 192),
    "det/mask-rcnn-r18_digits": (256, 192),
    "det/mask-rcnn-r50_balloon": (256, 192),
    "det/detr-r50_coco": (256, 192),
    "det/deformable-detr-r50_labelme": (256, 192),
}
#: Published weights, where there are some.
PRETRAINED = {"det/yolox-nano_coco": "yolox_nano_coco_mmdet.pth"}
#: Networks that few photos' statistics make chaotic: on the next photo every score is 1, and which come first is chance.
PLAIN = ("det/yolox-tiny_coco", "det/faster-rcnn-r50_coco", "det/mask-rcnn-r50_balloon")
HEAD = """\
# Detectors

The models of `configs/train/det`, exported with one graph for every size (`SHAPE=dynamic`, opset 17, `ai.onnx` only), run in
stock ONNX Runtime and compared with the unpatched mmdet model. Weights are random and seeded, batch norms have the statistics
of COCO photos (YOLOX-tiny and the two R-CNNs with ResNet-50: those they begin with), and last layers are scaled so that there is
something to detect; YOLOX-nano has its published weights. The images are 32 of COCO's, at the size that the table names. RTMDet-Ins is
compared by `tests/deploy/test_rtmdet_ins.py`, on other images: what its random weights draw on photos is chance.

*heads*: largest difference of the maps that the (first) head gives, at sizes that the graph was not traced at. *detections*:
how many of the model's and the graph's were matched one to one, with the same label, IoU ≥ 0.99, |Δscore| ≤ 1e-4 and equal
masks; *rounding*: how many were not, on images where PyTorch's own float32 and float64 differ in as many. *files*: the same
from the image's file to the boxes and masks (IoU ≥ 0.98) in the image, by the runtime and by mmdet. `make models-table` makes
this page.

| model | nodes | MiB | images | heads | detections | rounding | max \\|Δscore\\| | min IoU | files |
|---|---|---|---|---|---|---|---|---|---|
"""


def request(name: str, work: Path, data: Path) -> plan.Request:
    """The experiment on COCO photos of a small size, whatever its own data are."""
    file = configs.locate(name)[1]
    width, height = MODELS[name]
    changed = work / name.replace("/", "-") / "det" / f"{file.stem}.py"
    changed.parent.mkdir(parents=True)
    changed.write_text(f"_base_ = [{str(file)!r}]\nsource = 'coco'\n")
    config = configs.read(changed)
    options = [
        f"{loader}.dataset.pipeline.{place}.{key}=({width},{height})"
        for loader in ("val_dataloader", "test_dataloader")
        for place, step in enumerate(config[loader].dataset.pipeline)
        for key in ("scale", "size")
        if key in step
    ]
    return plan.Request(str(changed), work=work, data=data, options=tuple(options), device="cpu")


def prepared(config: Any, paths: list[Path]) -> torch.Tensor:
    """Images as the model gets them, cut to the smallest of them, a batch."""
    steps: tuple[Step, ...] = pipeline.steps(config)
    arrays = [preprocess.preprocess(path, steps).array for path in paths]
    height, width = (min(array.shape[axis] for array in arrays) // 32 * 32 for axis in (1, 2))
    return torch.from_numpy(np.stack([array[:, :height, :width] for array in arrays]))


@pytest.fixture(scope="module")
def rows() -> list[str]:
    """The rows of the table, as models are compared."""
    return []


def row(name: str, nodes: int, path: Path, heads: str, parity: dict[str, Any]) -> str:
    """A model's row of the table."""
    found, files = parity["outputs"]["detections"], parity["predictions"]
    sizes = f"{min(map(min, parity['sizes']))} to {max(map(max, parity['sizes']))}"
    return (
        f"| {name} | {nodes} | {path.stat().st_size / 2**20:.0f} | {parity['images']}, {sizes} px | {heads} "
        f"| {found['matched']} of {found['detections']} | {found['excused'] or ''} | {found['max_score']:.1e} "
        f"| {found['min_iou']:.5f} | {files['equal']} of {files['of']} |\n"
    )


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", MODELS)
def test_on_photos(
    name: str, real_data: Path, tmp_path: Path, rows: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regions of a network that learned nothing are chosen by less than float32 tells apart, on any photo.
    monkeypatch.setattr(parity, "ROUNDING_IMAGES", 64)
    coco = real_data / "coco_mini"
    asked = request(name, tmp_path, coco)
    planned = runner.plan(asked)
    configs.activate(planned.config, planned.file)
    photos = sorted((coco / "val2017").iterdir())[::3][:32]  # those that parity will take
    weights = tmp_path / "weights.pth"
    batch = prepared(planned.config, photos)
    reference = seeded(planned.config, weights, planned.data["classes"], batch, statistics=name not in PLAIN)
    if name in PRETRAINED:
        weights = real_data / "weights" / PRETRAINED[name]
        reference = Reference(planned.config, weights, reference.postprocess)
    output = compare_heads(reference, ((192, 256), (224, 160)), tmp_path / "heads.onnx")
    assert output.passed, output
    adopted, _ = runner.adopt(asked, weights)
    exported = export.export(adopted)
    nodes = len(onnx.load(exported.bundle / bundle.GRAPH).graph.node)
    rows.append(row(name, nodes, exported.bundle / bundle.GRAPH, f"{output.max_abs:.1e}", exported.parity))


@pytest.mark.slow
@pytest.mark.skipif("SLIPWAY_WRITE_DOCS" not in os.environ, reason="`make models-table` writes the page")
def test_the_table_is_written(rows: list[str]) -> None:
    assert len(rows) == len(MODELS)
    write_atomic(DOC, HEAD + "".join(rows))


def test_the_table_is_of_experiments_that_there_are() -> None:
    assert set(MODELS) <= set(experiment.names())
