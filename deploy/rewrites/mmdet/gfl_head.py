"""Boxes of GFL's head: the distance of an edge is the mean of a distribution. Source: mmdet/models/dense_heads/gfl_head.py."""

from collections.abc import Sequence
from typing import Any

from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import GFLHead
from torch import Tensor

from deploy.rewrites.mmdet.dense_head import base_dense_head__predict_by_feat, decode, decoded

REPLACES = ()
RELIES_ON = (GFLHead._predict_by_feat_single,)

FUNCTION_REWRITER.register_rewriter("mmdet.models.dense_heads.gfl_head.GFLHead.predict_by_feat", backend="onnxruntime")(
    base_dense_head__predict_by_feat
)


@decoded.register
def gfl_head__decoded(head: GFLHead, priors: Tensor, deltas: Tensor, levels: Tensor, size: Sequence[Any]) -> Tensor:
    """Boxes of N×M×(4·bins) logits, in strides of each candidate's level."""
    strides = priors.new_tensor([stride for stride, _ in head.prior_generator.strides])
    distances = head.integral(deltas).reshape(*deltas.shape[:2], 4) * strides[levels][..., None]
    return decode(head.bbox_coder, head.anchor_center(priors), distances, size)
