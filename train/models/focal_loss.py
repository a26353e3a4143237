"""The focal loss for segmentation, on CPU and CUDA alike.

mmseg's own, 1.2.2, fails on class indices on a CPU: it keeps the one-hot column behind the last class instead of those before
it (mmseg/models/losses/focal_loss.py). On CUDA it computes what is computed here.
"""

from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import sigmoid_focal_loss


@MODELS.register_module()
class PixelFocalLoss(nn.Module):
    """Sigmoid focal loss (T.-Y. Lin et al., 2017, arXiv:1708.02002), the mean over pixels and classes; ignored ones count 0.

    Args:
        gamma: how much a pixel that is right already counts less.
        alpha: weight of a pixel's own class; the others' is 1 − alpha.
        loss_weight: factor of the result.
        loss_name: under which mmseg logs it; only names that begin with `loss_` are minimised.
    """

    def __init__(
        self, gamma: float = 2.0, alpha: float = 0.25, loss_weight: float = 1.0, loss_name: str = "loss_focal"
    ) -> None:
        super().__init__()
        self.gamma, self.alpha, self.loss_weight = gamma, alpha, loss_weight
        self.loss_name = loss_name

    def forward(
        self, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int = 255, **_: object
    ) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: logits, N×C×H×W.
            label: class indices, N×H×W.
            weight: factor a pixel, N×H×W.
            ignore_index: the label of pixels that do not count.
        """
        counted = (label != ignore_index).to(cls_score.dtype)
        if weight is not None:
            counted = counted * weight
        target = F.one_hot(label.masked_fill(label == ignore_index, 0), cls_score.shape[1])
        target = target.movedim(-1, 1).to(cls_score.dtype)
        loss: Tensor = sigmoid_focal_loss(cls_score, target, self.alpha, self.gamma)
        return self.loss_weight * (loss * counted[:, None]).mean()
