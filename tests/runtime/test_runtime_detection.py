"""What a detection result holds and shows; `test_runtime_detection_exact.py` compares it with mmdet's."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco
from tiny_bundles import CLASSES, PALETTE, detector_manifest

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.errors import VerificationError
from slipway_runtime.masks import Mask, Masks, run_lengths
from slipway_runtime.tasks.detection import Result

BundleMaker = Callable[..., Path]
WHITE = np.full((128, 128, 3), 255, np.uint8)


def predict(bundle: Path, image: NDArray[np.uint8] = WHITE) -> Result:
    (result,) = slipway_runtime.load(bundle)(image)
    assert isinstance(result, Result)
    return result


def test_boxes_lead_back_to_the_image(detector: Path) -> None:
    result = predict(detector)  # twice the size of the graph's input
    assert result.boxes.tolist() == [[16, 16, 48, 48], [64, 0, 128, 128], [0, 0, 128, 128]]
    assert result.scores.tolist() == pytest.approx([0.9, 0.5, 0.25])
    assert result.labels.tolist() == [1, 2, 0]
    assert (result.boxes.dtype, result.scores.dtype, result.labels.dtype) == (np.float32, np.float32, np.int64)
    assert (result.names, result.palette, result.size) == (CLASSES, PALETTE, (128, 128))


@pytest.mark.parametrize("before", [True, False])
def test_padding_is_no_part_of_the_scale(make_detector: BundleMaker, before: bool) -> None:
    # 100×50 becomes 64×32, and padding makes 64×64 of it, before `normalize` as a part of the content.
    resize, pad = m.Resize(width=64, height=64, keep_ratio=True), m.Pad(width=64, height=64)
    normalize = m.Normalize(mean=(0,), std=(1,), reverse_channels=False)
    steps = (m.Decode(), resize, pad, normalize) if before else (m.Decode(), resize, normalize, pad)
    bundle = make_detector([(-8, 8, 80, 80, 0.9, 0)], preprocess=steps)
    result = predict(bundle, np.full((50, 100, 3), 255, np.uint8))
    assert result.boxes[0].tolist() == [0, 12.5, 100, 100 if before else 50]


def test_boxes_are_cut_only_where_asked(make_detector: BundleMaker) -> None:
    rows = [(-8, -4, 80, 70, 0.9, 0)]
    cut, whole = (
        predict(make_detector(rows, name=str(clip), postprocess=m.DetectionOutput(clip=clip))) for clip in (True, False)
    )
    assert cut.boxes.tolist() == [[0, 0, 128, 128]]
    assert whole.boxes.tolist() == [[-16, -8, 160, 140]]


def test_masks_are_pasted_into_their_boxes(detector: Path) -> None:
    masks = predict(detector).masks
    assert masks is not None
    assert len(masks) == 3
    green = np.zeros((128, 128), bool)
    green[16:48, 16:48] = True
    green[16:48:31, 16:48:31] = False  # around a mask lie zeros: bilinear samples round its corners off
    np.testing.assert_array_equal(masks[0], green)
    assert masks[-1][:, 20:-20].all()
    np.testing.assert_array_equal(np.stack(masks), np.stack([masks[0], masks[1], masks[2]]))
    np.testing.assert_array_equal(masks[1:][0], masks[1])
    with pytest.raises(IndexError):
        masks[3]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("count", [0, 1, 301, 1000])
def test_any_number_of_detections(make_detector: BundleMaker, count: int, masked: bool) -> None:
    starts = np.linspace(0, 60, count)
    rows = [(x, x, x + 3, x + 3, 1 - index / 2000, index % 4) for index, x in enumerate(starts)]
    bundle = make_detector(rows, np.ones((count, 2, 2), np.float32) if masked else None)
    result = predict(bundle)
    assert result.boxes.shape == (count, 4)
    assert (None if result.masks is None else len(result.masks)) == (count if masked else None)
    found = json.loads(json.dumps(result.to_dict()))["detections"]
    assert len(found) == count
    assert result.line().endswith({0: "0.3 or more", 1: "blue 1.00"}.get(count, f"+{count - 5} more"))
    drawn = result.draw(WHITE)
    assert (drawn != WHITE).any() == bool(count)


def test_an_image_without_detections(detector: Path) -> None:
    result = predict(detector, np.zeros((30, 50, 3), np.uint8))
    assert result.boxes.shape == (0, 4)
    assert result.masks is not None
    assert list(result.masks) == []
    assert result.to_dict() == {"task": "detection", "width": 50, "height": 30, "detections": []}
    assert result.line() == "nothing with a score of 0.3 or more"


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_batches_change_nothing(detector: Path, batch_size: int) -> None:
    model = slipway_runtime.load(detector)
    images = [np.full((40 + index, 64, 3), 255 * (index % 3 > 0), np.uint8) for index in range(7)]
    for image, found in zip(images, model(images, batch_size), strict=True):
        (alone,) = model(image)
        assert isinstance(found, Result)
        assert isinstance(alone, Result)
        assert len(found.boxes) == (3 if image[0, 0, 0] else 0)
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        assert found.to_dict() == alone.to_dict()


def test_what_is_unlikely_is_kept_but_not_shown(make_detector: BundleMaker) -> None:
    rows = [(0, 0, 9, 9, 0.9, 0), (0, 0, 9, 9, 0.3, 1), (0, 0, 9, 9, 0.29, 2)]
    result = predict(make_detector(rows))
    assert len(result.scores) == 3
    assert result.shown() == [0, 1]
    assert result.line() == "blue 0.90  green 0.30"
    assert [found["label"] for found in result.to_dict()["detections"]] == [0, 1]
    more = make_detector(rows, name="more", postprocess=m.DetectionOutput(clip=True, score_threshold=0.0))
    assert predict(more).line() == "blue 0.90  green 0.30  red 0.29"


def test_json_holds_boxes_and_coco_masks(detector: Path, make_detector: BundleMaker) -> None:
    first, second = json.loads(json.dumps(predict(detector).to_dict()))["detections"]
    assert list(first) == ["label", "name", "score", "box", "mask"]
    assert (first["label"], first["name"], first["box"]) == (1, "green", [16, 16, 48, 48])
    assert first["score"] == pytest.approx(0.9)
    read = coco.decode(coco.frPyObjects(first["mask"], 128, 128))
    assert read[16:48, 17:47].all()
    assert read.sum() == 32 * 32 - 4
    assert second["mask"]["size"] == [128, 128]
    assert sum(second["mask"]["counts"]) == 128 * 128
    assert 64 * 128 <= second["mask"]["counts"][0] <= 65 * 128, "the left half is outside, column by column"
    (boxes_only,) = predict(make_detector([(0, 0, 9, 9, 0.9, 0)], name="boxes")).to_dict()["detections"]
    assert "mask" not in boxes_only


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 13)])
def test_run_lengths_are_cocos(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 1.0):
        mask = rng.random(size) < share
        counts = run_lengths(mask)
        packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert coco.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"] == packed["counts"]
        assert sum(counts) == mask.size


def test_a_label_that_is_no_class_is_refused(make_detector: BundleMaker) -> None:
    with pytest.raises(VerificationError, match="tiny: label 4, of 4 classes from 0 on; verify the export"):
        predict(make_detector([(0, 0, 9, 9, 0.9, 4)]))


def test_values_that_are_no_numbers_are_refused(make_detector: BundleMaker) -> None:
    with pytest.raises(VerificationError, match="'dets' has values that are no finite numbers"):
        predict(make_detector([(0, 0, 9, np.inf, 0.9, 0)]))


def test_a_drawing_has_boxes_names_and_masks(detector: Path, make_detector: BundleMaker) -> None:
    before = WHITE.copy()
    drawn = predict(detector).draw(WHITE, 0.5)
    np.testing.assert_array_equal(WHITE, before)
    assert drawn.shape == WHITE.shape
    assert drawn.dtype == np.uint8
    assert drawn[40, 40].tolist() == [128, 255, 128], "half green over white"
    assert drawn[90, 100].tolist() == [128, 128, 255], "half red"
    assert drawn[100, 10].tolist() == [255] * 3, "what is unlikely is not drawn"
    np.testing.assert_array_equal(drawn[30, 16], [0, 255, 0])  # the box's edge, in the full colour
    assert (drawn[2:16, 16:60] == [0, 255, 0]).all(axis=2).sum() > 100, "the text's ground"
    assert (drawn[2:16, 16:60].max(axis=2) < 60).any(), "black letters on light green"
    untouched = predict(detector).draw(WHITE, 0.0)
    assert (untouched[40, 40] == 255).all()


def test_of_one_class_each_instance_has_a_colour(make_detector: BundleMaker) -> None:
    rows = [(0, 30, 20, 60, 0.9, 0), (22, 30, 42, 60, 0.8, 0), (44, 30, 64, 60, 0.7, 0)]
    described: dict[str, Any] = dict(classes=("one",), palette=((1, 2, 3),))
    masks = np.ones((3, 2, 2), np.float32)
    drawn = predict(make_detector(rows, masks, **described)).draw(WHITE, 1.0)
    assert len({tuple(drawn[110, x].tolist()) for x in (20, 64, 108)}) == 3
    boxes = predict(make_detector(rows, name="boxes", **described)).draw(WHITE, 1.0)
    assert boxes[100, 0].tolist() == boxes[100, 44].tolist() == [3, 2, 1]


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (15, 11), (2000, 1500)])
def test_an_image_of_any_size_can_be_drawn_on(make_detector: BundleMaker, size: tuple[int, int]) -> None:
    rows = [(-1e9, -5, 1e9, 64, 0.9, 0), (1, 1, 2, 2, 0.8, 1), (70, 70, 90, 90, 0.7, 2)]
    steps = detector_manifest().preprocess
    stretched = (steps[0], m.Resize(width=64, height=64), *steps[2:])
    bundle = make_detector(
        rows, np.ones((3, 4, 4), np.float32), preprocess=stretched, classes=("a name that is very long indeed",) * 4
    )
    image = np.random.default_rng(0).integers(128, 256, (*size, 3), dtype=np.uint8)
    drawn = predict(bundle, image).draw(image)
    assert drawn.shape == image.shape
    assert (drawn != image).any()


def test_settling_pastes_what_is_shown(detector: Path) -> None:
    """Masks are computed when they are asked for; a clock that stops before would not see them."""
    asked: list[int] = []

    class Asked(Masks):
        def __len__(self) -> int:
            return 3

        def _at(self, index: int) -> Mask:
            asked.append(index)
            return np.zeros((128, 128), bool)

    result = replace(predict(detector), masks=Asked(), score_threshold=0.4)
    assert not asked
    result.settle()
    assert asked == [0, 1] == result.shown()
