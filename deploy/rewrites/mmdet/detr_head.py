"""`predict_by_feat` of DETR's heads: the best queries, nothing suppressed. Source: mmdet/models/dense_heads/detr_head.py."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import DeformableDETRHead, DETRHead
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from deploy.detections import clip, gather, outputs
from deploy.rewrites import ran

REPLACES = (DETRHead.predict_by_feat, DeformableDETRHead.predict_by_feat)
RELIES_ON = (DETRHead._predict_by_feat_single,)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.DeformableDETRHead.predict_by_feat", backend="onnxruntime"
)
@FUNCTION_REWRITER.register_rewriter("mmdet.models.dense_heads.DETRHead.predict_by_feat", backend="onnxruntime")
def detr_head__predict_by_feat(
    self: DETRHead,
    layer_cls_scores: Tensor,
    layer_bbox_preds: Tensor,
    batch_img_metas: Sequence[dict[str, Any]],
    rescale: bool = True,
) -> tuple[Tensor, Tensor]:
    """Logits and boxes of every decoder layer, L×N×Q×… → `dets` N×K×5 and `labels` N×K of the last one."""
    ran(__name__)
    logits, boxes = layer_cls_scores[-1], layer_bbox_preds[-1]
    count = self.test_cfg.get("max_per_img", boxes.shape[1])
    if self.loss_cls.use_sigmoid:
        scores, index = logits.sigmoid().flatten(1).topk(count, dim=1)
        labels, query = index % self.num_classes, torch.div(index, self.num_classes, rounding_mode="floor")
    else:
        best, classes = logits.softmax(-1)[..., :-1].max(-1)
        scores, query = best.topk(count, dim=1)
        labels = classes.gather(1, query)
    size = batch_img_metas[0]["img_shape"]
    height, width = (torch.as_tensor(edge) for edge in size)
    corners = bbox_cxcywh_to_xyxy(gather(boxes, query)) * torch.stack([width, height, width, height]).to(boxes)
    return outputs(clip(corners, size), scores, labels)
