"""`Conv2dAdaptivePadding`, TensorFlow's "same" padding, for any image size.

mmcv computes the padding with Python's `math.ceil` on the image's size, which tracing freezes at the size it sees. Here the
same whole-number arithmetic is done on the traced size, so that it stays in the graph; for a fixed size it folds away.
Source: mmcv/cnn/bricks/conv2d_adaptive_padding.py.
"""

from typing import Any

from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmdeploy.core import FUNCTION_REWRITER
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran

REPLACES = (Conv2dAdaptivePadding.forward,)


@FUNCTION_REWRITER.register_rewriter(
    "mmcv.cnn.bricks.conv2d_adaptive_padding.Conv2dAdaptivePadding.forward", backend="onnxruntime"
)
def conv2d_adaptive_padding__forward(self: Conv2dAdaptivePadding, x: Tensor) -> Tensor:
    """Pad so that the output has ceil(size / stride) pixels, then convolve."""
    ran(__name__)
    pads: list[Any] = []  # 0-d tensors while tracing
    for axis in (1, 0):  # F.pad takes the last axis first
        total = padding(x.shape[2 + axis], self.weight.shape[2 + axis], self.stride[axis], self.dilation[axis])
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def padding(size: Any, kernel: int, stride: int, dilation: int) -> Any:
    """Pixels to add to a traced length so that there are ⌈size / stride⌉ windows."""
    reach = (kernel - 1) * dilation + 1
    return (((size + stride - 1) // stride - 1) * stride + reach - size).clamp(min=0)
