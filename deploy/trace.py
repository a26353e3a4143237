"""Rewriting and tracing: PyTorch model → ONNX graph, by MMDeploy."""

import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from mmengine.config import Config

from deploy import compat, graph, rewrites, tasks
from deploy.bundle import GRAPH
from train import checkpoint
from train.cli import say
from train.errors import UsageError
from train.runner import build_model


def trace(config: Config, weights: Path, deploy_config: Config, samples: list[torch.Tensor]) -> onnx.ModelProto:
    """Rewrite and trace a fresh copy of the model with MMDeploy, and simplify the graph.

    Args:
        config: a bound config.
        weights: the checkpoint.
        deploy_config: MMDeploy's; its codebase and output names are filled in from the task.
        samples: two preprocessed images, 3×H×W.
    """
    from mmdeploy.apis.core.pipeline_manager import no_mp
    from mmdeploy.apis.onnx.export import export as mmdeploy_export

    task = tasks.find(config)
    compat.apply()
    compat.declare_task_scope(config.default_scope)
    modules = rewrites.register()
    complete(deploy_config, task, samples[0])
    settings = deploy_config.onnx_config
    model = build_model(config)
    checkpoint.load_into(model, weights)
    dynamic_batch = 0 in (settings.dynamic_axes or {}).get("input", {})
    inputs = torch.stack(samples if dynamic_batch and samples[0].shape == samples[1].shape else samples[:1])
    with tempfile.TemporaryDirectory() as scratch, no_mp(), compat.torchscript_exporter():
        rewrites.reset()
        mmdeploy_export(
            model,
            inputs,
            str(Path(scratch) / "graph"),
            backend="onnxruntime",
            input_metas=dict(data_samples=None, mode="predict"),
            context_info=dict(deploy_cfg=deploy_config),
            input_names=settings.input_names,
            output_names=settings.output_names,
            opset_version=settings.opset_version,
            dynamic_axes=settings.dynamic_axes,
            keep_initializers_as_inputs=False,
            optimize=False,
        )
        rewrites.assert_ran(modules, model)
        traced = onnx.load(Path(scratch) / "graph.onnx")
    simplified, same = graph.simplify(traced, [{settings.input_names[0]: inputs.numpy()}])
    if not same:
        say("the simplifier changed an output; the graph is kept as it was traced")
    return simplified


def complete(deploy_config: Config, task: Any, sample: torch.Tensor) -> None:
    """Fill in what MMDeploy asks of a config and a bundle or an experiment already decides.

    Raises:
        UsageError: an opset below 17.
    """
    settings = deploy_config.onnx_config
    settings.save_file = GRAPH
    settings.input_names = ["input"]
    settings.output_names = list(task.OUTPUTS)
    axes = (settings.get("dynamic_axes") or {}).get("input", {})
    # MMDeploy takes a graph without dynamic axes by the key's absence or None.
    settings.dynamic_axes = {"input": axes} if axes else None
    if 0 in axes:
        for name, extra in task.OUTPUTS.items():
            settings.dynamic_axes[name] = {0: axes[0], **extra}
    if 2 not in axes:
        settings.input_shape = [sample.shape[2], sample.shape[1]]
    deploy_config.backend_config = dict(type="onnxruntime")
    deploy_config.codebase_config = dict(task.CODEBASE)
    if settings.get("opset_version", 0) < graph.MIN_OPSET:
        raise UsageError(
            f"onnx_config.opset_version {settings.get('opset_version')}: at least {graph.MIN_OPSET} is needed"
        )
