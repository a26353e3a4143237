"""Point-wise spatial attention (Zhao et al., PSANet, ECCV 2018), as `mmcv/ops/psa_mask.py` calls it.

The input, (N, h_mask · w_mask, H, W), holds for each position the attention to its surroundings: an h_mask × w_mask
window centred there. The output, (N, H · W, H, W), holds attention between all pairs of positions, 0 outside the
window. Channels are the other position when collecting (psa_type 0), and the position itself when distributing (1).
"""

import torch
from torch import Tensor

_DISTRIBUTE = 1  # the number mmcv/ops/psa_mask.py gives psa_type='distribute'; 'collect' is 0


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the attention between all pairs of positions into output."""
    channel, inside = _window(h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask, input.device)
    pairs = input.flatten(2).gather(1, channel.expand(num_, -1, -1)).masked_fill(~inside, 0)
    if psa_type == _DISTRIBUTE:
        pairs = pairs.transpose(1, 2)
    output.copy_(pairs.reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the gradient of `psamask_forward` into grad_input."""
    channel, inside = _window(h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask, grad_output.device)
    pairs = grad_output.flatten(2)
    if psa_type == _DISTRIBUTE:
        pairs = pairs.transpose(1, 2)
    gradient = torch.zeros_like(grad_input).flatten(2)
    gradient.scatter_add_(1, channel.expand(num_, -1, -1), pairs.masked_fill(~inside, 0))
    grad_input.copy_(gradient.reshape(grad_input.shape))


def _window(
    h_feature: int, w_feature: int, h_mask: int, w_mask: int, half_h_mask: int, half_w_mask: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which input channel holds the attention of each pair (other position, position), and whether one does.

    Both are (H · W, H · W); the channel is 0 where none does.
    """
    y, x = torch.arange(h_feature, device=device), torch.arange(w_feature, device=device)
    row = (y[:, None] - y + half_h_mask)[:, None, :, None]  # other y, other x, y, x
    column = (x[:, None] - x + half_w_mask)[None, :, None, :]
    inside = (row >= 0) & (row < h_mask) & (column >= 0) & (column < w_mask)
    channel = (row * w_mask + column).where(inside, 0)
    positions = h_feature * w_feature
    return channel.reshape(positions, positions), inside.reshape(positions, positions)
