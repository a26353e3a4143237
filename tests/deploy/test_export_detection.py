"""Detection exports: what the graph holds, batches, lists that are empty or long, static shapes, and what is refused."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import slipway_runtime
from deploy import bundle, export, matching, reference, trace
from deploy.matching import Detections
from deploy.reference import Reference
from slipway_runtime import manifest as manifests
from slipway_runtime.tasks.detection import Result
from train import runner
from train.data import instances
from train.errors import UsageError, VerificationError
from train.experiment import Experiment

CONFIGS = Path(__file__).parents[1] / "configs" / "det"


@pytest.fixture(scope="module")
def unpatched_detector(detector_experiment: Experiment) -> Reference:
    """The tiny detector's unpatched model."""
    postprocess = manifests.read(detector_experiment.bundle).postprocess
    return reference.load(detector_experiment.config, detector_experiment.checkpoint, postprocess)


@pytest.fixture(scope="module")
def scenes(detector_experiment: Experiment) -> list[Path]:
    """Validation images."""
    return [path for path, _ in instances.read_split(Path(detector_experiment.read().data["root"]), "val")]


def changed(experiment: Experiment, tiny: str, work: Path, changes: str) -> Experiment:
    """A tiny detector's weights under its config with changes."""
    config = work / "changed.py"
    config.write_text(f"_base_ = ['{CONFIGS / tiny}']\n{changes}\n")
    (work / "data").symlink_to(experiment.work / "data")
    return runner.adopt(runner.Request(str(config), work=work, device="cpu"), experiment.checkpoint)[0]


def operators(experiment: Experiment) -> set[str]:
    """The graph's node types; there are only standard ones."""
    graph = onnx.load(experiment.bundle / bundle.GRAPH).graph
    assert {node.domain for node in graph.node} == {""}
    return {node.op_type for node in graph.node}


def detections(result: Any) -> Detections:
    """A runtime's result as `matching` takes it."""
    assert isinstance(result, Result)
    return Detections(result.boxes, result.scores, result.labels)


def same(found: Any, wanted: Any) -> bool:
    """Whether two results hold the same detections."""
    return len(matching.pair(detections(found), detections(wanted)).found) == len(found.scores) == len(wanted.scores)


def test_the_bundle_says_what_a_detector_needs(detector_experiment: Experiment) -> None:
    described = manifests.read(detector_experiment.bundle)
    assert described.task == "detection"
    assert described.classes == tuple("0123456789")
    assert described.palette is not None
    assert len(set(described.palette)) == 10
    assert [(spec.name, spec.shape[0], spec.shape[2:]) for spec in described.outputs] == [
        ("dets", "batch", (5,)),
        ("labels", "batch", ()),
    ]
    assert "NonMaxSuppression" in operators(detector_experiment)


def test_masks_come_with_their_boxes(masks_experiment: Experiment) -> None:
    described = manifests.read(masks_experiment.bundle)
    assert isinstance(described.postprocess, manifests.DetectionOutput)
    assert described.postprocess.masks == manifests.Masks(over="box", threshold=0.5)
    assert described.outputs[2].shape[2:] == (28, 28)
    assert {"NonMaxSuppression", "RoiAlign"} <= operators(masks_experiment)


@pytest.mark.parametrize("name", ["detector_experiment", "masks_experiment"])
def test_parity_matched_every_detection(name: str, request: pytest.FixtureRequest) -> None:
    experiment: Experiment = request.getfixturevalue(name)
    found = export.export(experiment)
    assert not found.new
    matched = found.parity["outputs"]["detections"]
    assert matched["matched"] > 100
    assert matched["matched"] + matched["excused"] == matched["detections"]
    assert found.parity["predictions"]["equal"] == found.parity["predictions"]["of"] > 100


@pytest.mark.parametrize("size", [2, 7])
def test_a_batch_gives_what_single_images_give(detector_experiment: Experiment, scenes: list[Path], size: int) -> None:
    model = slipway_runtime.load(detector_experiment.bundle)
    groups: dict[tuple[int, ...], list[Path]] = {}
    for path in scenes:
        groups.setdefault(model.preprocess(path).array.shape, []).append(path)
    chosen = next(paths for paths in groups.values() if len(paths) >= size)[:size]
    alone, together = model(chosen, 1), model(chosen, size)
    assert all(map(same, together, alone))
    assert not same(together[0], alone[1]), "control: two images differ"


