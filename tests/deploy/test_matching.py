"""Detections match one to one, within the tolerances, and nothing else passes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy import matching
from deploy.matching import Detections, Matched

Outputs = dict[str, NDArray]
ROWS = 20


def detections(boxes: Any, scores: Any, labels: Any) -> Detections:
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels))


def random(count: int, rows: int = ROWS, images: int = 1, seed: int = 0, masks: bool = False) -> Outputs:
    """A graph's outputs with `count` detections an image, best first, of boxes that do not match each other."""
    rng = np.random.default_rng(seed)
    dets, labels = np.zeros((images, rows, 5), np.float32), np.full((images, rows), -1)
    dets[:, :count, :2] = rng.uniform(0, 500, (images, count, 2))
    dets[:, :count, 2:4] = dets[:, :count, :2] + rng.uniform(10, 100, (images, count, 2))
    dets[:, :count, 4] = -np.sort(-rng.uniform(0.1, 1, (images, count)), axis=1)
    labels[:, :count] = rng.integers(5, size=(images, count))
    made: Outputs = {"dets": dets, "labels": labels}
    if masks:
        made["masks"] = rng.uniform(0, 1, (images, rows, 4, 4)).astype(np.float32)
    return made


def changed(outputs: Outputs, change: Callable[[Outputs], None]) -> Outputs:
    copy = {name: array.copy() for name, array in outputs.items()}
    change(copy)
    return copy


def without(outputs: Outputs, row: int, image: int = 0) -> Outputs:
    """One detection fewer, the others moved up."""

    def remove(copy: Outputs) -> None:
        for name, array in copy.items():
            array[image, row:-1] = array[image, row + 1 :]
            array[image, -1] = -1 if name == "labels" else 0

    return changed(outputs, remove)


def matched(found: Outputs, wanted: Outputs, rounding: Callable[[int], float] | None = None) -> Matched:
    result = Matched()
    result.update(found, wanted, rounding)
    return result


def test_a_duplicate_has_no_counterpart() -> None:
    wanted = detections([[0, 0, 10, 10]], [0.9], [1])
    twice = detections([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.9], [1, 1])
    for found, sought in ((twice, wanted), (wanted, twice)):
        pairs = matching.pair(found, sought)
        assert len(pairs.found) == len(set(pairs.found)) == len(set(pairs.wanted)) == 1


def test_the_better_overlap_comes_first() -> None:
    """Of two that fit each other both ways, neither takes the other's counterpart."""
    first = detections([[0, 0, 1000, 1000], [0, 0, 1000, 1001]], [0.9, 0.9], [1, 1])
    pairs = matching.pair(first, detections(first.boxes[::-1], first.scores, first.labels))
    assert dict(zip(pairs.found.tolist(), pairs.wanted.tolist(), strict=True)) == {0: 1, 1: 0}
    assert (pairs.ious == 1).all()


def test_order_does_not_matter() -> None:
    wanted = random(12, images=3)
    turned = changed(wanted, lambda copy: copy.update({name: array[:, ::-1] for name, array in copy.items()}))
    result = matched(turned, wanted)
    assert (result.images, result.detections, result.matched, result.excused) == (3, 36, 36, 0)
    assert result.passed
    assert (result.max_score, result.min_iou, result.max_mask) == (0, 1, 0)


#: What is changed of one detection of the box 0, 0, 1000, 1000, score 0.5, label 2; whether it still matches.
TOLERANCES: list[tuple[str, Callable[[Detections], None], bool]] = [
    ("IoU 0.9901", lambda one: one.boxes.__setitem__((0, 2), 990.1), True),
    ("IoU 0.9899", lambda one: one.boxes.__setitem__((0, 2), 989.9), False),
    ("score + 9e-5", lambda one: one.scores.__iadd__(np.float32(9e-5)), True),
    ("score − 9e-5", lambda one: one.scores.__isub__(np.float32(9e-5)), True),
    ("score + 1.1e-4", lambda one: one.scores.__iadd__(np.float32(1.1e-4)), False),
    ("score − 1.1e-4", lambda one: one.scores.__isub__(np.float32(1.1e-4)), False),
    ("label", lambda one: one.labels.__iadd__(1), False),
]


@pytest.mark.parametrize(("change", "fits"), [each[1:] for each in TOLERANCES], ids=[each[0] for each in TOLERANCES])
def test_tolerances(change: Callable[[Detections], None], fits: bool) -> None:
    def one() -> Detections:
        return detections([[0, 0, 1000, 1000]], [0.5], [2])

    found, wanted = one(), one()
    change(found)
    assert len(matching.pair(found, wanted).found) == fits
    assert len(matching.pair(wanted, found).found) == fits


