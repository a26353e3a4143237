"""RoIAlign (He et al., Mask R-CNN, arXiv 1703.06870), as `mmcv/ops/roi_align.py` calls it."""

import torch
from torch import Tensor

from train.compat.ops.errors import UnsupportedOpError
from train.compat.ops.precision import widen

_AVERAGE = 1  # the number mmcv/ops/roi_align.py gives pool_mode='avg'


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average bilinear samples of each region into a grid of bins.

    Args:
        input: Features, (N, C, H, W).
        rois: (R, 5), the image's index in the batch and x1, y1, x2, y2 in pixels of the image.
        output: (R, C, aligned_height, aligned_width), receives the bins.
        argmax_y: Unused; of max pooling.
        argmax_x: Unused; of max pooling.
        aligned_height: Bins of a region, vertically.
        aligned_width: Bins of a region, horizontally.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples per bin and axis; 0 takes as many as the bin has feature pixels, rounded up.
        pool_mode: 1, average.
        aligned: Whether pixel centres lie at half-integers, half a pixel from the older convention.

    Raises:
        UnsupportedOpError: For max pooling.
    """
    _check_average(pool_mode)
    input, rois = widen(input, rois)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of `roi_align_forward` to grad_input, (N, C, H, W). Regions get no gradient, as in mmcv."""
    _check_average(pool_mode)
    grad_output, rois = widen(grad_output, rois)
    grad_input.add_(
        torch.ops.torchvision._roi_align_backward(
            grad_output,
            rois,
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def _check_average(pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise UnsupportedOpError("roi_align with pool_mode='max'")
