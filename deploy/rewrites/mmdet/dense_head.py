"""`predict_by_feat` of mmdet's dense heads: candidates of each level, decoding, suppression. For a batch of any size.

Candidates are pairs of a place and a class, as mmdet counts them; MMDeploy takes the best places with all their classes,
which keeps others. Sources: mmdet/models/dense_heads/base_dense_head.py, rpn_head.py; mmdet/models/utils/misc.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    config = cfg or self.test_cfg
    found = candidates(self, cls_scores, bbox_preds, score_factors, batch_img_metas[0]["img_shape"], config)
    index, scores = suppress(found.boxes, found.scores, found.groups, config["nms"], config["max_per_img"])
    labels = torch.zeros_like(index) if isinstance(self, RPNHead) else found.groups.gather(1, index)
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
    best, groups, places, first = [], [], [], 0
    for level, maps in enumerate(cls_scores):
        pairs, classes = _scores(head, maps)
        if not proposes:  # a region proposal needs no score
            pairs = torch.where(pairs > config.get("score_thr", 0), pairs, NONE)
        limit = config.get("nms_pre", -1)
        if limit > 0:
            pairs, index = pairs.topk(limit, dim=1)  # MMDeploy's topk takes what there is
        else:
            index = torch.arange(pairs.shape[1], device=pairs.device).expand_as(pairs)
        place = torch.div(index, classes, rounding_mode="floor")
        if score_factors is not None:
            factors = _rows(score_factors[level], 1)[..., 0].sigmoid().gather(1, place)
            pairs = torch.where(pairs > NONE, pairs * factors, NONE)
        best.append(pairs)
        groups.append(torch.full_like(index, level) if proposes else index % classes)
        places.append(place + first)
        first = first + priors[level].shape[0]
    chosen = torch.cat(places, 1)
    deltas = torch.cat([_rows(each, head.bbox_coder.encode_size) for each in bbox_preds], 1)
    boxes = decode(head.bbox_coder, torch.cat(list(priors))[chosen], gather(deltas, chosen), size)
    scores = torch.cat(best, 1)
    if config.get("min_bbox_size", -1) >= 0:
        scores = torch.where(large_enough(boxes, config.min_bbox_size), scores, NONE)
    return Candidates(boxes, scores, torch.cat(groups, 1), chosen)


def decode(coder: Any, priors: Tensor, deltas: Tensor, size: Sequence[Any]) -> Tensor:
    """Boxes N×M×(4·C) of N×M×(2 or 4) priors and N×M×(4·C) deltas, cut to the image where the coder does that."""
    boxes = coder.decode(priors, deltas, max_shape=None)
    if not getattr(coder, "clip_border", False):
        return boxes
    return clip(boxes.reshape(*boxes.shape[:-1], -1, 4), size).reshape(boxes.shape)


def _rows(maps: Tensor, width: int) -> Tensor:
    """N×(A·D)×h×w → N×(h·w·A)×D."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width)


def _scores(head: BaseDenseHead, maps: Tensor) -> tuple[Tensor, int]:
    """Scores of each place and class, N×(P·C), and C."""
    logits = _rows(maps, head.cls_out_channels)
    scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]
    classes = head.cls_out_channels if head.use_sigmoid_cls else head.cls_out_channels - 1
    return scores.flatten(1), classes
