"""`grid_sample` as ONNX's `GridSample` of opset 16; MMDeploy puts an operator of its own in its place.

Source: torch/nn/functional.py.
"""

import torch
from mmdeploy.core import FUNCTION_REWRITER
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.operators import GridSample
from deploy.rewrites import ran

REPLACES = (F.grid_sample,)


@FUNCTION_REWRITER.register_rewriter("torch.nn.functional.grid_sample", backend="onnxruntime")
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """N×C×h×w maps at N×H×W×2 places, x and y from −1 to 1 → N×C×H×W."""
    ran(__name__)
    sampled: torch.Tensor = GridSample.apply(input, grid, mode, padding_mode, bool(align_corners))
    return sampled
