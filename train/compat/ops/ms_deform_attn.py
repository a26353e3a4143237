"""Multi-scale deformable attention (Zhu et al., Deformable DETR, arXiv 2010.04159).

As `mmcv/ops/multi_scale_deform_attn.py` calls it for tensors on a GPU. That file has the same sum in plain torch for
the CPU; it runs on any device, and autograd differentiates it.
"""

import torch
from torch import Tensor


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sum bilinear samples of every level by their attention weights.

    Args:
        value: (N, sum of H · W over the L levels, heads, D).
        spatial_shapes: (L, 2), the height and width of each level.
        level_start_index: (L,), unused: it follows from spatial_shapes.
        sampling_locations: (N, queries, heads, L, points, 2), x and y in 0..1 of the level's width and height.
        attention_weights: (N, queries, heads, L, points).
        im2col_step: Unused.

    Returns:
        (N, queries, heads · D).
    """
    return _attend(value, spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Add the gradients by value, locations and weights to the three tensors given."""
    inputs = [x.detach().requires_grad_() for x in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = _attend(inputs[0], spatial_shapes, inputs[1], inputs[2])
    totals = (grad_value, grad_sampling_loc, grad_attn_weight)
    for total, gradient in zip(totals, torch.autograd.grad(output, inputs, grad_output), strict=True):
        total.add_(gradient)


def _attend(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    # mmcv imports its ops from the stand-in, so the stand-in can import them only once it is installed.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    shapes = spatial_shapes.tolist()  # numbers, where tensors on a GPU would be fetched one by one
    output = multi_scale_deformable_attn_pytorch(value, shapes, sampling_locations, attention_weights)
    return output.to(value.dtype)  # autocast samples in single precision