@pytest.mark.parametrize(
    ("largest", "difference", "fits"),
    [(0.5, 0.9e-3, True), (0.5, 1.1e-3, False), (40.0, 0.039, True), (40.0, 0.041, False)],
)
def test_masks_are_equal_to_a_thousandth_of_their_largest_value_or_of_one(
    largest: float, difference: float, fits: bool
) -> None:
    wanted = random(3, masks=True)
    wanted["masks"][0, 1, 0, 0] = largest
    wanted["masks"][0, 1, 1:] *= 0.4
    found = changed(
        wanted, lambda copy: copy["masks"].__setitem__((0, 1, 2, 2), copy["masks"][0, 1, 2, 2] + difference)
    )
    result = matched(found, wanted)
    assert (result.matched == 3) == result.passed == fits
    assert result.max_mask == pytest.approx(difference / max(largest, 1), rel=1e-3)
    assert Matched.distance(found, wanted) == (0 if fits else 1)


def test_degenerate_boxes() -> None:
    line, point = [5, 5, 5, 9], [3, 3, 3, 3]
    assert matching.overlaps(np.array([line, point]), np.array([line, point])).tolist() == [[1, 0], [0, 1]]
    nearly = np.array([[5, 5, 5.005, 9.005]])
    assert matching.overlaps(nearly, np.array([line]))[0, 0] == 1, "the same to a hundredth of a pixel"
    assert matching.overlaps(np.array([[5, 5, 5.02, 9]]), np.array([line]))[0, 0] == 0
    assert matching.overlaps(np.zeros((0, 4)), np.array([line])).shape == (0, 1)


