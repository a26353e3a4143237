"""`CascadeRoIHead.predict_bbox` and `predict_mask`: each stage refines the boxes of the one before it; scores and masks are
averages of all stages. For a batch of any size; Hybrid Task Cascade's `predict_mask` too, whose last stage alone counts.

Sources: mmdet/models/roi_heads/cascade_roi_head.py, htc_roi_head.py; Z. Cai and N. Vasconcelos, "Cascade R-CNN", 2018
(arXiv:1712.00726); K. Chen et al., "Hybrid Task Cascade for Instance Segmentation", 2019 (arXiv:1901.07518).
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.roi_heads import CascadeRoIHead, HybridTaskCascadeRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from torch import Tensor

from deploy.rewrites import ran
from deploy.rewrites.mmdet.dense_head import decode
from deploy.rewrites.mmdet.roi_head import box_masks, detections, present_regions, regions

REPLACES = (CascadeRoIHead.predict_bbox, CascadeRoIHead.predict_mask, HybridTaskCascadeRoIHead.predict_mask)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.roi_heads.cascade_roi_head.CascadeRoIHead.predict_bbox", backend="onnxruntime"
)
def cascade_roi_head__predict_bbox(
    self: CascadeRoIHead,
    x: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]],
    rpn_results_list: tuple[Tensor, Tensor],
    rcnn_test_cfg: Any,
    rescale: bool = False,
    **semantic: Tensor,
) -> tuple[Tensor, Tensor]:
    """Features and proposals (`dets` N×P×5, `labels` N×P) → `dets` N×K×5 and `labels` N×K."""
    ran(__name__)
    boxes, present = rpn_results_list[0][..., :4], rpn_results_list[1] >= 0
    size, stages = batch_img_metas[0]["img_shape"], []
    for stage, head in enumerate(self.bbox_head):
        found = self._bbox_forward(stage, x, regions(boxes), **semantic)
        logits, deltas = (found[name].reshape(*present.shape, -1) for name in ("cls_score", "bbox_pred"))
        stages.append(logits)
        if stage < self.num_stages - 1:
            boxes = refined(head, boxes, logits, deltas, size)
    mean = sum(stages) / float(len(stages))
    return detections(head, boxes, present, mean, deltas, size, rcnn_test_cfg)


def refined(head: BBoxHead, boxes: Tensor, logits: Tensor, deltas: Tensor, size: Sequence[Any]) -> Tensor:
    """Boxes N×P×4 moved by what a stage says of their likeliest class: logits N×P×(C+1), deltas N×P×4 or N×P×(4·C)."""
    if not head.reg_class_agnostic:
        first = 4 * logits[..., :-1].argmax(-1, keepdim=True)
        deltas = deltas.gather(2, first + torch.arange(4, device=first.device))
    return decode(head.bbox_coder, boxes, deltas, size)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.roi_heads.cascade_roi_head.CascadeRoIHead.predict_mask", backend="onnxruntime"
)
def cascade_roi_head__predict_mask(
    self: CascadeRoIHead,
    x: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]],
    results_list: tuple[Tensor, Tensor],
    rescale: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Features, `dets` N×K×5 and `labels` N×K → those two and `masks` N×K×h×w, probabilities over each box."""
    ran(__name__)
    dets, labels = results_list
    real, rois = present_regions(dets, labels)
    stages = [self._mask_forward(stage, x, rois)["mask_preds"] for stage in range(self.num_stages)]
    return dets, labels, box_masks(self.mask_head[-1], stages, real, labels)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.roi_heads.htc_roi_head.HybridTaskCascadeRoIHead.predict_mask", backend="onnxruntime"
)
def htc_roi_head__predict_mask(
    self: HybridTaskCascadeRoIHead,
    x: Sequence[Tensor],
    semantic_heat: Tensor | None,
    batch_img_metas: Sequence[dict[str, Any]],
    results_list: tuple[Tensor, Tensor],
    rescale: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, with the features of the semantic branch, where there is one, N×C×h×w."""
    ran(__name__)
    dets, labels = results_list
    real, rois = present_regions(dets, labels)
    stages = self._mask_forward(-1, x, rois, semantic_feat=semantic_heat, training=False)["mask_preds"]
    return dets, labels, box_masks(self.mask_head[-1], stages, real, labels)
