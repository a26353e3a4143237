"""`MaskFormerFusionHead.predict`, instances only: each query's best classes, and boxes around what it drew.

For a batch of any size. Sources: mmdet/models/seg_heads/panoptic_fusion_heads/maskformer_fusion_head.py; `mask2bbox` of
mmdet/structures/mask/utils.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import MaskFormerHead
from mmdet.models.seg_heads import MaskFormerFusionHead
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.detections import NONE, best, gather, outputs
from deploy.rewrites import ran

REPLACES = (MaskFormerHead.predict, MaskFormerFusionHead.predict)
RELIES_ON = (MaskFormerFusionHead.instance_postprocess,)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.maskformer_head.MaskFormerHead.predict", backend="onnxruntime"
)
def maskformer_head__predict(
    self: MaskFormerHead, x: Sequence[Tensor], batch_data_samples: Sequence[Any]
) -> tuple[Tensor, Tensor]:
    """Features of each level → class logits N×Q×(C+1) and mask logits N×Q×h×w, still at their own stride."""
    ran(__name__)
    classes, masks = self(x, batch_data_samples)
    return classes[-1], masks[-1]


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.seg_heads.panoptic_fusion_heads.maskformer_fusion_head.MaskFormerFusionHead.predict",
    backend="onnxruntime",
)
def maskformer_fusion_head__predict(
    self: MaskFormerFusionHead,
    mask_cls_results: Tensor,
    mask_pred_results: Tensor,
    batch_data_samples: Sequence[Any],
    rescale: bool = False,
    **_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `maskformer_head__predict` gave → `dets` N×K×5, `labels` N×K and `masks` N×K×h×w, logits."""
    ran(__name__)
    scores = mask_cls_results.softmax(-1)[..., :-1].flatten(1)
    count = self.test_cfg.get("max_per_image", 100)
    scores, index = scores.topk(count, dim=1)  # mmdet, too, stops where there are fewer
    labels, query = index % self.num_classes, torch.div(index, self.num_classes, rounding_mode="floor")
    full = F.interpolate(
        mask_pred_results, tuple(batch_data_samples[0].batch_input_shape), mode="bilinear", align_corners=False
    )
    inside = (full > 0).to(full)
    mean = (full.sigmoid() * inside).flatten(2).sum(2) / (inside.flatten(2).sum(2) + 1e-6)
    scores = torch.where(labels < self.num_things_classes, scores * mean.gather(1, query), NONE)
    order, scores = best(scores, count)
    query = query.gather(1, order)
    dets, labels = outputs(gather(_boxes(inside), query), scores, labels.gather(1, order))
    logits = gather(mask_pred_results.flatten(2), query)
    return dets, labels, logits.reshape(*query.shape, *mask_pred_results.shape[2:])


def _boxes(inside: Tensor) -> Tensor:
    """Boxes N×Q×4 around the ones of N×Q×H×W; zeros where there are none."""
    down, across = inside.amax(3), inside.amax(2)
    edges = [_edges(across), _edges(down)]
    boxes = torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], -1)
    return torch.where(down.amax(2)[..., None] > 0, boxes, torch.zeros_like(boxes))


def _edges(ones: Tensor) -> tuple[Tensor, Tensor]:
    """The place of the first one of each row, and the place past the last one."""
    size = torch.as_tensor(ones.shape[2]).to(ones)
    place = torch.arange(ones.shape[2], device=ones.device, dtype=ones.dtype)
    return size - ((size - place) * ones).amax(2), ((place + 1) * ones).amax(2)
