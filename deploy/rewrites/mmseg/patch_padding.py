"""`AdaptivePadding`, which pads images to whole patches, for any image size. See `rewrites.whole_patches`.

Source: mmseg/models/utils/embed.py.
"""

from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.utils.embed import AdaptivePadding
from torch import Tensor

from deploy.rewrites import ran
from deploy.rewrites.whole_patches import padded

REPLACES = (AdaptivePadding.forward,)


@FUNCTION_REWRITER.register_rewriter("mmseg.models.utils.embed.AdaptivePadding.forward", backend="onnxruntime")
def adaptive_padding__forward(self: AdaptivePadding, x: Tensor) -> Tensor:
    """Pad so that the kernel covers every pixel."""
    ran(__name__)
    return padded(self, x)
