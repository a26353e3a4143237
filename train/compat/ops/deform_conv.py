"""Deformable convolution v1 (Dai et al., arXiv 1703.06211) and v2 (Zhu et al., arXiv 1811.11168).

As `mmcv/ops/deform_conv.py` and `mmcv/ops/modulated_deform_conv.py` call them. Shapes, with G deformable groups:

- input (N, C, H, W); weight (C_out, C / group, kH, kW); output (N, C_out, H_out, W_out)
- offset (N, 2 · G · kH · kW, H_out, W_out), y before x; v2 has a mask (N, G · kH · kW, H_out, W_out) and maybe a bias

torchvision's kernels have the same layout. The settings come by the names mmcv gives them; kernel sizes are those of
the weight, and `columns`, `ones` and `im2col_step` are the compiled op's own business: unused here. Gradients are
added to the tensors given.
"""

import torch
from torch import Tensor

from train.compat.ops.precision import widen

# mmcv's names in the order of torchvision's arguments.
_V1 = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
_V2 = ("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w", "group", "deformable_group")


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **settings: int
) -> None:
    """Write the v1 convolution into output."""
    input, weight, offset = widen(input, weight, offset)
    mask, bias = _no_mask(input), _no_bias(weight)
    geometry = [settings[name] for name in _V1]
    output.copy_(torch.ops.torchvision.deform_conv2d(input, weight, offset, mask, bias, *geometry, False))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **settings: int,
) -> None:
    """Add the v1 gradients by input and offset."""
    by_input, _, by_offset = _v1_gradients(grad_output, input, weight, offset, settings)
    grad_input.add_(by_input)
    grad_offset.add_(by_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **settings: int,
) -> None:
    """Add `scale` times the v1 gradient by weight. It does not depend on the weight, which mmcv does not pass."""
    _, by_weight, _ = _v1_gradients(grad_output, input, torch.zeros_like(grad_weight), offset, settings)
    grad_weight.add_(by_weight, alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **settings: int,
) -> None:
    """Write the v2 convolution into output. Without a bias, `bias` is empty."""
    bias = bias if with_bias else _no_bias(weight)
    input, weight, offset, mask, bias = widen(input, weight, offset, mask, bias)
    geometry = [settings[name] for name in _V2]
    output.copy_(torch.ops.torchvision.deform_conv2d(input, weight, offset, mask, bias, *geometry, True))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **settings: int,
) -> None:
    """Add the v2 gradients by input, weight, offset, mask and, where there is one, bias."""
    geometry = [settings[name] for name in _V2]
    grad_output, input, weight, offset, mask = widen(grad_output, input, weight, offset, mask)
    gradients = torch.ops.torchvision._deform_conv2d_backward(
        grad_output, input, weight, offset, mask, _no_bias(weight), *geometry, True
    )
    for total, gradient in zip((grad_input, grad_weight, grad_offset, grad_mask), gradients, strict=False):
        total.add_(gradient)
    if with_bias:
        grad_bias.add_(gradients[-1])


def _v1_gradients(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, settings: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by input, weight and offset."""
    grad_output, input, weight, offset = widen(grad_output, input, weight, offset)
    geometry = [settings[name] for name in _V1]
    mask, bias = _no_mask(input), _no_bias(weight)
    return torch.ops.torchvision._deform_conv2d_backward(
        grad_output, input, weight, offset, mask, bias, *geometry, False
    )[:3]


def _no_mask(input: Tensor) -> Tensor:
    """What torchvision wants where there is no mask."""
    return input.new_zeros((len(input), 1))


def _no_bias(weight: Tensor) -> Tensor:
    return weight.new_zeros(len(weight))
