"""Deformable convolution, v1 and v2, as ONNX's `DeformConv` of opset 19.

mmcv and ONNX agree on everything: offsets y before x for each place of the kernel, zeros outside the image.
Sources: mmcv/ops/deform_conv.py, mmcv/ops/modulated_deform_conv.py; J. Dai et al., "Deformable Convolutional Networks",
2017 (arXiv:1703.06211); X. Zhu et al., "Deformable ConvNets v2", 2018 (arXiv:1811.11168).
"""

from typing import Any

import torch
import torchvision
from mmcv.ops.deform_conv import DeformConv2d, DeformConv2dFunction
from mmcv.ops.modulated_deform_conv import ModulatedDeformConv2dFunction
from mmdeploy.core import FUNCTION_REWRITER
from torch import Tensor, autograd
from torch.nn.modules.utils import _pair

from deploy.rewrites import ran
from train.errors import UsageError

REPLACES = (DeformConv2dFunction.forward, ModulatedDeformConv2dFunction.forward)
#: The first opset with `DeformConv`.
OPSET = 19

#: A number for both axes, or one for each: y, x.
Pair = int | tuple[int, int]


@FUNCTION_REWRITER.register_rewriter("mmcv.ops.deform_conv.deform_conv2d", backend="onnxruntime")
def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Version 1: every sample has weight 1. `bias` and `im2col_step` are mmcv's own business: no bias, same numbers.

    Raises:
        UsageError: a bias, which mmcv refuses too.
    """
    ran(__name__)
    if bias:
        raise UsageError("deform_conv2d with bias=True: mmcv has none; use modulated_deform_conv2d")
    geometry = _pair(stride), _pair(padding), _pair(dilation), groups, deform_groups
    return DeformConv.apply(input, weight, offset, None, None, *geometry)


@FUNCTION_REWRITER.register_rewriter("mmcv.ops.deform_conv.DeformConv2d.forward", backend="onnxruntime")
def deform_conv2d_layer(self: DeformConv2d, x: Tensor, offset: Tensor) -> Tensor:
    """The layer pads what is smaller than its kernel, as tracing would freeze; samples outside are zeros without that."""
    geometry = self.stride, self.padding, self.dilation, self.groups, self.deform_groups
    return deform_conv2d(x, offset, self.weight, *geometry)


@FUNCTION_REWRITER.register_rewriter("mmcv.ops.modulated_deform_conv.modulated_deform_conv2d", backend="onnxruntime")
def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Version 2: a mask weighs the samples."""
    ran(__name__)
    geometry = _pair(stride), _pair(padding), _pair(dilation), groups, deform_groups
    return DeformConv.apply(input, weight, offset, bias, mask, *geometry)


class DeformConv(autograd.Function):
    """ONNX `DeformConv` (opset 19). https://onnx.ai/onnx/operators/onnx__DeformConv.html"""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        offset: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        deform_groups: int,
    ) -> Tensor:
        """The convolution; pairs are y, x.

        Args:
            ctx: unused.
            features: N×C×H×W.
            weight: D×(C/groups)×h×w.
            offset: N×(deform_groups·h·w·2)×H'×W', y and x in pixels.
            bias: D, or None.
            mask: N×(deform_groups·h·w)×H'×W', or None for ones.
            stride: of the kernel, in pixels.
            padding: at both ends, in pixels.
            dilation: between the kernel's places, in pixels.
            groups: of channels that do not see each other.
            deform_groups: of channels with their own offsets; torchvision reads it off the offset's shape.

        Returns:
            N×D×H'×W'.
        """
        return torchvision.ops.deform_conv2d(features, offset, weight, bias, stride, padding, dilation, mask)

    @staticmethod
    def symbolic(
        g: Any,
        features: Any,
        weight: Any,
        offset: Any,
        bias: Any,
        mask: Any,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        deform_groups: int,
    ) -> Any:
        """The node."""
        channels, _, *kernel = weight.type().sizes()
        if mask is not None and bias is None:
            # The bias comes before the mask; a zero adds nothing, and not every reader knows inputs that are left out.
            bias = g.op("Constant", value_t=torch.zeros(channels))
        optional = [each for each in (bias, mask) if each is not None]
        return g.op(
            "DeformConv",
            features,
            weight,
            offset,
            *optional,
            kernel_shape_i=kernel,
            strides_i=stride,
            pads_i=[*padding, *padding],
            dilations_i=dilation,
            group_i=groups,
            offset_group_i=deform_groups,
        )
