"""YOLACT: the fast suppression of its boxes, and masks that mix prototypes. For a batch of any size.

Sources: mmdet/models/dense_heads/yolact_head.py; `fast_nms` of mmdet/models/layers/bbox_nms.py; D. Bolya et al., "YOLACT",
2019 (arXiv:1904.02689), sections 3.1 and 5.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import YOLACTHead, YOLACTProtonet
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from deploy.detections import NONE, best, gather, outputs
from deploy.rewrites import ran
from deploy.rewrites.mmdet.dense_head import decode, rows

REPLACES = (YOLACTHead.predict_by_feat, YOLACTProtonet.forward, YOLACTProtonet.predict_by_feat)
RELIES_ON = (
    YOLACTHead._predict_by_feat_single,
    YOLACTHead._bbox_post_process,
    YOLACTProtonet._predict_by_feat_single,
)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.yolact_head.YOLACTHead.predict_by_feat", backend="onnxruntime"
)
def yolact_head__predict_by_feat(
    self: YOLACTHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    coeff_preds: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]],
    cfg: Any = None,
    rescale: bool = True,
    **_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """The head's maps, N×…×h×w a level → `dets` N×K×5, `labels` N×K and coefficients of prototypes N×K×D."""
    ran(__name__)
    config = cfg or self.test_cfg
    priors = self.prior_generator.grid_priors([maps.shape[-2:] for maps in cls_scores], device=cls_scores[0].device)
    chosen: list[tuple[Tensor, ...]] = []
    for classes, deltas, coefficients, own in zip(cls_scores, bbox_preds, coeff_preds, priors, strict=True):
        logits = rows(classes, self.cls_out_channels)
        scores = logits.sigmoid() if self.use_sigmoid_cls else logits.softmax(-1)[..., :-1]
        level = (scores, rows(deltas, 4), rows(coefficients, self.num_protos), own.expand(scores.shape[0], -1, -1))
        if config.get("nms_pre", -1) > 0:
            place = scores.amax(-1).topk(config.nms_pre, dim=1)[1]  # MMDeploy's topk takes what there is
            level = tuple(gather(each, place) for each in level)  # type: ignore[assignment]
        chosen.append(level)
    scores, deltas, coefficients, anchors = (torch.cat(kind, 1) for kind in zip(*chosen, strict=True))
    boxes = decode(self.bbox_coder, anchors, deltas, batch_img_metas[0]["img_shape"])
    place, scores, labels = _suppress(boxes, scores, config)
    return *outputs(gather(boxes, place), scores, labels), gather(coefficients, place)


def _suppress(boxes: Tensor, scores: Tensor, config: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What is left of N×M×4 boxes and their N×M×C scores: rows of M, scores (`NONE` past the last one) and classes, N×K.

    Of each class, a box goes that a better one overlaps, whether or not that one went itself.
    """
    classes = int(scores.shape[2])
    ranked, place = scores.transpose(1, 2).topk(config.top_k, dim=2)
    own = gather(boxes, place.flatten(1)).reshape(*place.shape, 4)
    better = bbox_overlaps(own, own).triu(diagonal=1).amax(2)
    ranked = torch.where((better <= config.iou_thr) & (ranked > config.score_thr), ranked, NONE)
    labels = torch.arange(classes, device=scores.device)[:, None].expand_as(place)
    index, kept = best(ranked.flatten(1), config.max_per_img)
    return place.flatten(1).gather(1, index), kept, labels.flatten(1).gather(1, index)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.yolact_head.YOLACTProtonet.forward", backend="onnxruntime"
)
def yolact_protonet__forward(
    self: YOLACTProtonet, x: Sequence[Tensor], positive_infos: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, None]:
    """Features of each level and what `predict_by_feat` of the boxes gave → probabilities N×K×h×w, nothing cut off."""
    ran(__name__)
    prototypes = self.protonet(x[0])
    mixed = positive_infos[2] @ prototypes.flatten(2)
    return mixed.reshape(*mixed.shape[:2], *prototypes.shape[2:]).sigmoid(), None


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.yolact_head.YOLACTProtonet.predict_by_feat", backend="onnxruntime"
)
def yolact_protonet__predict_by_feat(
    self: YOLACTProtonet,
    mask_preds: Tensor,
    segm_preds: None,
    results_list: tuple[Tensor, Tensor, Tensor],
    batch_img_metas: Sequence[dict[str, Any]],
    rescale: bool = True,
    **_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut each mask to its box → `dets`, `labels` and `masks` N×K×h×w, probabilities less the threshold."""
    ran(__name__)
    dets, labels, _coefficients = results_list
    height, width = batch_img_metas[0]["img_shape"]
    inside = _between(dets[..., 0], dets[..., 2], width, mask_preds.shape[3])[:, :, None]
    inside = inside & _between(dets[..., 1], dets[..., 3], height, mask_preds.shape[2])[..., None]
    return dets, labels, mask_preds * inside.to(mask_preds) - self.test_cfg.mask_thr


def _between(low: Tensor, high: Tensor, size: Any, cells: Any) -> Tensor:
    """Which of a map's `cells` lie between two edges N×K of an image, one cell more on both sides: N×K×cells."""
    low, high = (each / torch.as_tensor(size).to(each) * cells for each in (low, high))
    start = (torch.minimum(low, high) - 1).clamp(min=0)
    stop = torch.minimum(torch.maximum(low, high) + 1, torch.as_tensor(cells).to(high))
    place = torch.arange(cells, device=low.device, dtype=low.dtype)
    return (place >= start[..., None]) & (place < stop[..., None])
