"""Boxes of RepPoints' head: corners in strides from each place. Source: mmdet/models/dense_heads/reppoints_head.py."""

from collections.abc import Sequence
from typing import Any

from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import RepPointsHead
from torch import Tensor

from deploy.detections import clip
from deploy.rewrites.mmdet.dense_head import base_dense_head__predict_by_feat, decoded

REPLACES = ()
RELIES_ON = (RepPointsHead._predict_by_feat_single,)

FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.reppoints_head.RepPointsHead.predict_by_feat", backend="onnxruntime"
)(base_dense_head__predict_by_feat)


@decoded.register
def reppoints_head__decoded(
    head: RepPointsHead, priors: Tensor, deltas: Tensor, levels: Tensor, size: Sequence[Any]
) -> Tensor:
    """Boxes of N×M×4 corners about their places, cut to the image."""
    strides = priors.new_tensor(head.point_strides)[levels][..., None]
    return clip(deltas * strides + priors.repeat(1, 1, 2), size)
