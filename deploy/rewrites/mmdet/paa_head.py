"""PAA's head: places are chosen by their best class, and what is suppressed votes on where a kept box lies.

A box kept is the mean of all candidates of its class that overlap it, by score and by IoU: a product of matrices. Rows stay
best first; mmdet's come class by class. A kept box without an area is 0 / 0 there and here.
Source: mmdet/models/dense_heads/paa_head.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import PAAHead
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from deploy.detections import NONE, gather, outputs, suppress_pairs
from deploy.rewrites.mmdet.dense_head import decode, detect, rows

REPLACES = ()
RELIES_ON = (PAAHead.predict_by_feat, PAAHead._predict_by_feat_single, PAAHead._bbox_post_process)


@detect.register
def paa_head__detect(
    head: PAAHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    score_factors: Sequence[Tensor],
    size: Sequence[Any],
    config: Any,
) -> tuple[Tensor, Tensor]:
    """The head's maps, N×…×h×w a level → `dets` N×K×5 and `labels` N×K."""
    places = _places(head, cls_scores, bbox_preds, score_factors, config.get("nms_pre", -1))
    scores, deltas, priors = (torch.cat(each, 1) for each in zip(*places, strict=True))
    boxes = decode(head.bbox_coder, priors, deltas, size)
    scores = torch.where(scores > config["score_thr"], scores, NONE)
    kept, best, labels = suppress_pairs(boxes[:, :, None], scores, config)
    if head.with_score_voting:
        kept = _voted(kept, boxes, gather(scores.transpose(1, 2), labels))
    return outputs(kept, best, labels)


def _places(
    head: PAAHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    score_factors: Sequence[Tensor],
    limit: int,
) -> list[list[Tensor]]:
    """Of each level the best places: scores N×P×C, predictions N×P×4 and priors N×P×4."""
    priors = head.prior_generator.grid_priors([maps.shape[-2:] for maps in cls_scores], device=cls_scores[0].device)
    found = []
    for scores, deltas, factors, own in zip(cls_scores, bbox_preds, score_factors, priors, strict=True):
        place = (rows(scores, head.cls_out_channels).sigmoid() * rows(factors, 1).sigmoid()).sqrt()
        level = [place, rows(deltas, 4), own.expand(deltas.shape[0], -1, -1)]
        if limit > 0:
            index = place.amax(-1).topk(limit, dim=1)[1]  # MMDeploy's topk takes what there is
            level = [gather(each, index) for each in level]
        found.append(level)
    return found


def _voted(kept: Tensor, boxes: Tensor, scores: Tensor) -> Tensor:
    """Boxes N×K×4 kept of N×M×4, and the N×K×M scores that each of these has for the kept one's class → N×K×4."""
    ious = bbox_overlaps(kept, boxes)
    votes = torch.exp(-((1 - ious) ** 2) / 0.025) * scores
    votes = torch.where((ious > 0.01) & (scores > NONE), votes, 0)
    return votes @ boxes / votes.sum(-1, keepdim=True)
