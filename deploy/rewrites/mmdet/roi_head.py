"""`StandardRoIHead.predict_bbox` and `predict_mask`: boxes, and masks where there are some, of region proposals.

For a batch of any size. What a cascade shares with it is here too. Sources: mmdet/models/roi_heads/base_roi_head.py,
standard_roi_head.py; mmdet/models/roi_heads/bbox_heads/bbox_head.py; mmdet/models/layers/bbox_nms.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.standard_roi_head import StandardRoIHead
from torch import Tensor

from deploy.detections import NONE, outputs, suppress_pairs
from deploy.rewrites import ran
from deploy.rewrites.mmdet.dense_head import decode

REPLACES = (StandardRoIHead.predict_bbox, StandardRoIHead.predict_mask)
RELIES_ON = (
    BBoxHead.predict_by_feat,
    BBoxHead._predict_by_feat_single,
    FCNMaskHead.predict_by_feat,
    FCNMaskHead._predict_by_feat_single,
)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.roi_heads.standard_roi_head.StandardRoIHead.predict_bbox", backend="onnxruntime"
)
def standard_roi_head__predict_bbox(
    self: StandardRoIHead,
    x: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]],
    rpn_results_list: tuple[Tensor, Tensor],
    rcnn_test_cfg: Any,
    rescale: bool = False,
) -> tuple[Tensor, Tensor]:
    """Features and proposals (`dets` N×P×5, `labels` N×P) → `dets` N×K×5 and `labels` N×K."""
    ran(__name__)
    proposals, present = rpn_results_list[0][..., :4], rpn_results_list[1] >= 0
    found = self._bbox_forward(x, regions(proposals))
    logits, deltas = (found[name].reshape(*present.shape, -1) for name in ("cls_score", "bbox_pred"))
    size = batch_img_metas[0]["img_shape"]
    return detections(self.bbox_head, proposals, present, logits, deltas, size, rcnn_test_cfg)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.roi_heads.standard_roi_head.StandardRoIHead.predict_mask", backend="onnxruntime"
)
def standard_roi_head__predict_mask(
    self: StandardRoIHead,
    x: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]],
    results_list: tuple[Tensor, Tensor],
    rescale: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Features, `dets` N×K×5 and `labels` N×K → those two and `masks` N×K×h×w, probabilities over each box."""
    ran(__name__)
    dets, labels = results_list
    real, rois = present_regions(dets, labels)
    return dets, labels, box_masks(self.mask_head, [self._mask_forward(x, rois)["mask_preds"]], real, labels)


def detections(
    head: BBoxHead,
    proposals: Tensor,
    present: Tensor,
    logits: Tensor,
    deltas: Tensor,
    size: Sequence[Any],
    config: Any,
) -> tuple[Tensor, Tensor]:
    """`dets` N×K×5 and `labels` N×K.

    Args:
        head: the one that says `deltas`.
        proposals: N×P×4.
        present: N×P, whether there is one.
        logits: N×P×(C+1), the background last.
        deltas: N×P×4, or N×P×(4·C).
        size: height and width of the image, traced.
        config: mmdet's `rcnn` of a test config.
    """
    scores = logits.softmax(-1)[..., :-1]
    scores = torch.where((scores > config["score_thr"]) & present[..., None], scores, NONE)
    boxes = decode(head.bbox_coder, proposals, deltas, size).reshape(*present.shape, -1, 4)
    return outputs(*suppress_pairs(boxes, scores, config))


def regions(boxes: Tensor) -> Tensor:
    """N×P×4 boxes → (N·P)×5, the index of the image first."""
    images = torch.arange(boxes.shape[0], device=boxes.device).to(boxes)
    return torch.cat([images[:, None, None].expand(-1, boxes.shape[1], 1), boxes], -1).reshape(-1, 5)


def present_regions(dets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which of N·K rows hold a detection, R int64, and their regions, R×5: a mask costs more than a box."""
    real = torch.nonzero(labels.flatten() >= 0)[:, 0]
    return real, regions(dets[..., :4])[real]


def box_masks(head: FCNMaskHead, stages: Sequence[Tensor], real: Tensor, labels: Tensor) -> Tensor:
    """Probabilities of each detection's own class over its box, N×K×h×w; zeros where there is no detection.

    Args:
        head: the masks' own; it may know no classes.
        stages: of a cascade, whose average counts, or one: logits R×C×h×w of the regions alone.
        real: R, their rows of N·K.
        labels: N×K.
    """
    chosen = labels.flatten()[real][:, None, None, None]
    masks = []
    for logits in stages:
        if not head.class_agnostic:
            logits = logits.gather(1, chosen.expand(-1, 1, *logits.shape[2:]))
        masks.append(logits[:, 0].sigmoid())
    mean = torch.stack(masks).mean(0) if len(masks) > 1 else masks[0]
    height, width = mean.shape[1:]
    empty = mean.new_zeros(1).expand(labels.numel(), height * width)
    place = real[:, None].expand(-1, height * width)
    return empty.scatter(0, place, mean.flatten(1)).reshape(*labels.shape, height, width)
