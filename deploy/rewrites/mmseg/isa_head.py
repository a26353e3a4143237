"""`ISAHead`, interlaced sparse attention over a grid of windows, for any image size.

mmseg counts the windows with Python's `math.ceil`, which tracing freezes at the size it sees, and pads only where a window
is not full. Here the same whole-number arithmetic is done on the traced size; what is full is padded by nothing.
Source: mmseg/models/decode_heads/isa_head.py.
"""

from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.decode_heads.isa_head import ISAHead
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran

REPLACES = (ISAHead.forward,)


@FUNCTION_REWRITER.register_rewriter("mmseg.models.decode_heads.isa_head.ISAHead.forward", backend="onnxruntime")
def isa_head__forward(self: ISAHead, inputs: Any) -> Tensor:
    """Feature maps → N×classes×h×w logits."""
    ran(__name__)
    features = self.in_conv(self._transform_inputs(inputs))
    n, c, height, width = features.shape
    high, wide = self.down_factor  # of a window
    rows, columns = (height + high - 1) // high, (width + wide - 1) // wide
    below, right = rows * high - height, columns * wide - width
    top, left = below // 2, right // 2
    x = F.pad(features, (left, right - left, top, below - top)).view(n, c, rows, high, columns, wide)
    # Pixels at the same place of all windows attend to each other, then those of each window.
    x = self.global_relation(x.permute(0, 3, 5, 1, 2, 4).reshape(-1, c, rows, columns))
    x = x.view(n, high, wide, c, rows, columns).permute(0, 4, 5, 3, 1, 2)
    x = self.local_relation(x.reshape(-1, c, high, wide))
    x = x.view(n, rows, columns, c, high, wide).permute(0, 3, 1, 4, 2, 5).reshape(n, c, rows * high, columns * wide)
    x = x[:, :, top : top + height, left : left + width]
    logits: Tensor = self.cls_seg(self.out_conv(torch.cat([x, features], dim=1)))
    return logits
