"""Adaptive average and max pooling, 1-D and 2-D, exact at every size.

Bin i of an axis covers start = ⌊i·in/out⌋ ≤ j < end = ⌈(i+1)·in/out⌉. Neighbours may overlap and differ in length, which
no pooling operator of ONNX can say. The average is two matrix products, P_h · x · P_wᵀ with P[i, j] = 1 / (end − start)
inside bin i and 0 outside; the maximum gathers each bin and reduces it. With static sizes the matrices are constants,
with dynamic ones the graph computes them, in int64 up to the last division.

Source: aten/src/ATen/native/AdaptivePooling.h. What MMDeploy puts in its place, an `avg_pool2d` with kernel and stride
⌊in/out⌋, is in mmdeploy/pytorch/functions/adaptive_pool.py. docs/adaptive-pooling.md compares the three.
"""

from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.utils import is_dynamic_shape
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran
from train.errors import UsageError

REPLACES = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_max_pool1d, F.adaptive_max_pool2d)

#: A length: known, or a 0-d int64 tensor that stays in the graph.
Length = int | Tensor
#: One axis: its length and its bins, None where it keeps its length.
Axis = tuple[Length, Length | None]


AVG_1D, AVG_2D, MAX_1D, MAX_2D = (
    f"torch.nn.functional.adaptive_{kind}_pool{n}d" for kind in ("avg", "max") for n in (1, 2)
)


@FUNCTION_REWRITER.register_rewriter(AVG_1D, backend="onnxruntime")
def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """x · P_wᵀ."""
    ran(__name__)
    (width,) = _axes(AVG_1D, input, output_size, 1)
    return _average(input, -1, width)


@FUNCTION_REWRITER.register_rewriter(AVG_2D, backend="onnxruntime")
def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """P_h · x · P_wᵀ, or one pooling operator where the bins are those of one."""
    ran(__name__)
    height, width = _axes(AVG_2D, input, output_size, 2)
    if input.ndim == 4:
        if _is_one(height) and _is_one(width):
            return FUNCTION_REWRITER.get_context(AVG_2D).origin_func(input, 1)
        if kernel := _even(height, width):
            return F.avg_pool2d(input, kernel)
    return _average(_average(input, -2, height), -1, width)


@FUNCTION_REWRITER.register_rewriter(MAX_1D, backend="onnxruntime")
def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """The maximum of each bin."""
    ran(__name__)
    _refuse_indices(return_indices)
    (width,) = _axes(MAX_1D, input, output_size, 1)
    return _maximum(input, -1, width)


@FUNCTION_REWRITER.register_rewriter(MAX_2D, backend="onnxruntime")
def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """The maximum of each bin: along the height, then along the width."""
    ran(__name__)
    _refuse_indices(return_indices)
    height, width = _axes(MAX_2D, input, output_size, 2)
    return _maximum(_maximum(input, -2, height), -1, width)


def _axes(function: str, x: Tensor, output_size: Any, count: int) -> list[Axis]:
    """The last `count` axes of `x` with their bins."""
    # By its name: otherwise MMDeploy looks through the whole call stack with its source lines.
    context = FUNCTION_REWRITER.get_context(function)
    bins = output_size if isinstance(output_size, tuple | list) else [output_size] * count
    if is_dynamic_shape(context.cfg):
        return list(zip(x.shape[-count:], bins, strict=True))
    return [(int(n), None if b is None else int(b)) for n, b in zip(x.shape[-count:], bins, strict=True)]


def _average(x: Tensor, dim: int, axis: Axis) -> Tensor:
    size, bins = axis
    if bins is None:
        return x
    if _is_one(axis):
        return x.mean(dim, keepdim=True)
    matrix = pooling_matrix(size, bins, x)
    return x @ matrix.T if dim == -1 else matrix @ x


def _maximum(x: Tensor, dim: int, axis: Axis) -> Tensor:
    size, bins = axis
    if bins is None:
        return x
    if _is_one(axis):
        return x.amax(dim, keepdim=True)
    start, end = _edges(size, bins, x)
    longest = (size + bins - 1) // bins + 1
    # A shorter bin repeats its last element, which is there already.
    index = torch.minimum(start + _count(longest, x), end - 1)
    gathered = x[..., index] if dim == -1 else x[..., index, :]
    return gathered.amax(dim)


def pooling_matrix(size: Length, bins: Length, like: Tensor) -> Tensor:
    """P, bins×size, with the dtype and device of `like`."""
    start, end = _edges(size, bins, like)
    j = _count(size, like)
    inside = (j >= start) & (j < end)
    return inside.to(like.dtype) / (end - start).to(like.dtype)


def _edges(size: Length, bins: Length, like: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last element of each bin, int64, bins×1."""
    i = _count(bins, like)[:, None]
    return i * size // bins, ((i + 1) * size + (bins - 1)) // bins


def _count(length: Length, like: Tensor) -> Tensor:
    """0, 1, … length − 1, int64, on the device of `like`."""
    return torch.arange(length, device=like.device)  # type: ignore[arg-type]


def _is_one(axis: Axis) -> bool:
    return isinstance(axis[1], int) and axis[1] == 1


def _even(*axes: Axis) -> list[int] | None:
    """The kernel of a plain pooling, where every bin has the same length and no two overlap."""
    kernel = []
    for size, bins in axes:
        if not isinstance(size, int) or not isinstance(bins, int) or size % bins:
            return None
        kernel.append(size // bins)
    return kernel


def _refuse_indices(return_indices: bool) -> None:
    if return_indices:
        raise UsageError(
            "adaptive max pooling with return_indices=True cannot be exported; take the maximum without its indices"
        )
