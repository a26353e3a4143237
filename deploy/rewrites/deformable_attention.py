"""`MultiScaleDeformableAttention` as `GridSample`, for any image size.

What mmcv computes on processors without its kernel, in fewer nodes: sizes stay tensors. Source:
mmcv/ops/multi_scale_deform_attn.py; X. Zhu et al., "Deformable DETR", 2020 (arXiv:2010.04159).
"""

from typing import Any

import torch
from mmcv.ops import multi_scale_deform_attn
from mmdeploy.core import FUNCTION_REWRITER
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran

REPLACES = (multi_scale_deform_attn.multi_scale_deformable_attn_pytorch,)


@FUNCTION_REWRITER.register_rewriter(
    "mmcv.ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch", backend="onnxruntime"
)
def multi_scale_deformable_attn(
    value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Weighted samples of every level's map.

    Args:
        value: N×(Σ h·w)×heads×E.
        value_spatial_shapes: L×2, height and width of each level.
        sampling_locations: N×Q×heads×L×P×2, x and y from 0 to 1.
        attention_weights: N×Q×heads×L×P.

    Returns:
        N×Q×(heads·E).
    """
    ran(__name__)
    batch, queries, heads, levels, points, _ = sampling_locations.shape
    channels = value.shape[3]
    grids = (2 * sampling_locations - 1).permute(3, 0, 2, 1, 4, 5).reshape(levels, -1, queries, points, 2)
    sampled, start = [], torch.zeros((), dtype=torch.int64, device=value.device)
    for level in range(levels):
        height: Any = value_spatial_shapes[level, 0]  # a 0-d tensor, which tracing follows
        width: Any = value_spatial_shapes[level, 1]
        stop = start + height * width
        maps = value[:, start:stop].permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        sampled.append(F.grid_sample(maps, grids[level], mode="bilinear", padding_mode="zeros", align_corners=False))
        start = stop
    weights = attention_weights.transpose(1, 2).reshape(-1, 1, queries, levels * points)
    mixed = (torch.stack(sampled, dim=-2).flatten(-2) * weights).sum(-1)
    return mixed.reshape(batch, heads * channels, queries).transpose(1, 2)
