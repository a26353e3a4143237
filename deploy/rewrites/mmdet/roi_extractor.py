"""`SingleRoIExtractor`: each region's bins from the one level that it belongs to.

Source: mmdet/models/roi_heads/roi_extractors/single_level_roi_extractor.py.
"""

from collections.abc import Sequence

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.roi_heads import SingleRoIExtractor
from torch import Tensor

from deploy.rewrites import ran

REPLACES = (SingleRoIExtractor.forward,)
AT_LEAST = True  # mmdet passes over levels without a region, and over masks without a detection


@FUNCTION_REWRITER.register_rewriter("mmdet.models.roi_heads.SingleRoIExtractor.forward", backend="onnxruntime")
def single_roi_extractor__forward(
    self: SingleRoIExtractor, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None
) -> Tensor:
    """Features of each level, N×C×h×w, and R×5 regions → R×C×height×width bins."""
    ran(__name__)
    if len(feats) == 1:
        return self.roi_layers[0](feats[0], rois)
    levels = self.map_roi_levels(rois, len(feats))
    if roi_scale_factor is not None:
        rois = self.roi_rescale(rois, roi_scale_factor)
    members = [torch.nonzero(levels == level)[:, 0] for level in range(len(feats))]
    bins = [layer(maps, rois[own]) for layer, maps, own in zip(self.roi_layers, feats, members, strict=True)]
    # Regions in the order of their levels, put back into their own.
    order = torch.cat(members)
    back = torch.zeros_like(order).scatter(0, order, torch.arange(order.shape[0], device=order.device))
    return torch.cat(bins)[back]
