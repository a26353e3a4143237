"""A segmentation loss over regions: what a network recognises before it can draw it."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


@MODELS.register_module()
class RegionCrossEntropyLoss(nn.Module):
    """Cross-entropy of each region's mean logits, a region being the pixels of one class in one image.

    Beside a loss of pixels it shortens the way from scratch: together the pixels of an object tell its class long before
    each of them does.

    Args:
        loss_weight: factor of the result.
        loss_name: under which mmseg logs it; only names that begin with `loss_` are minimised.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = "loss_region") -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int = 255, **_: object
    ) -> Tensor:
        """Compute the loss; 0 where every pixel is ignored.

        Args:
            cls_score: logits, N×C×H×W.
            label: class indices, N×H×W.
            weight: mmseg's choice of pixels, which is for losses of pixels; a region is taken whole.
            ignore_index: the label of pixels that belong to no region.
        """
        classes = torch.arange(cls_score.shape[1], device=label.device)
        inside = label.masked_fill(label == ignore_index, -1).flatten(1)[..., None] == classes
        inside = inside.to(cls_score.dtype)  # N×HW×C
        areas = inside.sum(1)  # N×C
        means = (cls_score.flatten(2) @ inside).transpose(1, 2) / areas.clamp(min=1)[..., None]  # N×region×C
        images, regions = areas.nonzero(as_tuple=True)
        if not len(regions):
            return cls_score.sum() * 0.0
        loss: Tensor = F.cross_entropy(means[images, regions], regions)
        return self.loss_weight * loss
