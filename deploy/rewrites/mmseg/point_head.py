"""`PointHead.get_points_test` of PointRend: the least certain pixels, for any image size.

mmseg takes Python's `min` of the map's size and the number wanted, which tracing freezes at whichever is smaller there.
Source: mmseg/models/decode_heads/point_head.py; A. Kirillov et al., "PointRend", 2019 (arXiv:1912.08193).
"""

from collections.abc import Callable
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.decode_heads import PointHead
from torch import Tensor

from deploy.rewrites import ran

REPLACES = (PointHead.get_points_test,)


@FUNCTION_REWRITER.register_rewriter(
    "mmseg.models.decode_heads.point_head.PointHead.get_points_test", backend="onnxruntime"
)
def point_head__get_points_test(
    self: PointHead, seg_logits: Tensor, uncertainty_func: Callable[[Tensor], Tensor], cfg: Any
) -> tuple[Tensor, Tensor]:
    """Logits N×C×h×w → indices N×P into h·w, and the same places N×P×2, x and y from 0 to 1."""
    ran(__name__)
    uncertainty = uncertainty_func(seg_logits)
    height, width = uncertainty.shape[2:]
    # MMDeploy's topk takes what there is.
    index = uncertainty.flatten(1).topk(cfg.subdivision_num_points, dim=1)[1]
    across, down = 1.0 / width, 1.0 / height
    x = across / 2.0 + (index % width).float() * across
    y = down / 2.0 + torch.div(index, width, rounding_mode="floor").float() * down
    return index, torch.stack([x, y], -1)
