"""`Upsample`, mmseg's module for a fixed factor, for any image size.

mmseg computes the size with Python's `int`, which tracing freezes at the size it sees. Heads that use it resize once more
to another branch's size, so that a frozen graph gives maps of the right shape and the wrong values.
Source: mmseg/models/utils/wrappers.py.
"""

from typing import Any

from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.utils import Upsample, resize
from torch import Tensor

from deploy.rewrites import ran

REPLACES = (Upsample.forward,)


@FUNCTION_REWRITER.register_rewriter("mmseg.models.utils.wrappers.Upsample.forward", backend="onnxruntime")
def upsample__forward(self: Upsample, x: Tensor) -> Tensor:
    """Resize to the module's size, or by its factor, rounded down."""
    ran(__name__)
    size = self.size or [_times(edge, self.scale_factor) for edge in x.shape[-2:]]
    resized: Tensor = resize(x, size, None, self.mode, self.align_corners)
    return resized


def _times(edge: Any, factor: float) -> Any:
    """A traced length times a factor; whole factors stay whole numbers."""
    return edge * int(factor) if factor.is_integer() else (edge * factor).floor().long()
