"""`ShiftWindowMSA`, Swin's attention within windows, every other time within shifted ones, for any image size.

mmpretrain does not shift where a map is one window high or wide, and counts windows with Python's `int`: tracing freezes both.
Here the shift is a number in the graph, and so are the regions of the rolled map that may see each other.
Source: mmpretrain/models/utils/attention.py; Z. Liu et al., "Swin Transformer", 2021 (arXiv:2103.14030), section 3.2.
"""

from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmpretrain.models.utils import ShiftWindowMSA
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran

REPLACES = (ShiftWindowMSA.forward,)
#: What mmpretrain adds to the logits of places that must not see each other.
APART = -100.0


@FUNCTION_REWRITER.register_rewriter("mmpretrain.models.utils.ShiftWindowMSA.forward", backend="onnxruntime")
def shift_window_msa__forward(self: ShiftWindowMSA, query: Tensor, hw_shape: Any) -> Tensor:
    """N×(h·w)×C → N×(h·w)×C."""
    ran(__name__)
    count, _, channels = query.shape
    height, width = hw_shape
    window = self.window_size
    high, wide = ((edge + window - 1) // window * window for edge in (height, width))
    x = F.pad(query.view(count, height, width, channels), (0, 0, 0, wide - width, 0, high - height))
    mask = None
    if self.shift_size:
        shift = _shift(self, height, width)
        x = _rolled(_rolled(x, shift, 1), shift, 2)
        regions = 3 * _regions(high, window, shift)[:, None] + _regions(wide, window, shift)
        own = _windows(regions[None, :, :, None], window).flatten(1)
        mask = (own[:, None] != own[:, :, None]).to(x.dtype) * APART
    seen = self.w_msa(_windows(x, window), mask=mask)
    seen = seen.view(count, high // window, wide // window, window, window, channels)
    x = seen.transpose(2, 3).reshape(count, high, wide, channels)
    if self.shift_size:
        x = _rolled(_rolled(x, high - shift, 1), wide - shift, 2)
    result: Tensor = self.drop(x[:, :height, :width].reshape(count, height * width, channels))
    return result


def _shift(self: ShiftWindowMSA, height: Any, width: Any) -> Tensor:
    """How far windows are shifted: not at all where the map is one window high or wide, unless small maps are padded."""
    if self.pad_small_map:
        return torch.tensor(self.shift_size)
    smallest = torch.stack([torch.as_tensor(height), torch.as_tensor(width)]).min()
    return torch.where(smallest == self.window_size, 0, self.shift_size)


def _rolled(x: Tensor, shift: Any, axis: int) -> Tensor:
    """`torch.roll` by a traced number of places towards the beginning."""
    before = (slice(None),) * axis
    return torch.cat([x[(*before, slice(shift, None))], x[(*before, slice(None, shift))]], dim=axis)


def _regions(length: Any, window: int, shift: Tensor) -> Tensor:
    """Which of three regions each place of a rolled axis is in: before the last window, in it, or rolled there."""
    places = torch.arange(length)
    return (places >= length - window).long() + (places >= length - shift).long()


def _windows(x: Tensor, window: int) -> Tensor:
    """N×h×w×C, of whole windows → (N·windows)×(window²)×C."""
    count, height, width, channels = x.shape
    x = x.view(count, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)
