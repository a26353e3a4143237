"""Export: checkpoint → one exact ONNX graph → verified bundle."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from mmengine.config import Config

from deploy import bundle, compat, graph, parity, rewrites, tasks
from deploy.reference import Reference
from train import checkpoint, data
from train import config as configs
from train.cli import nearest, say
from train.errors import InputError, UsageError, VerificationError
from train.experiment import Experiment, Record, tools
from train.files import atomic_folder, sha256_json
from train.runner import build_model

CONFIGS = Path(__file__).parents[1] / "configs" / "deploy"
#: Counts up when a change of this room changes what a bundle holds, so that old bundles are made anew.
VERSION = 1


@dataclass(frozen=True)
class Exported:
    """What `export` made or found."""

    bundle: Path
    parity: dict[str, Any]
    new: bool


def shapes() -> list[str]:
    """The shape policies, by name."""
    return sorted(path.stem for path in CONFIGS.glob("[!_]*.py"))


def export(experiment: Experiment, *, shape: str = "dynamic", force: bool = False) -> Exported:
    """Export a trained experiment to `work/<experiment>/bundle`.

    Args:
        experiment: trained, or adopted, so that `work/<experiment>/train` is whole.
        shape: "static", "batch" or "dynamic" (configs/deploy), or the path of an MMDeploy config.
        force: export though a current bundle is there.

    Raises:
        UsageError: nothing trained, an unknown shape, a model or pipeline that cannot be exported exactly.
        InputError: a damaged checkpoint; too few images to verify on.
        VerificationError: the graph holds more than standard operators, or its numbers are not the model's.
    """
    record = experiment.read()
    deploy_config = read_deploy_config(shape)
    fingerprint = sha256_json(
        [
            VERSION,
            record.checkpoint_sha256,
            record.config_sha256,
            record.data["fingerprint"],
            deploy_config.to_dict(),
            tools(),
        ]
    )
    if not force and (known := _current(experiment.bundle, fingerprint)):
        return Exported(experiment.bundle, known, new=False)

    images = validation_images(record)
    config = configs.read(experiment.config)
    configs.activate(config, experiment.config)
    reference = Reference(config, experiment.checkpoint)
    with atomic_folder(experiment.bundle) as folder:
        say("exporting: MMDeploy rewrites and traces")
        model = trace(config, experiment.checkpoint, deploy_config, reference.load_images(images[:2]))
        graph.check(model)
        described = bundle.manifest(config, record, model)
        bundle.write_graph(model, described, folder / bundle.GRAPH)
        (folder / bundle.CONFIG).write_bytes(experiment.config.read_bytes())
        bundle.write_sdk_files(folder, config, deploy_config, experiment.checkpoint.name)
        bundle.seal(folder, described)
        say(f"verifying: {len(images)} images against the unpatched model")
        result = verify(folder, reference, images)
        result.require()
        verdict = {**result.to_dict(), "fingerprint": fingerprint}
        (folder / bundle.PARITY).write_text(json.dumps(verdict, indent=2) + "\n")
    return Exported(experiment.bundle, verdict, new=True)


def verify(folder: Path, reference: Reference, images: list[Path]) -> parity.Parity:
    """Load a bundle as a user would and compare it with the unpatched model."""
    import slipway_runtime

    return parity.compare(slipway_runtime.load(folder), reference, images)


def read_deploy_config(shape: str) -> Config:
    """An MMDeploy config by shape policy or by path.

    Raises:
        UsageError: an unknown shape policy, a config that does not parse.
    """
    if not shape.endswith(".py"):
        if shape not in shapes():
            raise nearest(shape, shapes(), "shape")
        shape = str(CONFIGS / f"{shape}.py")
    try:
        config = Config.fromfile(shape)
    except (OSError, SyntaxError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{shape}: {type(error).__name__}: {error}") from None
    if "onnx_config" not in config:
        raise UsageError(f"{shape}: no onnx_config; expected an MMDeploy config, as in configs/deploy")
    return config


def validation_images(record: Record, count: int = parity.MIN_IMAGES) -> list[Path]:
    """Validation images to verify on, spread over the set; training images fill up a small one."""
    root = Path(record.data["root"])
    if not (root / "val.txt").is_file():
        raise InputError(
            f"{root}: the data set that the model was trained on is gone; prepare it again with `make train-…`"
        )
    paths = [path for path, _ in data.read_split(root, "val")]
    step = max(1, len(paths) // count)
    chosen = paths[::step][:count]
    if len(chosen) < count and (root / "train.txt").is_file():
        chosen += [path for path, _ in data.read_split(root, "train")][: count - len(chosen)]
    return chosen


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
    dynamic_batch = 0 in (settings.get("dynamic_axes") or {}).get("input", {})
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
            dynamic_axes=settings.get("dynamic_axes"),
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
    """Fill in what MMDeploy asks of a config and an experiment already knows."""
    settings = deploy_config.onnx_config
    settings.output_names = list(task.OUTPUTS)
    axes = settings.get("dynamic_axes")
    if axes and 0 in axes["input"]:
        for name, extra in task.OUTPUTS.items():
            axes[name] = {0: axes["input"][0], **extra}
    if not axes or 2 not in axes["input"]:
        settings.input_shape = [sample.shape[2], sample.shape[1]]
    deploy_config.codebase_config = dict(task.CODEBASE)
    if settings.get("opset_version", 0) < graph.MIN_OPSET:
        raise UsageError(
            f"onnx_config.opset_version {settings.get('opset_version')}: at least {graph.MIN_OPSET} is needed"
        )


def _current(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The parity verdict of a whole bundle of this fingerprint, else None."""
    from slipway_runtime import manifest
    from slipway_runtime.errors import BundleError

    try:
        verdict: dict[str, Any] = json.loads((folder / bundle.PARITY).read_text())
        manifest.check_files(folder, manifest.read(folder))
    except (OSError, ValueError, BundleError):
        return None
    return verdict if verdict.get("fingerprint") == fingerprint and verdict.get("passed") else None


def reverify(experiment: Experiment) -> parity.Parity:
    """Compare a bundle once more with the model it came from.

    Raises:
        UsageError, InputError: no whole experiment.
        VerificationError: the checkpoint is not the one that was exported.
    """
    from slipway_runtime import manifest

    record = experiment.read()
    described = manifest.read(experiment.bundle)
    manifest.check_files(experiment.bundle, described)
    if described.origin.checkpoint_sha256 != record.checkpoint_sha256:
        raise VerificationError(
            f"{experiment.bundle}: made from another checkpoint than {experiment.checkpoint}; export again"
        )
    config = configs.read(experiment.config)
    configs.activate(config, experiment.config)
    graph.check(onnx.load(experiment.bundle / bundle.GRAPH))
    return verify(experiment.bundle, Reference(config, experiment.checkpoint), validation_images(record))
