"""`torch.linspace` between ends, and of a length, that the graph knows only when it runs.

Half of the values are counted from either end, as torch does. MMDeploy's steps from the start with `arange`, which is no
number for a length of 1. Source: aten/src/ATen/native/cpu/RangeFactoriesKernel.cpp.
"""

from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from torch import Tensor

from deploy.rewrites import ran

REPLACES = (torch.linspace,)


@FUNCTION_REWRITER.register_rewriter("torch.linspace", backend="onnxruntime")
def linspace(
    start: Any,
    end: Any,
    steps: Any,
    *,
    dtype: torch.dtype | None = None,
    device: Any = None,
    **options: Any,
) -> Tensor:
    """`steps` floating-point numbers from `start` to `end`, both included; of one, the start. Each a number or 0-d."""
    ran(__name__)
    if not any(isinstance(each, Tensor) for each in (start, end, steps)):
        plain = FUNCTION_REWRITER.get_context("torch.linspace").origin_func
        values: Tensor = plain(start, end, steps, dtype=dtype, device=device, **options)
        return values
    kind = dtype or torch.get_default_dtype()
    first, last = (torch.as_tensor(each, device=device).to(kind) for each in (start, end))
    count = torch.as_tensor(steps, device=device)
    index = torch.arange(steps, device=device)
    step = (last - first) / (count - 1).clamp(min=1)
    half = torch.div(count, 2, rounding_mode="floor").clamp(min=1)
    return torch.where(index < half, first + step * index, last - step * (count - 1 - index))
