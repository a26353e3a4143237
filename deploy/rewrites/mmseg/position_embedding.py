"""`VisionTransformer`'s position embedding, resized to any number of patches.

mmseg resizes it where the number of patches is another than in training, a question that tracing answers once for all sizes.
Here the graph answers it. Source: mmseg/models/backbones/vit.py.
"""

from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.backbones.vit import VisionTransformer
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran

REPLACES = (VisionTransformer._pos_embeding,)


@FUNCTION_REWRITER.register_rewriter(
    "mmseg.models.backbones.vit.VisionTransformer._pos_embeding", backend="onnxruntime"
)
def vision_transformer__pos_embeding(
    self: VisionTransformer, patched_img: Tensor, hw_shape: Any, pos_embed: Tensor
) -> Tensor:
    """Patches, N×L×C with the class token, plus their embedding; `hw_shape`: rows and columns of patches."""
    ran(__name__)
    length: Any = patched_img.shape[1]  # a 0-d tensor while tracing
    trained = pos_embed.shape[1]
    rows, columns = (edge // self.patch_size for edge in self.img_size)
    resized = self.resize_pos_embed(pos_embed, hw_shape, (rows, columns), self.interpolate_mode)
    # As many patches as in training take the embedding as it is, in whatever rows and columns they are.
    missing = (length - trained).clamp(min=0)
    own = F.pad(pos_embed, [0, 0, 0, missing])[:, :length]
    embedded: Tensor = self.drop_after_pos(patched_img + torch.where(length == trained, own, resized))
    return embedded