def test_overlaps_equal_a_count_of_pixels() -> None:
    corners = np.random.default_rng(0).integers(0, 15, (30, 2, 2))
    boxes = np.concatenate([corners, corners + 1 + corners[:, ::-1] // 3], 2).reshape(-1, 4)
    y, x = np.mgrid[:25, :25]
    inside = [(x >= x1) & (x < x2) & (y >= y1) & (y < y2) for x1, y1, x2, y2 in boxes]
    counted = [[(a & b).sum() / (a | b).sum() for b in inside] for a in inside]
    assert matching.overlaps(boxes, boxes) == pytest.approx(np.array(counted))


def test_overlaps_of_masks() -> None:
    full, half = np.ones((4, 4), bool), np.tri(4, dtype=bool)
    found, wanted = np.stack([full, full, ~full, full]), np.stack([full, half, ~full, ~full])
    assert matching.mask_ious(found, wanted).tolist() == [1, 10 / 16, 1, 0]


def test_more_than_three_hundred() -> None:
    wanted = random(400, rows=500)
    jittered = changed(wanted, lambda copy: copy["dets"].__iadd__(np.float32([0.02, 0.02, 0.02, 0.02, 1e-5])))
    order = np.random.default_rng(1).permutation(500)
    result = matched({name: array[:, order] for name, array in jittered.items()}, wanted)
    assert result.passed
    assert (result.detections, result.matched) == (400, 400)
    assert 0 < result.max_score < 1e-4
    assert 0.99 < result.min_iou < 1


def test_no_detection_on_both_sides_is_no_proof() -> None:
    nothing = random(0, images=3)
    result = matched(nothing, nothing)
    assert not result.passed
    assert result.reason().startswith("no detection in 3 images: nothing was compared")
    assert not Matched().passed
    result.update(random(4), random(4))
    assert result.passed, "an image without any is none to fail for"


@pytest.mark.parametrize("ours", [True, False])
def test_control_one_missing_of_many_fails(ours: bool) -> None:
    wanted = random(12, images=4)
    fewer = without(wanted, 5, image=2)
    result = matched(*((fewer, wanted) if ours else (wanted, fewer)))
    assert not result.passed
    assert (result.detections, result.matched, result.excused) == (48, 47, 0)
    assert result.reason().startswith("1 of 48 detections have no counterpart")
    assert Matched.distance(fewer, wanted) == 1


def test_nothing_where_there_is_something_fails() -> None:
    for found, wanted in ((random(0), random(5)), (random(5), random(0))):
        result = matched(found, wanted)
        assert (result.passed, result.detections, result.matched) == (False, 5, 0)


def _replace_last(score: float) -> Callable[[Outputs], None]:
    """The last of a full list is another detection, elsewhere."""

    def change(copy: Outputs) -> None:
        copy["dets"][0, -1] = [700, 700, 720, 720, score]

    return change


def test_either_of_two_may_be_the_last_of_a_full_list() -> None:
    wanted = random(ROWS)
    last = float(wanted["dets"][0, -1, 4])
    result = matched(changed(wanted, _replace_last(last - 5e-5)), wanted)
    assert result.passed
    assert (result.matched, result.excused) == (ROWS - 1, 1)


def test_control_other_differences_of_a_full_list_are_not_excused() -> None:
    wanted = random(ROWS)
    last = float(wanted["dets"][0, -1, 4])
    assert not matched(changed(wanted, _replace_last(last + 3e-4)), wanted).passed, "a better one would have been kept"
    moved = changed(wanted, lambda copy: copy["dets"].__setitem__((0, 3, slice(0, 4)), [700, 700, 720, 720]))
    assert not matched(moved, wanted).passed, "not the last one"
    fewer = without(wanted, ROWS - 1)
    assert not matched(fewer, wanted).passed, "a list that is not full is not cut off"
    spurious = without(wanted, ROWS - 1)
    spurious = changed(spurious, lambda copy: copy["dets"].__setitem__((0, -1), [700, 700, 720, 720, 0.9]))
    spurious["labels"][0, -1] = 0
    for sides in ((spurious, wanted), (wanted, spurious)):
        assert not matched(*sides).passed, "what pushes the last one out is no better for it"
    spare = random(ROWS - 1)
    other = changed(spare, lambda copy: copy["dets"].__setitem__((0, ROWS - 2, slice(0, 4)), [700, 700, 720, 720]))
    assert not matched(other, spare).passed, "nor are two"


def test_as_many_are_excused_as_rounding_explains() -> None:
    """A graph may be as far from float64 as PyTorch is: the two may differ in twice as many."""
    wanted = random(12, images=3)
    asked: list[int] = []

    def rounding(image: int) -> float:
        asked.append(image)
        return 1.0

    for missing in (1, 2, 3):
        found = wanted
        for row in range(missing):
            found = without(found, row, image=1)
        asked.clear()
        result = matched(found, wanted, rounding)
        assert asked == [1], "only where something is missing, and once"
        assert result.passed == (missing <= 2)
        assert result.excused == min(missing, 2)


def test_control_rounding_excuses_its_own_image_only() -> None:
    wanted = random(12, images=3)
    found = without(without(wanted, 0, image=0), 4, image=2)
    result = matched(found, wanted, lambda image: 5.0 if image == 0 else 0.0)
    assert (result.excused, result.passed) == (1, False)
    assert not matched(found, wanted, lambda _: 0.0).passed
    everything = matched(random(0), random(5), lambda _: 5.0)
    assert not everything.passed, "excuses alone are no proof"


def test_rounding_is_not_asked_for_what_is_cut_off() -> None:
    wanted = random(ROWS)
    found = changed(wanted, _replace_last(float(wanted["dets"][0, -1, 4])))

    def rounding(image: int) -> float:
        raise AssertionError(f"image {image} needs no float64")

    assert matched(found, wanted, rounding).passed


def _poison(value: float) -> Callable[[Outputs], None]:
    return lambda copy: copy["dets"].__setitem__((0, 2, 1), value)


FAULTS: list[tuple[str, Callable[[Outputs], None], str]] = [
    ("NaN", _poison(np.nan), "not finite"),
    ("infinite", _poison(np.inf), "not finite"),
    ("NaN in a mask", lambda copy: copy["masks"].__setitem__((0, 0, 0, 0), np.nan), "not finite"),
    ("labels of 32 bits", lambda copy: copy.update(labels=copy["labels"].astype(np.int32)), "types"),
    ("dets of 64 bits", lambda copy: copy.update(dets=copy["dets"].astype(np.float64)), "types"),
]


@pytest.mark.parametrize(("change", "fault"), [each[1:] for each in FAULTS], ids=[each[0] for each in FAULTS])
@pytest.mark.parametrize("ours", [True, False])
def test_what_cannot_be_compared_is_a_fault(change: Callable[[Outputs], None], fault: str, ours: bool) -> None:
    wanted = random(6, masks=True)
    faulty = changed(wanted, change)
    result = matched(wanted, wanted)
    assert result.passed
    result.update(*((faulty, wanted) if ours else (wanted, faulty)))
    assert result.fault is not None
    assert result.fault.startswith(fault)
    assert not result.passed
    result.update(wanted, wanted)
    assert not result.passed, "a fault stays"


def test_it_goes_into_a_report() -> None:
    wanted = random(6, masks=True)
    found = changed(wanted, lambda copy: copy["dets"][..., 4].__iadd__(np.float32(5e-5)))
    told = matched(found, wanted).to_dict()
    assert told["passed"] is True
    assert told["max_abs"] == told["max_score"] == pytest.approx(5e-5, rel=1e-2)
    assert (told["images"], told["detections"], told["matched"], told["excused"]) == (1, 6, 6, 0)
