"""Boxes and instance masks against those of mmdet's own functions, on random outputs and mmdet's own test pipelines."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_bundles import detector_manifest

from slipway_runtime import manifest as m
from slipway_runtime import masks
from slipway_runtime.masks import BoxMasks, ImageMasks
from slipway_runtime.preprocess import Prepared, preprocess
from slipway_runtime.tasks import detection
from slipway_runtime.tasks.detection import Result
from train import compat

pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # mmdet's own doing

STRIDE = 8
#: Height and width of images: up, down, square, extreme, odd, and one whose masks mmdet leaves smaller than the image.
SIZES = [(120, 160), (301, 437), (640, 333), (97, 97), (700, 60), (1, 50), (33, 1000), (910, 465)]
NORMALIZE = m.Normalize(mean=(0.0,), std=(1.0,), reverse_channels=False)
FIT = m.Resize(width=320, height=200, keep_ratio=True)


@pytest.fixture(scope="module", autouse=True)
def mmdet() -> None:
    compat.use("mmdet")


def prepare(size: tuple[int, int], before: bool) -> tuple[Prepared, dict[str, Any]]:
    """An image as the runtime prepares it, and what mmdet's test pipeline notes about it.

    Padded to 320×320 `before` normalising (as RTMDet's), or to a divisor after it (as Mask R-CNN's).
    """
    from mmengine.dataset import Compose

    image = np.zeros((*size, 3), np.uint8)
    square = m.Pad(width=320, height=320)
    steps = (m.Decode(), FIT, square, NORMALIZE) if before else (m.Decode(), FIT, NORMALIZE, m.Pad(divisor=32))
    pad = [dict(type="Pad", size=(320, 320))] if before else []
    pipeline = [dict(type="LoadImageFromNDArray"), dict(type="Resize", scale=(320, 200), keep_ratio=True), *pad]
    keys = ("ori_shape", "img_shape", "scale_factor")
    sample = Compose([*pipeline, dict(type="PackDetInputs", meta_keys=keys)])(dict(img=image))
    return preprocess(image, steps), sample["data_samples"].metainfo


def boxes_in(size: tuple[float, float], seed: int, count: int = 40) -> NDArray[np.float32]:
    """Boxes of all sizes from a fifth of a pixel to twice the image's, some partly or wholly outside, some on whole pixels."""
    rng = np.random.default_rng(seed)
    edges = np.array([size[1], size[0]])
    centres = rng.uniform(-0.1, 1.1, (count, 2)) * edges
    extents = np.exp(rng.uniform(np.log(0.2), np.log(2 * edges.max()), (count, 2)))
    boxes = np.concatenate([centres - extents / 2, centres + extents / 2], axis=1)
    boxes[::4] = boxes[::4].round()
    return boxes.astype(np.float32)


def predict(
    prepared: Prepared, boxes: NDArray[np.float32], values: NDArray[np.float32] | None, output: m.DetectionOutput
) -> Result:
    """What the runtime makes of a graph's boxes in pixels of its input, and masks."""
    dets = np.concatenate([boxes, np.full((len(boxes), 1), 0.5, np.float32)], axis=1)
    outputs = {"dets": dets[None], "labels": np.zeros((1, len(boxes)), np.int64)}
    if values is not None:
        outputs["masks"] = values[None]
    described = detector_manifest(None if values is None else values.shape[1:], postprocess=output)
    (result,) = detection.predict(described, [prepared], lambda arrays: outputs)
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_clipped_boxes_as_detr(size: tuple[int, int], before: bool) -> None:
    from mmdet.models.dense_heads import DETRHead
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

    prepared, meta = prepare(size, before)
    relative = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    head = SimpleNamespace(loss_cls=SimpleNamespace(use_sigmoid=False), test_cfg={}, num_classes=1)
    scores = torch.linspace(2, 0, 50)[:, None] * torch.tensor([1.0, 0.0])  # best first already
    wanted = DETRHead._predict_by_feat_single(head, scores, relative, meta, rescale=True).bboxes.numpy()
    height, width = meta["img_shape"]
    given = (bbox_cxcywh_to_xyxy(relative) * torch.tensor([width, height, width, height])).numpy()
    found = predict(prepared, given, None, m.DetectionOutput(clip=True)).boxes
    np.testing.assert_array_equal(found, wanted)
    assert not np.allclose(predict(prepared, given, None, m.DetectionOutput(clip=False)).boxes, wanted)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_boxes_as_one_stage_detectors(size: tuple[int, int], before: bool) -> None:
    from mmdet.models.dense_heads import RTMDetHead, YOLOXHead
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    prepared, meta = prepare(size, before)
    given = boxes_in(prepared.content, 0)
    found = predict(prepared, given, None, m.DetectionOutput(clip=False)).boxes
    for head, exact in ((YOLOXHead, True), (RTMDetHead, False)):
        results = InstanceData(bboxes=torch.from_numpy(given.copy()))
        results = head._bbox_post_process(None, results, ConfigDict(), rescale=True, with_nms=False, img_meta=meta)
        # RTMDet's multiplies by the reciprocal, which rounds otherwise.
        np.testing.assert_allclose(found, results.bboxes.numpy(), rtol=0 if exact else 3e-7)


