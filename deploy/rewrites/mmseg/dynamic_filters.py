"""`DCM`, DMNet's convolution with filters that it makes of each image, for any number of images.

mmseg lays the batch out as channels and convolves each with its own filter: N·C groups, an attribute in ONNX, where it cannot
follow the batch. Here it is the sum that a convolution is, over the filter's taps.
Source: mmseg/models/decode_heads/dm_head.py.
"""

from itertools import product

from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.decode_heads.dm_head import DCM
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran

REPLACES = (DCM.forward,)


@FUNCTION_REWRITER.register_rewriter("mmseg.models.decode_heads.dm_head.DCM.forward", backend="onnxruntime")
def dcm__forward(self: DCM, x: Tensor) -> Tensor:
    """N×C×h×w → N×channels×h×w."""
    ran(__name__)
    filters = self.filter_gen_conv(F.adaptive_avg_pool2d(x, self.filter_size))
    x = depthwise(self.input_redu_conv(x), filters)
    if self.norm is not None:
        x = self.norm(x)
    x = self.activate(x)
    return self.fusion_conv(x) if self.fusion else x


def depthwise(x: Tensor, filters: Tensor) -> Tensor:
    """Convolve N×C×h×w with a filter for each image and channel, N×C×k×k; zeros around keep the size."""
    last = filters.shape[-1] - 1
    before = last - last // 2  # as mmseg pads: an even filter has one more of them
    padded = F.pad(x, (before, last // 2, before, last // 2))
    total = None
    for row, column in product(range(last + 1), repeat=2):
        shifted = padded[:, :, row : row - last or None, column : column - last or None]
        term = filters[:, :, row : row + 1, column : column + 1] * shifted
        total = term if total is None else total + term
    assert total is not None
    return total
