"""`predict_by_feat` of mmdet's dense heads: candidates of each level, decoding, suppression. For a batch of any size.

Candidates are pairs of a place and a class, as mmdet counts them; MMDeploy takes the best places with all their classes,
which keeps others. Heads that share the function and differ inside it register what they do with `detect` or `decoded`, a
file each. Sources: mmdet/models/dense_heads/base_dense_head.py, rpn_head.py; mmdet/models/utils/misc.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor

from deploy.detections import NONE, clip, gather, large_enough, outputs, suppress
from deploy.rewrites import ran

REPLACES = (BaseDenseHead.predict_by_feat,)
RELIES_ON = (
    BaseDenseHead._predict_by_feat_single,
    BaseDenseHead._bbox_post_process,
    RPNHead._predict_by_feat_single,
    RPNHead._bbox_post_process,
)


@dataclass
class Candidates:
    """What suppression chooses from: N×M rows.

    Attributes:
        boxes: N×M×4, decoded.
        scores: N×M, `NONE` where there is nothing.
        groups: N×M int64, the class, or the level of a region proposal.
        places: N×M int64, the row of all levels' priors, one level after the other.
    """

    boxes: Tensor
    scores: Tensor
    groups: Tensor
    places: Tensor


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.base_dense_head.BaseDenseHead.predict_by_feat", backend="onnxruntime"
)
@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.rtmdet_head.RTMDetHead.predict_by_feat", backend="onnxruntime"
)
@FUNCTION_REWRITER.register_rewriter("mmdet.models.dense_heads.rpn_head.RPNHead.predict_by_feat", backend="onnxruntime")
def base_dense_head__predict_by_feat(
    self: BaseDenseHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    score_factors: Sequence[Tensor] | None = None,
    batch_img_metas: Sequence[dict[str, Any]] = (),
    cfg: Any = None,
    rescale: bool = False,
    with_nms: bool = True,
) -> tuple[Tensor, Tensor]:
    """The head's maps, N×…×h×w a level → `dets` N×K×5 and `labels` N×K."""
    ran(__name__)
    return detect(self, cls_scores, bbox_preds, score_factors, batch_img_metas[0]["img_shape"], cfg or self.test_cfg)


@singledispatch
def detect(
    head: BaseDenseHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    score_factors: Sequence[Tensor] | None,
    size: Sequence[Any],
    config: Any,
) -> tuple[Tensor, Tensor]:
    """What `predict_by_feat` gives of an image's `size` by the test config."""
    found = candidates(head, cls_scores, bbox_preds, score_factors, size, config)
    index, scores = suppress(found.boxes, found.scores, found.groups, config["nms"], config["max_per_img"])
    labels = torch.zeros_like(index) if isinstance(head, RPNHead) else found.groups.gather(1, index)
    return outputs(gather(found.boxes, index), scores, labels)


def candidates(
    head: BaseDenseHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    score_factors: Sequence[Tensor] | None,
    size: Sequence[Any],
    config: Any,
) -> Candidates:
    """The best pairs of place and class of each level, above the score threshold, with their decoded boxes."""
    priors = head.prior_generator.grid_priors([scores.shape[-2:] for scores in cls_scores], device=cls_scores[0].device)
    proposes = isinstance(head, RPNHead)
    scores, groups, places, levels, first = [], [], [], [], 0
    for level, maps in enumerate(cls_scores):
        factors = None if score_factors is None else rows(score_factors[level], 1)[..., 0].sigmoid()
        best, labels, place = best_pairs(_scores(head, maps), factors, config, above=not proposes)
        scores.append(best)
        levels.append(torch.full_like(labels, level))
        groups.append(levels[-1] if proposes else labels)
        places.append(place + first)
        first = first + priors[level].shape[0]
    chosen = torch.cat(places, 1)
    # All levels predict as much for an anchor, however many anchors a place has.
    width = int(bbox_preds[0].shape[1]) * head.cls_out_channels // int(cls_scores[0].shape[1])
    deltas = torch.cat([rows(maps, width) for maps in bbox_preds], 1)
    boxes = decoded(head, torch.cat(list(priors))[chosen], gather(deltas, chosen), torch.cat(levels, 1), size)
    return Candidates(boxes, large(boxes, torch.cat(scores, 1), config), torch.cat(groups, 1), chosen)


def best_pairs(
    scores: Tensor, factors: Tensor | None, config: Any, *, above: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of a place and a class: their scores, `NONE` past the last one, classes and places, all N×K.

    Args:
        scores: N×P×C.
        factors: N×P, what a place's scores are multiplied by once the pairs are chosen.
        config: mmdet's test config.
        above: whether pairs must be above the score threshold; a region proposal needs no score.
    """
    classes = int(scores.shape[2])
    pairs = scores.flatten(1)
    if above:
        pairs = torch.where(pairs > config.get("score_thr", 0), pairs, NONE)
    limit = config.get("nms_pre", -1)
    if limit > 0:
        pairs, index = pairs.topk(limit, dim=1)  # MMDeploy's topk takes what there is
    else:
        index = torch.arange(pairs.shape[1], device=pairs.device).expand_as(pairs)
    places = torch.div(index, classes, rounding_mode="floor")
    if factors is not None:
        pairs = torch.where(pairs > NONE, pairs * factors.gather(1, places), NONE)
    return pairs, index % classes, places


def large(boxes: Tensor, scores: Tensor, config: Any) -> Tensor:
    """Scores N×M, `NONE` where a box is not as large as the test config asks."""
    if config.get("min_bbox_size", -1) < 0:
        return scores
    return torch.where(large_enough(boxes, config["min_bbox_size"]), scores, NONE)


@singledispatch
def decoded(head: BaseDenseHead, priors: Tensor, deltas: Tensor, levels: Tensor, size: Sequence[Any]) -> Tensor:
    """Boxes N×M×4 of N×M×(2 or 4) priors, N×M×D predictions and the N×M levels that they come from."""
    return decode(head.bbox_coder, priors, deltas, size)


def decode(coder: Any, priors: Tensor, deltas: Tensor, size: Sequence[Any]) -> Tensor:
    """Boxes N×M×(4·C) of N×M×(2 or 4) priors and N×M×(4·C) deltas, cut to the image where the coder does that."""
    boxes = coder.decode(priors, deltas, max_shape=None)
    if not getattr(coder, "clip_border", False):
        return boxes
    return clip(boxes.reshape(*boxes.shape[:-1], -1, 4), size).reshape(boxes.shape)


def rows(maps: Tensor, width: int) -> Tensor:
    """N×(A·D)×h×w → N×(h·w·A)×D."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width)


def _scores(head: BaseDenseHead, maps: Tensor) -> Tensor:
    """Scores of each place and class, N×P×C."""
    logits = rows(maps, head.cls_out_channels)
    return logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]
