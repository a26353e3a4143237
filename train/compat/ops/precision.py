"""Number formats that torchvision's kernels lack."""

import torch
from torch import Tensor


def widen(*tensors: Tensor) -> list[Tensor]:
    """Tensors as they are, bfloat16 as float32: torchvision's kernels have no bfloat16, which autocast may bring."""
    return [tensor.float() if tensor.dtype == torch.bfloat16 else tensor for tensor in tensors]
