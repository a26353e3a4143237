"""TensorRT: `engines/PRECISION-KEY.plan` in the bundle, for this machine's TensorRT and GPU.

The graph is the bundle's, as this TensorRT needs it written (`deploy.engines.graphs`). A process of its own builds it. What
came out is compared with what was asked for, layer by layer, and run against the float32 graph; only then is it kept.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.engines import Built, Request, capabilities
from deploy.engines.building import agreement, images, inspected, process, store, timing
from deploy.engines.building.profiles import shapes
from deploy.engines.building.spec import Spec
from deploy.engines.capabilities import LEVELS, Capabilities
from slipway_runtime import cuda
from slipway_runtime import manifest as manifests
from slipway_runtime import plan as plans
from slipway_runtime.errors import SessionError
from slipway_runtime.manifest import Manifest
from slipway_runtime.plan import Machine, Options, PlanInfo
from slipway_runtime.sessions import open_session
from train.cli import say
from train.errors import BackendError, InputError

if TYPE_CHECKING:
    import onnx

#: Counts up when a change here changes what is built, so that old plans are built anew.
VERSION = 1


def build(request: Request) -> Built:
    """Build one precision's plan, or find that it is there.

    Raises:
        InputError: the bundle has no graph in that precision, or another one than its manifest says.
        BackendError: no TensorRT or GPU, an option that this TensorRT lacks, refused nodes, no memory.
        VerificationError: another precision than asked for, or numbers that do not agree; nothing is kept.
    """
    from deploy.engines import graphs

    bundle, options = request.experiment.bundle, request.options
    described, graph = _graph(bundle, options.precision)
    machine, able = _machine(options)
    key = plans.key_of(described.files[graph], options, machine, VERSION * 1000 + graphs.VERSION)
    path = plans.path_of(bundle, options.precision, key)
    with store.building(bundle / plans.FOLDER) as folder:
        known = store.current(path, key)
        if known and not request.force:
            return Built(path, known, new=False)
        say(
            f"{path.name}: TensorRT {machine.tensorrt} on {machine.gpu}, TF32 {'on' if options.tf32 else 'off'}, level "
            f"{options.optimization_level}, shapes {' and '.join(map(shapes, options.profiles))}"
        )
        model = graphs.prepare(bundle, described, options.precision, able, options.profiles)
        info = _build(request, folder / path.name, model, described, key, machine)
        agreed = _agreement(request, folder / path.name, info, described)
        store.keep(folder / path.name, path, info)
    return Built(path, info, new=True, agreement=agreed)


def _graph(bundle: Path, precision: str) -> tuple[Manifest, str]:
    """The manifest, and the name of the graph that a plan is built from, whole."""
    described = manifests.read(bundle)
    name = manifests.graph_name(precision)
    if name not in described.files:
        raise InputError(
            f"{bundle}: no graph in {precision}; make one with `make export-{described.kind} EXP={described.name} "
            f"PRECISION={precision}`"
        )
    manifests.check_files(bundle, described, [name])
    return described, name


def _machine(options: Options) -> tuple[Machine, Capabilities]:
    """This machine, which must be able to do what is asked for."""
    try:
        machine, able = cuda.machine(), capabilities.read(cuda.tensorrt())
    except SessionError as error:
        raise BackendError(
            f"engines are built on the machine that runs them, with TensorRT and an NVIDIA GPU: {error}; docs/gpu.md says "
            "what to install"
        )
    version = f"TensorRT {machine.tensorrt}"
    if options.version_compatible and not able.version_compatible:
        raise BackendError(
            f"{version} builds no version-compatible plans; leave --version-compatible out or install a newer one"
        )
    if options.hardware_compatible not in able.hardware:
        raise BackendError(
            f"{version} has no hardware compatibility {LEVELS[options.hardware_compatible]}, it has "
            f"{', '.join(able.hardware)}; ask for one of these or install a newer one"
        )
    return machine, able


def _build(
    request: Request, path: Path, model: "onnx.ModelProto", described: Manifest, key: str, machine: Machine
) -> PlanInfo:
    """Build at `path` and compare the precision; the description lies beside it."""
    options, graph = request.options, manifests.graph_name(request.options.precision)
    for node in model.graph.node:
        # TensorRT's layers say which nodes they were made of.
        node.name = node.name or node.output[0]
    content = path.with_suffix(".onnx")
    content.write_bytes(model.SerializeToString())
    spec = Spec(
        graph=content,
        input=described.inputs[0].name,
        options=options,
        plan=path,
        timing_cache=timing.path(request.experiment.work, machine),
        parent=os.getpid(),
    )
    answer = process.run(spec, path.parent)
    if answer.timing_cache == "damaged":
        say(f"{spec.timing_cache}: was damaged, or of another GPU; every kernel was timed anew")
    info = PlanInfo(
        key=key,
        plan_sha256=manifests.sha256(path),
        graph=graph,
        graph_sha256=described.files[graph],
        machine=machine,
        options=options,
        inputs=described.inputs,
        outputs=described.outputs,
        layers=inspected.check(inspected.layers(answer.inspector), inspected.asked(model), options),
        build_seconds=answer.build_seconds,
    )
    store.describe(path, info)
    return info


def _agreement(request: Request, path: Path, info: PlanInfo, described: Manifest) -> dict[str, Any]:
    paths = images.spread(images.validation(request.experiment), agreement.IMAGES)
    if not paths:
        say("the data set is gone: outputs were not compared; the benchmark's accuracy gate needs it too")
        return {"images": 0, "outputs": {}}
    session = open_session(path, device="cuda")
    return agreement.compare(session, request.experiment, described, info.options, paths)
