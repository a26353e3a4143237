"""`resize_pos_embed`, learned positions of the patches of an image, for any image size.

mmpretrain leaves them alone where the image has the size that they were learned at, and resizes them elsewhere; tracing keeps
one of the two. Here they are always resized, which for that size gives what goes in.
Source: mmpretrain/models/utils/embed.py.
"""

from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmpretrain.models.utils.embed import resize_pos_embed
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran

REPLACES = (resize_pos_embed,)


@FUNCTION_REWRITER.register_rewriter("mmpretrain.models.utils.embed.resize_pos_embed", backend="onnxruntime")
def resize_position_embedding(
    pos_embed: Tensor, src_shape: Any, dst_shape: Any, mode: str = "bicubic", num_extra_tokens: int = 1
) -> Tensor:
    """1×(extra + h·w)×C for `src_shape` (h, w) → the same for `dst_shape`; extra tokens have no position."""
    ran(__name__)
    extra, own = pos_embed[:, :num_extra_tokens], pos_embed[:, num_extra_tokens:]
    image = own.transpose(1, 2).unflatten(2, tuple(src_shape))
    resized = F.interpolate(image, size=tuple(dst_shape), mode=mode, align_corners=False)
    return torch.cat((extra, resized.flatten(2).transpose(1, 2)), dim=1)