def pasted(probabilities: NDArray[np.float32], boxes: NDArray[np.float32], meta: dict[str, Any]) -> list[Any]:
    """Each mask by `FCNMaskHead`; None where mmdet stops, as it does for boxes outside the image."""
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    head, config = SimpleNamespace(class_agnostic=True), SimpleNamespace(mask_thr_binary=0.5)
    found: list[Any] = []
    for probability, box in zip(probabilities, boxes, strict=True):
        tensors = torch.from_numpy(probability)[None, None], torch.from_numpy(box.copy())[None], torch.zeros(1).long()
        mask = None
        with suppress(RuntimeError):  # "upper bound and lower bound inconsistent"
            (mask,) = FCNMaskHead._predict_by_feat_single(head, *tensors, meta, config, rescale=True, activate_map=True)
        found.append(None if mask is None else mask.numpy())
    return found


def box_probabilities(count: int, grid: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Noise; every other is all 0 and 1, so that many samples are 0.5 but for their rounding."""
    values = np.random.default_rng(seed).random((count, *grid)).astype(np.float32)
    values[::2] = values[::2].round()
    return values


PASTE = m.DetectionOutput(clip=False, masks=m.Masks(over="box", threshold=0.5))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("grid", [(28, 28), (7, 12)])
@pytest.mark.parametrize("size", SIZES)
def test_pasted_masks_are_mmdets_pixel_for_pixel(size: tuple[int, int], grid: tuple[int, int], clip: bool) -> None:
    prepared, meta = prepare(size, before=False)
    boxes, values = boxes_in(prepared.content, size[0]), box_probabilities(40, grid, size[1])
    if clip:
        height, width = prepared.content
        boxes = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    found = predict(prepared, boxes, values, PASTE)
    assert found.masks is not None
    stopped = 0
    for mask, wanted, box in zip(found.masks, pasted(values, boxes, meta), found.boxes, strict=True):
        assert mask.shape == size
        if wanted is None:
            stopped += 1
            assert not clip
            assert box[0] >= size[1] or box[1] >= size[0] or box[2] <= 0 or box[3] <= 0
            assert not mask.any()
        else:
            np.testing.assert_array_equal(mask, wanted)
    assert stopped < 40
    assert sum(mask.sum() for mask in found.masks)


def test_another_rule_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    size = (301, 437)
    prepared, meta = prepare(size, before=False)
    boxes, values = boxes_in(prepared.content, 1), box_probabilities(40, (28, 28), 1)
    wanted = pasted(values, boxes, meta)
    right = predict(prepared, boxes, values, PASTE).boxes

    def differing(boxes: NDArray[np.float32] = right, threshold: float = 0.5) -> int:
        made = zip(BoxMasks(values, boxes, size, threshold), wanted, strict=True)
        return sum(not np.array_equal(mask, one) for mask, one in made if one is not None)

    assert differing() == 0
    assert differing(right + np.float32(0.5)) > 10, "without half a pixel"
    assert differing(threshold=0.51) > 10
    assert differing(threshold=float(np.nextafter(np.float32(0.5), np.float32(1)))) > 0, "above, not from 0.5 on"
    monkeypatch.setattr(masks, "_around", lambda low, high, size: (0, size))
    assert differing(threshold=0.1) > differing(), "the whole image, as on a GPU"


@pytest.mark.parametrize("value", [0.5, 50.0])
def test_a_box_without_extent(value: float) -> None:
    size, meta = (60, 80), dict(scale_factor=(1.0, 1.0), ori_shape=(60, 80))
    boxes = np.array([[value, 10, value, 20], [10, value, 20, value], [value] * 4, [30, 30, 30.000002, 40]], np.float32)
    values = box_probabilities(4, (28, 28), 3)
    for mask, wanted in zip(BoxMasks(values, boxes, size, 0.5), pasted(values, boxes, meta), strict=True):
        np.testing.assert_array_equal(mask, wanted)


def resized(logits: NDArray[np.float32], meta: dict[str, Any]) -> NDArray[np.bool_]:
    """Masks by `RTMDetInsHead`, for whose dynamic convolutions these logits stand."""
    from mmdet.models.dense_heads import RTMDetInsHead
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    count = len(logits)
    head = SimpleNamespace(
        prior_generator=SimpleNamespace(strides=[(STRIDE, STRIDE)]),
        _mask_predict_by_feat_single=lambda features, kernels, priors: torch.from_numpy(logits),
    )
    apart = 10.0 * torch.arange(count)[:, None] + torch.tensor([0.0, 0.0, 5.0, 5.0])
    found = dict(bboxes=apart, scores=torch.linspace(1, 0.5, count), labels=torch.zeros(count).long())
    results = InstanceData(**found, kernels=torch.zeros(count, 1), priors=torch.zeros(count, 4))
    config = ConfigDict(nms=dict(type="nms", iou_threshold=0.9), max_per_img=count, mask_thr_binary=0.5)
    results = RTMDetInsHead._bbox_mask_post_process(head, results, None, config, rescale=True, img_meta=meta)
    return results.masks.numpy()


def differing_pixels(size: tuple[int, int], before: bool, other: Prepared | None = None) -> tuple[int, int]:
    """How many pixels of masks over the image are not mmdet's, and how many mmdet leaves out of the image."""
    prepared, meta = prepare(size, before)
    stride = [edge // STRIDE for edge in prepared.array.shape[1:]]
    logits = np.random.default_rng(size[1]).normal(scale=3, size=(3, *stride)).astype(np.float32)
    wanted = resized(logits, meta)
    found = np.stack(ImageMasks(logits, other or prepared, 0.5))
    assert found.shape == (3, *size)
    height, width = wanted.shape[1:]
    assert not found[:, height:].any()
    assert not found[:, :, width:].any()
    return int((found[:, :height, :width] != wanted).sum()), found.size - wanted.size


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("size", [size for size in SIZES if size != (1, 50)])
def test_resized_masks_are_mmdets_pixel_for_pixel(size: tuple[int, int], before: bool) -> None:
    differing, left_out = differing_pixels(size, before)
    assert differing == 0
    assert left_out < 0.05 * 3 * size[0] * size[1]


def test_mmdet_mixes_up_the_two_scales() -> None:
    size = (301, 437)
    prepared, _ = prepare(size, True)
    swapped = Prepared(prepared.array, prepared.original, prepared.content, prepared.scale_factor[::-1])
    assert differing_pixels(size, True)[0] == 0
    assert differing_pixels(size, True, swapped)[0] > 0
    padded = Prepared(prepared.array, prepared.original, prepared.content, (320 / 437, 320 / 301))
    assert differing_pixels(size, True, padded)[0] > 1000, "padding counted as image"


def test_mmdet_leaves_out_rows_that_the_runtime_fills_up() -> None:
    assert any(differing_pixels(size, before)[1] for size in SIZES[-1:] for before in (True, False))
