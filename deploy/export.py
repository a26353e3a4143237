"""Export: checkpoint → one exact ONNX graph → verified bundle."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mmengine.config import Config

import slipway_runtime
from deploy import bundle
from slipway_runtime import manifest
from slipway_runtime.errors import BundleError
from slipway_runtime.preprocess import preprocess
from train import config as configs
from train.cli import nearest, say
from train.errors import UsageError, VerificationError
from train.experiment import Experiment, tools
from train.files import atomic_folder, sha256_json

if TYPE_CHECKING:
    from deploy.parity import Parity
    from deploy.reference import Reference

CONFIGS = Path(__file__).parents[1] / "configs" / "deploy"
#: Counts up when a change of this room changes what a bundle holds, so that old bundles are made anew.
VERSION = 2


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

    # torch and the mm* packages take seconds to import: not before there is work for them.
    from deploy import graph, parity, tasks
    from deploy.reference import Reference
    from deploy.trace import trace

    config = configs.read(experiment.config)
    configs.activate(config, experiment.config)
    task, fixed = tasks.find(config), 2 not in (deploy_config.onnx_config.get("dynamic_axes") or {}).get("input", {})
    if fixed:
        task.one_size(config)
    postprocess = task.postprocess(config, deploy_config, record.data["classes"])
    reference = Reference(config, experiment.checkpoint, postprocess)
    with TemporaryDirectory() as scratch, atomic_folder(experiment.bundle) as folder:
        images = parity.validation_images(record, Path(scratch))
        say("exporting: MMDeploy rewrites and traces")
        sample = reference.graph_input(images[0])
        if fixed:
            _require_one_size(reference, images)
        model = trace(deploy_config, reference, sample)
        graph.check(model)
        described = bundle.manifest(config, record, model, postprocess)
        bundle.write_graph(model, described, folder / bundle.GRAPH)
        (folder / bundle.CONFIG).write_bytes(experiment.config.read_bytes())
        if reference.task.SDK:
            bundle.write_sdk_files(folder, config, deploy_config, experiment.checkpoint.name)
        bundle.seal(folder, described)
        say(f"verifying: {len(images)} images against the unpatched model")
        result = parity.compare(slipway_runtime.load(folder), reference, images)
        result.require("no bundle was written")
        verdict = {**result.to_dict(), "fingerprint": fingerprint}
        (folder / bundle.PARITY).write_text(json.dumps(verdict, indent=2) + "\n")
    return Exported(experiment.bundle, verdict, new=True)


def verify(experiment: Experiment) -> "Parity":
    """Compare a bundle once more with the model it came from.

    Raises:
        UsageError, InputError: no whole experiment.
        VerificationError: the checkpoint is not the one that was exported.
    """
    from deploy import graph, parity, tasks
    from deploy.reference import Reference

    record = experiment.read()
    described = manifest.read(experiment.bundle)
    manifest.check_files(experiment.bundle, described)
    if described.origin.checkpoint_sha256 != record.checkpoint_sha256:
        raise VerificationError(
            f"{experiment.bundle}: made from another checkpoint than {experiment.checkpoint}; export again"
        )
    config = configs.read(experiment.config)
    configs.activate(config, experiment.config)
    if isinstance(described.inputs[0].shape[2], int):
        tasks.find(config).one_size(config)
    graph.check(graph.load(experiment.bundle / bundle.GRAPH))
    reference = Reference(config, experiment.checkpoint, described.postprocess)
    with TemporaryDirectory() as scratch:
        images = parity.validation_images(record, Path(scratch))
        return parity.compare(slipway_runtime.load(experiment.bundle), reference, images)


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


def _current(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The parity verdict of a whole bundle of this fingerprint, else None."""
    try:
        verdict: dict[str, Any] = json.loads((folder / bundle.PARITY).read_text())
        manifest.check_files(folder, manifest.read(folder))
    except (OSError, ValueError, BundleError):
        return None
    return verdict if verdict.get("fingerprint") == fingerprint and verdict.get("passed") else None


def _require_one_size(reference: "Reference", images: Sequence[Path]) -> None:
    """Refuse (UsageError) images that a graph of one size could not take."""
    from deploy import pipeline

    steps = pipeline.steps(reference.config)
    first: dict[str, Path] = {}
    for path in images:
        height, width = reference.task.sample(preprocess(path, steps).array, reference.postprocess).shape[1:]
        first.setdefault(f"{width}×{height}", path)
    if len(first) > 1:
        found = " and ".join(f"{size} ({path.name})" for size, path in list(first.items())[:2])
        raise UsageError(
            f"this shape is for images of one size, the test pipeline gives {found}; export with SHAPE=dynamic, or give the "
            "pipeline a Resize with keep_ratio=False or the data preprocessor a test_cfg=dict(size=(height, width))"
        )
