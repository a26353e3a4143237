"""L1 loss for classification: the distance between the predicted and the true distribution over the classes."""

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


@MODELS.register_module(name="ClassDistributionL1Loss")
class ClassDistributionL1Loss(nn.Module):
    """Mean absolute difference between softmax probabilities and the target distribution, summed over the classes.

    It is 0 for a sure and right prediction and 2 for a sure and wrong one, and takes the soft targets that batch
    augmentations such as Mixup make (Zhang et al., 2018, arXiv:1710.09412).

    Args:
        loss_weight: factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        **_: object,
    ) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: logits, N×C.
            label: class indices (N) or target probabilities (N×C).
            weight: factor a sample (N).
            avg_factor: what the sum is divided by; default N.
        """
        target = label if label.dim() == 2 else F.one_hot(label, cls_score.shape[1])
        loss = (torch.softmax(cls_score, dim=1) - target.to(cls_score.dtype)).abs().sum(dim=1)
        if weight is not None:
            loss = loss * weight
        return self.loss_weight * loss.sum() / (avg_factor if avg_factor is not None else len(loss))
