"""Detections of a batch as dense tensors: what mmdet does image by image with lists, for the rewrites of its heads.

Every image has the same number of rows. A row that holds nothing has score `NONE`; the graph's outputs give it score 0 and
label −1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deploy.operators import NonMaxSuppression

#: The score of a row without a detection: below every real one.
NONE = -1.0
#: As many as there are.
ALL = 2**31 - 1


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows of N×M×D values at N×K indices."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def clip(boxes: Tensor, size: Sequence[Any]) -> Tensor:
    """Boxes …×4 cut to an image of `size`, height and width, as numbers or traced."""
    height, width = (torch.as_tensor(edge) for edge in size)
    return torch.minimum(boxes.clamp(min=0), torch.stack([width, height, width, height]).to(boxes))


def large_enough(boxes: Tensor, least: float) -> Tensor:
    """Whether boxes …×4 are wider and higher than `least`; all of them where that is negative."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return (width > least) & (height > least)


def suppress(
    boxes: Tensor, scores: Tensor, groups: Tensor, nms: Mapping[str, Any], count: int | None
) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression within groups, as mmcv's `batched_nms` computes it: groups are moved apart.

    The same float32 arithmetic decides the same way: far from the origin it is coarse. (From 10,000 boxes of one image on,
    mmcv takes group by group: the same up to rounding.) Source: mmcv/ops/nms.py.

    Args:
        boxes: N×M×4.
        scores: N×M, `NONE` where there is nothing.
        groups: N×M int64, classes or levels.
        nms: mmdet's `nms` of a test config.
        count: rows of the result; None: M.

    Returns:
        indices into M, N×K int64, best first, and their scores, N×K, `NONE` past the last one.
    """
    shifted = boxes
    if not nms.get("class_agnostic", False):
        valid = (scores > NONE)[..., None]
        # Below every coordinate that counts, which may all be negative.
        farthest = torch.where(valid, boxes, boxes.amin((1, 2), keepdim=True)).amax((1, 2))
        shifted = boxes + (groups.to(boxes) * (farthest + 1)[:, None])[..., None]
    limit = ALL if count is None else count
    found = NonMaxSuppression.apply(shifted, scores[:, None], limit, nms["iou_threshold"], NONE / 2)
    total = scores.shape[1]
    place = found[:, 0] * total + found[:, 2]
    flat = scores.reshape(-1)
    kept = torch.full_like(flat, NONE).scatter(0, place, flat[place]).reshape(scores.shape)
    if count is None:
        return tuple(reversed(kept.topk(total, dim=1)))  # type: ignore[return-value]
    return best(kept, count)


def suppress_pairs(boxes: Tensor, scores: Tensor, config: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """mmdet's `multiclass_nms`: what is kept of all pairs of a box and a class. Source: mmdet/models/layers/bbox_nms.py.

    Args:
        boxes: N×M×C×4, or N×M×1×4 where classes share them.
        scores: N×M×C, `NONE` where there is nothing.
        config: mmdet's test config.

    Returns:
        boxes, N×K×4, scores and classes, N×K, best first.
    """
    batch, rows, classes = scores.shape[0], scores.shape[1], int(scores.shape[2])
    boxes = boxes.expand(-1, -1, classes, -1).reshape(batch, -1, 4)
    labels = torch.arange(classes, device=scores.device).repeat(rows).expand(batch, -1)
    index, kept = suppress(boxes, scores.flatten(1), labels, config["nms"], config["max_per_img"])
    return gather(boxes, index), kept, labels.gather(1, index)


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best of N×M scores, best first: indices and scores, N×count, `NONE` where there are fewer candidates."""
    padded = torch.cat([scores, scores.new_full((1, count), NONE).expand(scores.shape[0], -1)], 1)
    chosen, index = padded.topk(count, dim=1)
    return torch.minimum(index, torch.as_tensor(scores.shape[1]) - 1), chosen


def outputs(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """N×K×4, N×K, N×K → what the graph gives: `dets` N×K×5 and `labels` N×K."""
    real = scores > NONE
    dets = torch.cat([boxes, scores[..., None]], -1)
    return torch.where(real[..., None], dets, torch.zeros_like(dets)), torch.where(real, labels, -1)
