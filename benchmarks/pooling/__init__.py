"""Adaptive pooling: the proof that exported graphs compute it exactly, and what that costs (`python -m benchmarks.pooling`)."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from deploy import compat, graph, rewrites

#: Bins of PSPNet's pyramid.
BINS = (1, 2, 3, 6)
#: The MMDeploy backend that our rewrites are registered for, and one without any, for which MMDeploy's own run.
OURS, MMDEPLOY = "onnxruntime", "default"


class Pyramid(nn.Module):
    """PSPNet's poolings alone."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """N×C×H×W → N×C×b×b for each of `BINS`."""
        return [nn.functional.adaptive_avg_pool2d(x, bins) for bins in BINS]


@contextmanager
def rewriting(backend: str, *, dynamic: bool = False) -> Iterator[None]:
    """Patch torch and the model's package as MMDeploy does for an export; ready for `graph_of`."""
    compat.apply()
    rewrites.register()
    from mmdeploy.core import RewriterContext
    from mmengine.config import Config

    config = Config(
        dict(
            onnx_config=dict(type="onnx", input_names=["input"], dynamic_axes=_axes(dynamic)),
            backend_config=dict(type="onnxruntime"),
            codebase_config=dict(type="mmseg", task="Segmentation"),
        )
    )
    with (
        compat.torchscript_exporter(),
        torch.no_grad(),
        RewriterContext(config, backend=backend, opset=graph.MIN_OPSET),
    ):
        yield


def graph_of(model: nn.Module, x: Tensor, *, dynamic: bool = False) -> onnx.ModelProto:
    """Trace a model inside `rewriting` as it is, with one input, `input`."""
    file: Any = io.BytesIO()  # the TorchScript exporter takes it, the signature does not say so
    torch.onnx.export(
        model, (x,), file, opset_version=graph.MIN_OPSET, input_names=["input"], dynamic_axes=_axes(dynamic)
    )
    return onnx.load_from_string(file.getvalue())


def export(model: nn.Module, x: Tensor, backend: str = OURS, *, dynamic: bool = False) -> onnx.ModelProto:
    """A simplified graph of a model with one tensor as input; any number and size of images where `dynamic`."""
    with rewriting(backend, dynamic=dynamic):
        traced = graph_of(model, x, dynamic=dynamic)
    return graph.simplify(traced, [{"input": x.numpy()}])[0]


def _axes(dynamic: bool) -> dict[str, dict[int, str]] | None:
    return {"input": {0: "batch", 2: "height", 3: "width"}} if dynamic else None
