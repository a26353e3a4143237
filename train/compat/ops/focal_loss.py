"""Focal loss (Lin et al., arXiv 1708.02002), as `mmcv/ops/focal_loss.py` calls it.

With pₜ the probability of what the target says, the loss is −αₜ (1 − pₜ)^γ log pₜ per element.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of one yes/no question per class.

    The logarithm comes from the logit. The compiled op takes it from a rounded probability instead, and gives 87 for
    a wrong logit of 20 in single precision, where the loss is 20.

    Args:
        input: Logits, (N, C).
        target: Class of each row, (N,); one that is no class, mmdet's C included, is background: every answer is no.
        weight: Per class of the row's target, (C,), or empty for none. Background has weight 1.
        output: (N, C), receives the losses.
        gamma: Focusing exponent γ.
        alpha: αₜ of a yes; 1 − alpha is that of a no.
    """
    z, _, alpha_t = _signed(input, target, weight, alpha)
    output.copy_(-alpha_t * torch.sigmoid(-z) ** gamma * F.logsigmoid(z))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each loss by its logit into grad_input, (N, C). Arguments as in the forward."""
    z, sign, alpha_t = _signed(input, target, weight, alpha)
    miss = torch.sigmoid(-z)
    grad_input.copy_(-sign * alpha_t * miss**gamma * (miss - gamma * (1 - miss) * F.logsigmoid(z)))


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of one choice among the classes.

    Args:
        input: Probabilities, (N, C): mmcv takes the softmax before.
        target: Class of each row, (N,); a negative one has loss 0.
        weight: Per class, (C,), or empty for none.
        output: (N,), receives the losses.
        gamma: Focusing exponent γ.
        alpha: Factor of every loss.
    """
    p, factor = _chosen(input, target, weight, alpha)
    output.copy_(-factor * (1 - p) ** gamma * p.log())


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each loss by the logits into grad_input, (N, C).

    Args:
        input: As in the forward.
        target: As in the forward.
        weight: As in the forward.
        buff: (N,), receives pₜ times the derivative of the loss by pₜ.
        grad_input: (N, C), receives the result.
        gamma: As in the forward.
        alpha: As in the forward.
    """
    p, factor = _chosen(input, target, weight, alpha)
    miss = (1 - p).clamp(min=torch.finfo(p.dtype).tiny)  # p = 1 has derivative 0 for any γ, not 0 · ∞
    buff.copy_(factor * miss ** (gamma - 1) * (gamma * p * p.log() - miss))
    one_hot = target[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_(buff[:, None] * (one_hot.to(input.dtype) - input))


def _signed(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """The logit of the right answer, its sign relative to the input, and αₜ times the weight, each (N, C)."""
    yes = (target[:, None] == torch.arange(input.shape[1], device=input.device)).to(input.dtype)
    sign = 2 * yes - 1
    alpha_t = alpha * yes + (1 - alpha) * (1 - yes)
    if weight.numel():
        is_class = (target >= 0) & (target < len(weight))
        alpha_t *= torch.where(is_class, weight[target * is_class], 1)[:, None]
    return sign * input, sign, alpha_t


def _chosen(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The probability of each row's target, kept above 0, and alpha times its weight (0 for no target), each (N,)."""
    label = target.clamp(min=0)
    p = input.gather(1, label[:, None]).squeeze(1).clamp(min=torch.finfo(input.dtype).tiny)
    factor = alpha * (target >= 0).to(input.dtype)
    return p, factor * weight[label] if weight.numel() else factor
