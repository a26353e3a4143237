"""Boxes of FoveaBox's head: distances in edges of each level's own length. Source: mmdet/models/dense_heads/fovea_head.py."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import FoveaHead
from torch import Tensor

from deploy.detections import clip
from deploy.rewrites.mmdet.dense_head import base_dense_head__predict_by_feat, decoded

REPLACES = ()
RELIES_ON = (FoveaHead._predict_by_feat_single,)

FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.fovea_head.FoveaHead.predict_by_feat", backend="onnxruntime"
)(base_dense_head__predict_by_feat)


@decoded.register
def fovea_head__decoded(head: FoveaHead, priors: Tensor, deltas: Tensor, levels: Tensor, size: Sequence[Any]) -> Tensor:
    """Boxes of N×M×4 logarithms, cut to the image's last pixels rather than to its edges."""
    distances = priors.new_tensor(head.base_edge_list)[levels][..., None] * deltas.exp()
    boxes = torch.cat([priors - distances[..., :2], priors + distances[..., 2:]], -1)
    return clip(boxes, [edge - 1 for edge in size])