def test_nothing_to_detect(detector_experiment: Experiment, tmp_path: Path, scenes: list[Path]) -> None:
    strict = changed(detector_experiment, "tiny_scenes.py", tmp_path, "model = dict(test_cfg=dict(score_thr=0.999))")
    with pytest.raises(VerificationError, match="nothing was compared"):
        export.export(strict)
    unpatched = reference.load(strict.config, strict.checkpoint, manifests.DetectionOutput(clip=True))
    image = next(unpatched.samples(scenes[:1]))[0]
    graph = trace.trace(export.read_deploy_config("dynamic"), unpatched, image)
    onnx.save(graph, tmp_path / "strict.onnx")
    session = slipway_runtime.open_session(tmp_path / "strict.onnx")
    found = session.run({"input": np.stack([image.numpy()] * 2)})
    assert (found["labels"] == -1).all()
    assert not found["dets"].any()


@pytest.mark.parametrize("count", [1, 1000])
def test_one_detection_and_more_than_three_hundred(
    detector_experiment: Experiment, tmp_path: Path, scenes: list[Path], count: int
) -> None:
    limits = f"model = dict(test_cfg=dict(score_thr=0.0, max_per_img={count}, nms=dict(iou_threshold=0.99)))"
    experiment = changed(detector_experiment, "tiny_scenes.py", tmp_path, limits)
    assert export.export(experiment).new
    results = slipway_runtime.load(experiment.bundle)(scenes[:2])
    found = [len(detections(result)) for result in results]
    assert found == [1, 1] if count == 1 else max(found) > 300


def test_a_static_graph_pads_to_one_square(detector_experiment: Experiment, tmp_path: Path, scenes: list[Path]) -> None:
    experiment = changed(detector_experiment, "tiny_scenes.py", tmp_path, "")
    assert export.export(experiment, shape="static").new
    shape = manifests.read(experiment.bundle).inputs[0].shape
    assert shape == (1, 3, 96, 96)
    assert export.verify(experiment).passed
    wide = cv2.imread(str(scenes[0]))[:60]
    (result,) = slipway_runtime.load(experiment.bundle)(wide)
    assert isinstance(result, Result)
    assert result.size == wide.shape[:2]


def test_the_reference_is_asked_with_what_the_graph_knows(masks_experiment: Experiment, scenes: list[Path]) -> None:
    postprocess = manifests.read(masks_experiment.bundle).postprocess
    unpatched = reference.load(masks_experiment.config, masks_experiment.checkpoint, postprocess)
    ((prepared, told),) = unpatched.samples(scenes[:1])
    ((_, native),) = unpatched.samples(scenes[:1], native=True)
    assert told.img_shape == tuple(prepared.shape[1:])
    assert native.img_shape != told.img_shape, "control: there is padding, and mmdet knows of it"


def test_a_graph_that_keeps_other_boxes_leaves_no_bundle(
    detector_experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trace.trace

    def stricter(*arguments: Any) -> onnx.ModelProto:
        model = original(*arguments)
        (node,) = (node for node in model.graph.node if node.op_type == "NonMaxSuppression")
        threshold = next(each for each in model.graph.initializer if each.name == node.input[3])
        threshold.CopyFrom(onnx.numpy_helper.from_array(np.array([0.3], np.float32), threshold.name))
        return model

    monkeypatch.setattr(trace, "trace", stricter)
    experiment = changed(detector_experiment, "tiny_scenes.py", tmp_path, "")
    with pytest.raises(VerificationError, match="detections have no counterpart"):
        export.export(experiment)
    assert not experiment.bundle.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("dict(test_cfg=dict(nms=dict(type='soft_nms')))", "only type='nms'"),
        ("dict(test_cfg=dict(nms=dict(max_num=10)))", "only type='nms'"),
        (
            "dict(type='CornerNet', bbox_head=dict(_delete_=True, type='CornerHead', num_classes=10, in_channels=32))",
            "bbox_head 'CornerHead': no exact rewrite",
        ),
        (
            "dict(type='DecoupledSOLO', bbox_head=None, mask_head=dict(type='DecoupledSOLOHead'))",
            "mask_head 'DecoupledSOLOHead': no exact rewrite",
        ),
        ("dict(bbox_head=None, panoptic_fusion_head=dict(type='MaskFormerFusionHead'))", "panoptic_on=False"),
        ("dict(bbox_head=None)", "no head that can be exported"),
    ],
)
def test_what_cannot_be_exact_is_refused(changes: str, message: str, tmp_path: Path) -> None:
    from mmengine.config import Config

    from deploy import tasks
    from train import config as configs

    path = tmp_path / "changed.py"
    path.write_text(f"_base_ = ['{CONFIGS / 'tiny_scenes.py'}']\nmodel = {changes}\n")
    config = Config.fromfile(str(path), import_custom_modules=False)
    config = configs.read(path)
    with pytest.raises(UsageError, match=message):
        tasks.find(config)


