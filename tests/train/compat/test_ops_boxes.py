"""NMS and its kin against naive loops in single precision."""

import math
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

F32 = np.float32


def random_boxes(rng: torch.Generator, count: int) -> Tensor:
    """Integer corners, so that equal overlaps and overlaps equal to the threshold occur."""
    corner = torch.randint(0, 30, (count, 2), generator=rng)
    size = torch.randint(0, 20, (count, 2), generator=rng)
    return torch.cat([corner, corner + size], dim=1).float()


def iou(a: np.ndarray, b: np.ndarray, offset: int) -> np.float32:
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, F32(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, F32(0))
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    with np.errstate(invalid="ignore"):
        return F32(width * height) / F32(area_a + area_b - width * height)


def best_first(scores: np.ndarray) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i])


def naive_nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    rows = boxes.numpy()
    kept: list[int] = []
    for i in best_first(scores.numpy()):
        if all(not iou(rows[k], rows[i], offset) > F32(threshold) for k in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
def test_nms(ops: ModuleType, rng: torch.Generator, device: str, threshold: float, offset: int) -> None:
    boxes = random_boxes(rng, 150)
    scores = torch.randint(1, 40, (150,), generator=rng) / 40  # with ties
    dets, kept = ops.nms(boxes.to(device), scores.to(device), threshold, offset)
    assert kept.tolist() == naive_nms(boxes, scores, threshold, offset)
    assert torch.equal(dets.cpu(), torch.cat([boxes, scores[:, None]], dim=1)[kept.cpu()])
    assert kept.tolist() != naive_nms(boxes, scores, threshold, 1 - offset)
    assert kept.tolist() != naive_nms(boxes, scores, threshold + 0.1, offset)


@pytest.mark.parametrize(("overlap", "threshold"), [(3, 0.3), (6, 0.6), (7, 0.7)])
def test_nms_keeps_a_box_exactly_at_the_threshold(ops: ModuleType, overlap: int, threshold: float) -> None:
    """0.3, 0.6 and 0.7 are no binary fractions: in double they lie beside the IoU that single precision gives."""
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, overlap, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert len(ops.nms(boxes, scores, threshold)[1]) == 2
    assert len(ops.nms(boxes, scores, threshold - 1e-6)[1]) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nms_in_half_precision(ops: ModuleType, rng: torch.Generator, device: str, dtype: torch.dtype) -> None:
    boxes, scores = random_boxes(rng, 60), torch.randint(1, 60, (60,), generator=rng) / 64
    kept = ops.nms(boxes.to(device, dtype), scores.to(device, dtype), 0.5)[1]
    assert kept.tolist() == naive_nms(boxes, scores, 0.5, 0)


def test_nms_filters_by_score_and_count(ops: ModuleType, rng: torch.Generator) -> None:
    boxes, scores = random_boxes(rng, 60), torch.rand(60, generator=rng)
    kept = [i for i in naive_nms(boxes, scores, 0.5, 0) if scores[i] > 0.4]
    assert len(kept) > 5
    assert ops.nms(boxes, scores, 0.5, score_threshold=0.4, max_num=5)[1].tolist() == kept[:5]


def test_nms_of_nothing(ops: ModuleType) -> None:
    dets, kept = ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert (dets.shape, kept.shape, kept.dtype) == ((0, 5), (0,), torch.int64)


@pytest.mark.parametrize("split", [10000, 10])
def test_batched_nms_keeps_classes_apart(ops: ModuleType, rng: torch.Generator, split: int) -> None:
    boxes, labels = random_boxes(rng, 120), torch.randint(0, 3, (120,), generator=rng)
    scores = torch.rand(120, generator=rng)
    expected = []
    for label in range(3):
        members = (labels == label).nonzero().flatten()
        expected += members[naive_nms(boxes[members], scores[members], 0.5, 0)].tolist()
    expected.sort(key=lambda i: -scores[i])
    cfg = {"type": "nms", "iou_threshold": 0.5, "split_thr": split}
    assert ops.batched_nms(boxes, scores, labels, cfg)[1].tolist() == expected
    assert naive_nms(boxes, scores, 0.5, 0) != expected


def naive_soft_nms(
    boxes: Tensor, scores: Tensor, threshold: float, sigma: float, min_score: float, method: str, offset: int
) -> tuple[list[int], list[float]]:
    rows, left = boxes.numpy(), dict(enumerate(scores.numpy()))
    kept, kept_scores = [], []
    while left:
        best = max(left, key=lambda i: left[i])
        kept.append(best)
        kept_scores.append(float(left.pop(best)))
        for i in list(left):
            overlap = iou(rows[best], rows[i], offset)
            if method == "gaussian":
                left[i] *= F32(math.exp(-(overlap**2) / sigma))
            elif overlap >= threshold:
                left[i] *= F32(1) - overlap if method == "linear" else F32(0)
            if left[i] < min_score:
                del left[i]
    return kept, kept_scores


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms(ops: ModuleType, rng: torch.Generator, method: str, offset: int) -> None:
    boxes = random_boxes(rng, 60) + torch.rand(60, 4, generator=rng) * torch.tensor([0.0, 0, 1, 1])
    scores = torch.rand(60, generator=rng)
    dets, kept = ops.soft_nms(boxes, scores, 0.3, sigma=0.4, min_score=0.05, method=method, offset=offset)
    expected, expected_scores = naive_soft_nms(boxes, scores, 0.3, 0.4, 0.05, method, offset)
    assert kept.tolist() == expected
    assert torch.equal(dets[:, :4], boxes[expected])
    torch.testing.assert_close(dets[:, 4], torch.tensor(expected_scores))
    assert 5 < len(expected) < 60
    other = "linear" if method == "gaussian" else "gaussian"
    assert naive_soft_nms(boxes, scores, 0.3, 0.4, 0.05, other, offset)[1] != pytest.approx(expected_scores)


def test_soft_nms_keeps_the_best_box_whatever_its_score(ops: ModuleType) -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6]])
    assert ops.soft_nms(boxes, torch.tensor([0.01, 0.02]), min_score=0.5)[1].tolist() == [1]
    assert ops.soft_nms(boxes[:0], torch.zeros(0))[0].shape == (0, 5)


def test_nms_match_groups_what_it_suppresses(ops: ModuleType, rng: torch.Generator) -> None:
    boxes, scores = random_boxes(rng, 80), torch.randint(1, 30, (80,), generator=rng) / 30
    rows, left, expected = boxes.numpy(), best_first(scores.numpy()), []
    while left:
        best, *left = left
        group = [i for i in left if iou(rows[best], rows[i], 0) >= F32(0.5)]
        left = [i for i in left if i not in group]
        expected.append([best, *group])
    groups = ops.nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.5)
    assert [group.tolist() for group in groups] == expected
    assert 1 < len(expected) < 80


def test_nms_match_suppresses_at_the_threshold_where_nms_does_not(ops: ModuleType) -> None:
    dets = torch.tensor([[0.0, 0, 10, 1, 0.9], [0, 0, 5, 1, 0.8]])
    assert len(ops.nms_match(dets, 0.5)) == 1
    assert len(ops.nms(dets[:, :4], dets[:, 4].contiguous(), 0.5)[1]) == 2
