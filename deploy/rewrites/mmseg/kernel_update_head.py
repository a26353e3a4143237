"""`KernelUpdateHead` of K-Net, whose kernels are predicted, for a batch of any size.

mmseg convolves image by image with each image's own kernels, in a loop that tracing unrolls. Here a place of the kernels is
a matrix product for the whole batch. Source: mmseg/models/decode_heads/knet_head.py; W. Zhang et al., "K-Net", 2021
(arXiv:2106.14855), equations 3 to 6.
"""

from collections.abc import Sequence

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmseg.models.decode_heads.knet_head import KernelUpdateHead
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran
from train.errors import UsageError

REPLACES = (KernelUpdateHead.forward,)


@FUNCTION_REWRITER.register_rewriter(
    "mmseg.models.decode_heads.knet_head.KernelUpdateHead.forward", backend="onnxruntime"
)
def kernel_update_head__forward(
    self: KernelUpdateHead,
    x: Tensor,
    proposal_feat: Tensor,
    mask_preds: Tensor,
    mask_shape: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """One update.

    Args:
        self: the head.
        x: features, N×C×h×w.
        proposal_feat: a kernel a class, N×P×C×K×K.
        mask_preds: logits of the update before, N×P×…×….
        mask_shape: height and width wanted; no head of mmseg asks for any.

    Returns:
        logits N×P×h×w, and kernels as they came.

    Raises:
        UsageError: a `mask_shape`.
    """
    ran(__name__)
    if mask_shape is not None:
        raise UsageError("KernelUpdateHead with a mask_shape cannot be exported exactly")
    if self.feat_transform is not None:
        x = self.feat_transform(x)
    rows, size, channels = proposal_feat.shape[1], self.conv_kernel_size, self.in_channels
    # Where it has that size already, nothing changes.
    areas = F.interpolate(mask_preds, tuple(x.shape[-2:]), mode="bilinear", align_corners=False).softmax(1)
    gathered = areas.flatten(2) @ x.flatten(2).transpose(1, 2)
    kernels = self.kernel_update_conv(gathered, proposal_feat.flatten(3).transpose(2, 3))  # N·P × K·K × C
    kernels = kernels.reshape(-1, rows, size * size * channels).transpose(0, 1)
    kernels = self.attention_norm(self.attention(kernels)).transpose(0, 1)
    kernels = kernels.reshape(-1, rows, size * size, channels)
    if self.with_ffn:
        kernels = self.ffn_norm(self.ffn(kernels))
    drawn = kernels
    for layer in self.mask_fcs:
        drawn = layer(drawn)
    halves = self.mask_transform_stride == 2
    if halves and self.feat_gather_stride == 1:
        x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    logits = _convolve(x, self.fc_mask(drawn), size)
    if halves:
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    return logits, kernels.transpose(2, 3).reshape(-1, rows, channels, size, size)


def _convolve(x: Tensor, kernels: Tensor, size: int) -> Tensor:
    """Features N×C×h×w with each image's own kernels, N×P×K·K×C → N×P×h×w."""
    height, width = x.shape[-2:]
    padded = F.pad(x, [size // 2] * 4)
    places = [
        kernels[:, :, down * size + across] @ padded[..., down : down + height, across : across + width].flatten(2)
        for down in range(size)
        for across in range(size)
    ]
    return torch.stack(places).sum(0).reshape(-1, kernels.shape[1], height, width)
