"""`AdaptivePadding`, which pads maps to whole patches, for any image size. See `rewrites.adaptive_padding`.

Source: mmcv/cnn/bricks/transformer.py.
"""

from typing import Any

from mmcv.cnn.bricks.transformer import AdaptivePadding
from mmdeploy.core import FUNCTION_REWRITER
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran
from deploy.rewrites.adaptive_padding import padding

REPLACES = (AdaptivePadding.forward,)


@FUNCTION_REWRITER.register_rewriter("mmcv.cnn.bricks.transformer.AdaptivePadding.forward", backend="onnxruntime")
def adaptive_padding__forward(self: AdaptivePadding, x: Tensor) -> Tensor:
    """Pad so that the kernel covers every pixel."""
    ran(__name__)
    return padded(self, x)


def padded(module: Any, x: Tensor) -> Tensor:
    """Pad on both sides ("same"), or at the right and the bottom ("corner"), as a module with these attributes says."""
    pads: list[Any] = []
    for axis in (1, 0):  # F.pad takes the last axis first
        total = padding(x.shape[2 + axis], module.kernel_size[axis], module.stride[axis], module.dilation[axis])
        before = total // 2 if module.padding == "same" else 0
        pads += [before, total - before]
    return F.pad(x, pads)
