"""Rewriting and tracing: PyTorch model → ONNX graph, by MMDeploy."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from mmengine.config import Config
from torch import nn

from deploy import compat, graph, rewrites
from deploy.bundle import GRAPH
from deploy.reference import Reference
from slipway_runtime.manifest import Postprocess
from train.cli import say
from train.errors import UsageError


class Traced(nn.Module):
    """What MMDeploy traces: images → outputs, as the task says."""

    def __init__(self, model: nn.Module, task: Any, postprocess: Postprocess) -> None:
        super().__init__()
        self.model, self.task, self.postprocess = model, task, postprocess

    def forward(self, images: torch.Tensor) -> Any:
        """N×3×H×W → the graph's outputs."""
        return self.task.trace(self.model, images, self.postprocess)


def trace(deploy_config: Config, reference: Reference, sample: torch.Tensor) -> onnx.ModelProto:
    """Rewrite and trace a fresh copy of the reference's model with MMDeploy, and simplify the graph.

    Args:
        deploy_config: MMDeploy's; its codebase and output names are filled in from the task.
        reference: the model; itself it stays as it is.
        sample: an input of the graph, 3×H×W.
    """
    from mmdeploy.apis.core.pipeline_manager import no_mp
    from mmdeploy.apis.onnx.export import export as mmdeploy_export

    task, postprocess = reference.task, reference.postprocess
    compat.apply()
    compat.declare_task_scope(reference.config.default_scope)
    modules = rewrites.register(reference.config.default_scope)
    complete(deploy_config, task, postprocess, sample)
    settings = deploy_config.onnx_config
    model = copy.deepcopy(reference.model)
    dynamic_batch = 0 in (settings.dynamic_axes or {}).get("input", {})
    # Two images where the batch varies: what depends on its being one would show.
    inputs = torch.stack([sample, sample.flip(2)] if dynamic_batch else [sample])
    needed = rewrites.needed(modules, lambda: reference(inputs))
    settings.opset_version = rewrites.opset(modules, needed, settings.opset_version)
    with tempfile.TemporaryDirectory() as scratch, no_mp(), compat.torchscript_exporter():
        rewrites.reset()
        mmdeploy_export(
            Traced(model, task, postprocess),
            inputs,
            str(Path(scratch) / "graph"),
            backend="onnxruntime",
            context_info=dict(deploy_cfg=deploy_config),
            input_names=settings.input_names,
            output_names=settings.output_names,
            opset_version=settings.opset_version,
            dynamic_axes=settings.dynamic_axes,
            keep_initializers_as_inputs=False,
            optimize=False,
        )
        rewrites.assert_ran(modules, needed)
        traced = onnx.load(Path(scratch) / "graph.onnx")
    simplified, same = graph.simplify(traced, [{settings.input_names[0]: inputs.numpy()}])
    if not same:
        say("the simplifier changed an output; the graph is kept as it was traced")
    axes = settings.dynamic_axes or {}
    graph.declare(
        simplified,
        {
            name: [axes.get(name, {}).get(axis, size) for axis, size in enumerate(output.shape)]
            for name, output in reference(inputs).items()
        },
    )
    return simplified


def complete(deploy_config: Config, task: Any, postprocess: Postprocess, sample: torch.Tensor) -> None:
    """Fill in what MMDeploy asks of a config and a bundle or an experiment already decides.

    Raises:
        UsageError: an opset below 17.
    """
    settings = deploy_config.onnx_config
    outputs = task.outputs(postprocess)
    settings.save_file = GRAPH
    settings.input_names = ["input"]
    settings.output_names = list(outputs)
    axes = (settings.get("dynamic_axes") or {}).get("input", {})
    # MMDeploy takes a graph without dynamic axes by the key's absence or None.
    settings.dynamic_axes = {"input": axes} if axes else None
    for name, by_size in outputs.items() if axes else ():
        batch = {0: axes[0]} if 0 in axes else {}
        settings.dynamic_axes[name] = {**batch, **(by_size if 2 in axes else {})}
    if 2 not in axes:
        settings.input_shape = [sample.shape[2], sample.shape[1]]
    deploy_config.backend_config = dict(type="onnxruntime")
    deploy_config.codebase_config = dict(task.CODEBASE)
    if settings.get("opset_version", 0) < graph.MIN_OPSET:
        raise UsageError(
            f"onnx_config.opset_version {settings.get('opset_version')}: at least {graph.MIN_OPSET} is needed"
        )
