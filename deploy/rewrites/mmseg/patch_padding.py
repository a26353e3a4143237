"""`AdaptivePadding`, which pads images to whole patches, for any image size. See `rewrites.adaptive_padding`.

Source: mmseg/models/utils/embed.py.
"""

from typing import Any

from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.utils.embed import AdaptivePadding
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran
from deploy.rewrites.adaptive_padding import padding

REPLACES = (AdaptivePadding.forward,)


@FUNCTION_REWRITER.register_rewriter("mmseg.models.utils.embed.AdaptivePadding.forward", backend="onnxruntime")
def adaptive_padding__forward(self: AdaptivePadding, x: Tensor) -> Tensor:
    """Pad so that the kernel covers every pixel: on both sides ("same"), or at the right and the bottom ("corner")."""
    ran(__name__)
    pads: list[Any] = []
    for axis in (1, 0):  # F.pad takes the last axis first
        total = padding(x.shape[2 + axis], self.kernel_size[axis], self.stride[axis], self.dilation[axis])
        before = total // 2 if self.padding == "same" else 0
        pads += [before, total - before]
    return F.pad(x, pads)
