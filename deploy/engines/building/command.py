"""`python -m deploy engine`: its arguments, and what it prints."""

import argparse
from typing import Any

from deploy import engines
from deploy.engines import Built, Request
from deploy.engines.building import images, profiles
from slipway_runtime import manifest as manifests
from slipway_runtime.plan import Options
from train import cli, lock
from train.errors import UsageError
from train.experiment import Experiment, locate


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    verb.add_argument(
        "--precision",
        nargs="+",
        action="extend",
        choices=manifests.PRECISIONS,
        help="of which graphs of the bundle (default: fp32)",
    )
    verb.add_argument("--engine", default="tensorrt", metavar="NAME", help="what to build: tensorrt (default)")
    verb.add_argument(
        "--batch", metavar="N|MIN:OPT:MAX", help="images a call (default: the graph's own, or 1:1:8 where it takes any)"
    )
    verb.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="HxW|MINHxW:OPTHxW:MAXHxW",
        help="pixels, once for each profile (default: what the test pipeline gives)",
    )
    verb.add_argument("--workspace", type=int, metavar="MIB", help="scratch memory at most (default: all of the GPU's)")
    verb.add_argument("--level", type=int, default=3, choices=range(6), help="0 builds fast, 5 runs fast (default: 3)")
    verb.add_argument("--tf32", action="store_true", help="let float32 layers round to TF32's 10 bits of mantissa")
    verb.add_argument(
        "--version-compatible", action="store_true", help="let later TensorRT of the same major version load it"
    )
    verb.add_argument(
        "--hardware-compatible",
        default="none",
        choices=("same", "ampere+"),
        help="let other GPUs of one compute capability, or all from Ampere on, load it",
    )
    verb.add_argument("--force", action="store_true", help="build though the engine is current")


def run(arguments: argparse.Namespace) -> int:
    """Build what is asked for."""
    engine = engines.get(arguments.engine)
    experiment = Experiment(locate(arguments.experiment)[0], arguments.work)
    with lock.only_writer(experiment.root):
        wanted = [_options(arguments, experiment, name) for name in dict.fromkeys(arguments.precision or ["fp32"])]
        built = [engine.build(Request(experiment, options, arguments.force)) for options in wanted]
    for one in built:
        cli.say(_line(one))
    return cli.finish(
        {"experiment": experiment.name, "engines": [_result(one) for one in built]},
        as_json=arguments.json,
        lines=[],
        next_command=f"make bench EXP={experiment.name} DEVICE=cuda BENCH=configs/bench/cuda.yaml",
    )


def _options(arguments: argparse.Namespace, experiment: Experiment, precision: Any) -> Options:
    """What is asked for, checked as far as no TensorRT is needed for that.

    Raises:
        UsageError: numbers that cannot be.
        BundleError: no bundle.
    """
    if arguments.workspace is not None and arguments.workspace < 1:
        raise UsageError(f"--workspace {arguments.workspace}: expected MiB, 1 or more")
    described = manifests.read(experiment.bundle)
    return Options(
        precision=precision,
        profiles=profiles.choose(described, arguments.batch, arguments.size, lambda: images.validation(experiment)),
        tf32=arguments.tf32,
        optimization_level=arguments.level,
        workspace_mib=arguments.workspace,
        version_compatible=arguments.version_compatible,
        hardware_compatible=arguments.hardware_compatible,
    )


def _line(one: Built) -> str:
    layers = ", ".join(f"{count} {name}" for name, count in one.info.layers.items())
    text = f"{'built' if one.new else 'current'}: {one.path} (layers: {layers}; {one.info.build_seconds:.0f} s)"
    if one.agreement and one.agreement["images"]:
        apart = ", ".join(f"{name} {output['max_abs']:.1e}" for name, output in one.agreement["outputs"].items())
        text += f"; against fp32 on ONNX Runtime, {one.agreement['images']} images, max |Δ|: {apart}"
    return text


def _result(one: Built) -> dict[str, Any]:
    return {
        "path": str(one.path),
        "built": one.new,
        "agreement": one.agreement,
        **one.info.model_dump(mode="json", include={"key", "options", "machine", "layers", "build_seconds"}),
    }
