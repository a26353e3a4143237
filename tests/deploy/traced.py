"""One graph of a small module, with our rewrites and as MMDeploy traces it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from mmdeploy.core import RewriterContext
from mmengine.config import Config
from test_rewrites import DEPLOY
from torch import Tensor, nn

from deploy import compat, graph, rewrites


def one_graph(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    path: Path,
    *,
    scope: str | None = None,
    opset: int = 17,
) -> onnxruntime.InferenceSession:
    """Trace a module, whose outputs are a tuple, on example inputs, and load the graph: standard operators alone.

    Args:
        model: called with the inputs in their order.
        inputs: examples, by name.
        outputs: names.
        axes: which axes of inputs and outputs vary.
        path: where to write the graph.
        scope: an OpenMMLab package whose rewrites are needed too.
        opset: of the graph.
    """
    compat.apply()
    if scope:
        compat.declare_task_scope(scope)
    modules = rewrites.register(scope)
    examples = tuple(inputs.values())
    needed = rewrites.needed(modules, lambda: model(*examples))
    rewrites.reset()
    # Symbolics of MMDeploy's look for the opset in the config.
    config = Config({**DEPLOY, "onnx_config": dict(type="onnx", opset_version=opset)})
    rewriting = RewriterContext(config, backend="onnxruntime", opset=opset)
    with compat.torchscript_exporter(), torch.no_grad(), rewriting:
        torch.onnx.export(
            model,
            examples,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            dynamic_axes={name: dict(each) for name, each in axes.items()},
        )
    rewrites.assert_ran(modules, needed)
    graph.check(onnx.load(path))
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, *inputs: Tensor) -> dict[str, Tensor]:
    """A graph's outputs by name."""
    feeds = {each.name: value.numpy() for each, value in zip(session.get_inputs(), inputs, strict=True)}
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(None, feeds)), strict=True))


def apart(found: Tensor, wanted: Tensor) -> float:
    """Largest difference as a part of the largest value or of 1; infinite where shapes differ."""
    if found.shape != wanted.shape:
        return torch.inf
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1)) if wanted.numel() else 0.0