@pytest.mark.parametrize("name", ["detector_experiment", "masks_experiment"])
def test_mmdeploys_own_sdk_finds_the_same_boxes(name: str, request: pytest.FixtureRequest, scenes: list[Path]) -> None:
    compared = compare_with_sdk(request.getfixturevalue(name).bundle, scenes)
    assert compared > 300


def compare_with_sdk(folder: Path, paths: list[Path]) -> int:
    """Compare `mmdeploy_runtime`'s boxes with ours, one to one; the number of them.

    The SDK cuts boxes at the last pixel's centre, not its edge, and leaves out what is then empty. Its Python module is
    older than numpy 2: of the labels it returns, every one reads as the last.
    """
    sdk = pytest.importorskip("mmdeploy_runtime", reason="mmdeploy_runtime has no wheel for this Python")
    detector = sdk.Detector(model_path=str(folder), device_name="cpu", device_id=0)
    ours, compared = slipway_runtime.load(folder), 0
    for path in paths:
        image = cv2.imread(str(path))
        assert image is not None
        boxes, labels, _ = detector(image)
        (result,) = ours(image)
        found = detections(result)
        height, width = image.shape[:2]
        found.boxes = np.clip(found.boxes, 0, np.array([width - 1, height - 1] * 2, np.float32))
        inside = (found.boxes[:, 2:] > found.boxes[:, :2]).all(1)
        kept = Detections(found.boxes[inside], found.scores[inside], np.zeros(inside.sum(), np.int64))
        theirs = Detections(boxes[:, :4], boxes[:, 4], np.zeros(len(boxes), np.int64))
        assert len(matching.pair(theirs, kept).found) == len(theirs) == len(kept), path
        assert labels[-1] == found.labels[inside][-1]
        compared += len(theirs)
    return compared


@pytest.mark.data
def test_pretrained_yolox_nano(real_data: Path, tmp_path: Path) -> None:
    """The published weights on 100 photos: every detection is the unpatched model's, and mmdeploy_runtime's."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / split).symlink_to(real_data / "coco_mini" / split)
        text = (real_data / "coco_mini" / "annotations" / f"boxes_{split}.json").read_bytes()
        (root / "annotations" / f"instances_{split}.json").write_bytes(text)
    request = runner.Request("det/yolox-nano_coco", work=tmp_path / "work", data=root, device="cpu")
    experiment, record = runner.adopt(request, real_data / "weights" / "yolox_nano_coco_mmdet.pth")
    exported = export.export(experiment)
    found = exported.parity["outputs"]["detections"]
    assert found["matched"] + found["excused"] == found["detections"] > 1000
    assert exported.parity["predictions"]["agreement"] == 1
    from deploy import metrics

    model, samples = slipway_runtime.load(exported.bundle), instances.read_split(Path(record.data["root"]), "val")
    metric = metrics.for_task(model.manifest)
    metric.update(model([path for path, _ in samples], 4), [target for _, target in samples])
    values = metric.compute()
    assert values["bbox_map_percent"] == pytest.approx(36.0, abs=0.1)
    assert values["bbox_map50_percent"] == pytest.approx(51.9, abs=0.1)
    compare_with_sdk(exported.bundle, [path for path, _ in samples[:20]])
