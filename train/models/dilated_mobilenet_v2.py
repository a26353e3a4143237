"""MobileNetV2 dilated as TensorFlow's DeepLab does it, for weights that were trained so."""

from typing import Any

from mmseg.models.backbones import MobileNetV2
from mmseg.registry import MODELS
from torch import nn


@MODELS.register_module()
class DilatedMobileNetV2(MobileNetV2):
    """MobileNetV2 in which `dilations` holds for every block of a layer but the first.

    A layer's first block works before the stride that dilation replaces and keeps the dilation of the layer before it
    (Chen et al., 2017, arXiv:1706.05587, §3.1; TensorFlow's slim/nets/mobilenet/mobilenet.py). mmseg's own MobileNetV2
    dilates the first block alone.

    Args:
        kwargs: of mmseg's `MobileNetV2`.
    """

    _dilation = 1  # of the layer before

    def make_layer(
        self, out_channels: int, num_blocks: int, stride: int, dilation: int, **kwargs: Any
    ) -> nn.Sequential:
        """Build a layer, then set the dilation, and the same padding, of each block's depthwise convolution."""
        layer = super().make_layer(out_channels, num_blocks, stride, dilation, **kwargs)
        for i, block in enumerate(layer):
            depthwise = block.conv[-2].conv
            depthwise.dilation = depthwise.padding = (dilation if i else self._dilation,) * 2
        self._dilation = dilation
        return layer
