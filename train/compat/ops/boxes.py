"""Non-maximum suppression, as `mmcv/ops/nms.py` calls it.

Boxes are (x1, y1, x2, y2); a box is `x2 - x1 + offset` wide, where offset 1 is the convention that x2 and y2 are the
last pixels inside it.
"""

import numpy as np
import torch
import torchvision
from torch import Tensor

_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2  # the numbers mmcv/ops/nms.py gives the three kinds of soft NMS


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy NMS: a box goes when its IoU with a kept, better box is above the threshold.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: Compared in single precision, whatever the boxes' own, as mmcv does.
        offset: 0 or 1.

    Returns:
        Indices of the kept boxes, best first; among equal scores, in the order given.
    """
    boxes = boxes.float()
    # Far corners moved out by `offset` give the same widths, heights and overlaps with torchvision's offset of 0.
    grown = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torchvision.ops.nms(grown, scores.float(), _single(iou_threshold))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., arXiv 1704.04503): overlap lowers a box's score, and a low score removes the box.

    Args:
        boxes: (N, 4).
        scores: (N,).
        dets: (N, 5), receives the kept boxes with their new scores in its first rows.
        iou_threshold: From this IoU on, the naive method zeroes the score and the linear one multiplies it by 1 − IoU.
        sigma: Of the Gaussian method, which multiplies by exp(−IoU² / sigma).
        min_score: A box whose score falls below goes; the best box of all always stays.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: 0 or 1.

    Returns:
        Indices of the kept boxes, in the order in which they were picked.
    """
    index = torch.arange(len(boxes), device=boxes.device)
    picked: list[Tensor] = []
    while len(index):
        best = int(scores.argmax())
        dets[len(picked), :4], dets[len(picked), 4] = boxes[best], scores[best]
        picked.append(index[best])
        iou = _iou(boxes[best], boxes, offset)
        if method == _GAUSSIAN:
            factor = torch.exp(-(iou**2) / sigma)
        else:
            lowered = 1 - iou if method == _LINEAR else torch.zeros_like(iou)
            factor = torch.where(iou >= _single(iou_threshold), lowered, 1)
        scores = scores * factor
        stay = scores >= _single(min_score)
        stay[best] = False
        boxes, scores, index = boxes[stay], scores[stay], index[stay]
    return torch.stack(picked) if picked else index


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """NMS that keeps, with each kept box, the boxes it suppressed.

    Args:
        dets: (N, 5), boxes and scores.
        iou_threshold: A box is suppressed from this IoU on (unlike `nms`, which asks for more).

    Returns:
        One group of indices per kept box, that box first, each group best first.
    """
    boxes = dets[:, :4]
    order = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        best, rest = order[0], order[1:]
        suppressed = _iou(boxes[best], boxes[rest], offset=0) >= _single(iou_threshold)
        groups.append([int(best), *rest[suppressed].tolist()])
        order = rest[~suppressed]
    return groups


def _iou(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """IoU of one box, (4,), with each of N, (N, 4)."""
    overlap = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2]) + offset).clamp(min=0)
    intersection = overlap.prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
    return intersection / ((box[2:] - box[:2] + offset).prod() + areas - intersection)


def _single(threshold: float) -> float:
    """The threshold as the C++ `float` mmcv makes of it: an IoU of 0.3 in float32 is above 0.3 in double."""
    return float(np.float32(threshold))
