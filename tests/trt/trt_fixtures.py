"""TensorRT and CUDA for tests on a machine without them: a stand-in of both, with the names of the real bindings only.

In a test: take the fixture `tensorrt_stand_in`; it runs the test once for TensorRT 8.6, 10 and 11, `import tensorrt` and
`cuda.bindings.runtime` give the stand-ins meanwhile, and afterwards nothing may be left on the stand-in's GPU.
In a fixture of your own: `with playing("10.16.1.11") as trt:`. For child processes: `env=stand_in_environment(version)`.
What goes wrong is sown by environment variables, `monkeypatch.setenv(…)` or `stand_in_environment(version, refused="TopK")`:
STAND_IN_REFUSED=TopK,Resize operators that the parser refuses; STAND_IN_BUILD_FAILS=memory or any text; STAND_IN_BUILD_SECONDS;
STAND_IN_LAYERS=float32 float layers that the engine pretends to have; STAND_IN_ENQUEUE_FAILS=text; and, in
stand_in/stand_in_gpu.py, the GPU's: STAND_IN_GPUS=0, _GPU_NAME, _COMPUTE_CAPABILITY, _MEMORY (bytes), _DRIVER=0, _CUDA.
`graph()` makes a tiny ONNX graph, `write_plan()` a plan and the file beside it. ONNX Runtime computes; work that nobody
waited for is not done, and memory that is read too early is 0xCD bytes. api/*.json: tables of the real bindings' names.
"""

import gc
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
STAND_IN = HERE / "stand_in"
API = HERE / "api"
VERSIONS = ("8.6.0", "10.16.1.11", "11.4.0.106")
_NAMES = ("tensorrt", "cuda", "stand_in_gpu")


def stand_in_environment(version: str = VERSIONS[1], **seeds: object) -> dict[str, str]:
    """The environment of a child process that is to see the stand-ins; add it to `os.environ`."""
    path = os.pathsep.join(filter(None, (str(STAND_IN), os.environ.get("PYTHONPATH"))))
    return {
        "PYTHONPATH": path,
        "STAND_IN_TENSORRT": version,
        **{f"STAND_IN_{name.upper()}": str(value) for name, value in seeds.items()},
    }


@contextmanager
def playing(version: str = VERSIONS[1], leaks: bool = False) -> Iterator[ModuleType]:
    """The stand-in of a version as the module `tensorrt`.

    Args:
        version: one of VERSIONS.
        leaks: whether something may be left on the GPU when it ends.
    """
    saved = _taken()
    before = {name: os.environ.get(name) for name in ("STAND_IN_TENSORRT", "PYTHONPATH")}
    os.environ.update(stand_in_environment(version))
    sys.path.insert(0, str(STAND_IN))
    try:
        gpu = import_module("stand_in_gpu").GPU
        yield import_module("tensorrt")
        if gpu.live():
            gc.collect()
        assert not gpu.faults, gpu.faults
        assert leaks or not gpu.live(), f"left on the GPU: {gpu.live()}"
    finally:
        sys.path.remove(str(STAND_IN))
        _taken()
        sys.modules.update(saved)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def play_for_good() -> None:
    """The stand-in as the module `tensorrt` until the process ends."""
    _FOR_GOOD.enter_context(playing())


#: A context that nobody holds ends.
_FOR_GOOD = ExitStack()


@pytest.fixture(params=VERSIONS)
def tensorrt_stand_in(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """TensorRT's stand-in, of each version in turn; faults and leaks of GPU memory fail the test."""
    with playing(request.param) as module:
        yield module


def graph(
    nodes: Sequence[Any] = (), size: int | str = "batch", outputs: Sequence[tuple[str, int, Sequence[Any]]] = ()
) -> Any:
    """An ONNX model with the input x: float32, size×3×8×8.

    Args:
        nodes: ONNX nodes; none: y = Relu(Conv(x)), size×4×8×8, and k = its arg max over channels, int64.
        size: the first axis, a number or a name.
        outputs: name, ONNX data type and shape of each; needed with nodes.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    made = [
        helper.make_node("Conv", ["x", "weight"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
        helper.make_node("ArgMax", ["y"], ["k"], name="argmax", axis=1, keepdims=0),
    ]
    kinds = list(outputs) or [("y", TensorProto.FLOAT, (size, 4, 8, 8)), ("k", TensorProto.INT64, (size, 8, 8))]
    body = helper.make_graph(
        list(nodes) or made,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (size, 3, 8, 8))],
        [helper.make_tensor_value_info(*each) for each in kinds],
        [] if nodes else [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_plan(
    trt: Any, model: Any, path: Path, profiles: Sequence[Any] = (), precision: str = "fp32", **options: Any
) -> Path:
    """Build a plan with the stand-in, and write the file beside it as the runtime reads it.

    Args:
        trt: the stand-in, as `tensorrt_stand_in` gives it.
        model: as `graph` makes it.
        path: `….plan`; `engines/fp32-0123456789abcdef.plan` in a bundle.
        profiles: (minimum, optimum, maximum) of the first input, each; none: 1, 2 and 4 images.
        precision: what the file says of it.
        options: more of `plan.Options`.

    Returns:
        The path.
    """
    from slipway_runtime import cuda
    from slipway_runtime import plan as plans

    content = model.SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    inputs, outputs = ([_spec(each) for each in group] for group in (model.graph.input, model.graph.output))
    shapes = list(profiles) or [[(n, *inputs[0].shape[1:]) for n in _numbers(inputs[0].shape[0])]]
    found = [plans.Profile(minimum=low, optimum=best, maximum=high) for low, best, high in shapes]
    asked = plans.Options(precision=precision, profiles=tuple(found), **options)
    built = build(trt, content, inputs[0].name, asked)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(built)
    info = plans.PlanInfo(
        key=plans.key_of(digest, asked, cuda.machine(), 0),
        plan_sha256=hashlib.sha256(built).hexdigest(),
        graph="model.onnx",
        graph_sha256=digest,
        machine=cuda.machine(),
        options=asked,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        layers={"fp32": len(model.graph.node)},
        build_seconds=0.0,
    )
    plans.sidecar(path).write_text(info.to_json(), encoding="utf-8")
    return path


def build(trt: Any, content: bytes, name: str, options: Any) -> bytes:
    """The bytes of a plan of an ONNX graph, whose input is called `name`, for `plan.Options`."""
    log = trt.Logger()
    builder = trt.Builder(log)
    flags = trt.NetworkDefinitionCreationFlag.__members__
    network = builder.create_network(
        sum(1 << int(flags[each]) for each in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if each in flags)
    )
    parser = trt.OnnxParser(network, log)
    assert parser.parse(content), [str(parser.get_error(index)) for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    for each in options.profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(name, each.minimum, each.optimum, each.maximum)
        config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    assert built is not None
    return bytes(built)


def _spec(value: Any) -> Any:
    from onnx import helper

    from slipway_runtime.manifest import TensorSpec

    kind = value.type.tensor_type
    return TensorSpec(
        name=value.name,
        dtype=helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
        shape=tuple(size.dim_param or size.dim_value for size in kind.shape.dim),
    )


def _numbers(size: int | str) -> tuple[int, int, int]:
    return (1, 2, 4) if isinstance(size, str) else (size,) * 3


def _taken() -> dict[str, ModuleType]:
    """Take every module that the stand-in replaces out of `sys.modules`."""
    names = [name for name in sys.modules if name.split(".")[0] in _NAMES]
    return {name: sys.modules.pop(name) for name in names}
