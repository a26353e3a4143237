"""`MaskFormerHead.predict`: every query's mask in every class's logits by the query's score of the class, for any batch.

mmdet, whose head this one is derived from, marks each image's padding in a loop over the batch, which tracing unrolls. To a
graph, an image has no padding: nothing is marked. Sources: mmseg/models/decode_heads/maskformer_head.py;
mmdet/models/dense_heads/maskformer_head.py; B. Cheng et al., "MaskFormer", 2021 (arXiv:2107.06278), section 3.4.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.decode_heads import MaskFormerHead
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran

REPLACES = (MaskFormerHead.predict,)


@FUNCTION_REWRITER.register_rewriter(
    "mmseg.models.decode_heads.maskformer_head.MaskFormerHead.predict", backend="onnxruntime"
)
def maskformer_head__predict(
    self: MaskFormerHead, x: Sequence[Tensor], batch_img_metas: Sequence[dict[str, Any]], test_cfg: Any
) -> Tensor:
    """Features of each level, N×C×h×w → N×C×H×W, of each class the sum of its masks' probabilities."""
    ran(__name__)
    maps, memory = self.pixel_decoder(x, batch_img_metas)
    nowhere = torch.zeros_like(memory[:, 0], dtype=torch.bool)
    places = self.decoder_pe(nowhere).flatten(2).transpose(1, 2)
    memory = self.decoder_input_proj(memory).flatten(2).transpose(1, 2)
    queries = self.query_embed.weight[None].expand(memory.shape[0], -1, -1)
    states = self.transformer_decoder(
        query=torch.zeros_like(queries),
        key=memory,
        value=memory,
        query_pos=queries,
        key_pos=places,
        key_padding_mask=None,
    )[-1]
    logits = (self.mask_embed(states) @ maps.flatten(2)).reshape(*states.shape[:2], *maps.shape[-2:])
    size = tuple(batch_img_metas[0]["img_shape"])
    masks = F.interpolate(logits, size, mode="bilinear", align_corners=False).sigmoid()
    scores = self.cls_embed(states).softmax(-1)[..., :-1]
    return (scores.transpose(1, 2) @ masks.flatten(2)).reshape(-1, self.num_classes, *size)
