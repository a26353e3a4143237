"""The stand-in of TensorRT itself: what it computes, and what it refuses as the real one does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from trt_fixtures import VERSIONS, build, graph, playing, stand_in_environment, write_plan

from slipway_runtime import cuda
from slipway_runtime import plan as plans

IMAGES = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)


def options(*profiles: tuple, **more: Any) -> plans.Options:
    found = profiles or (((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8)),)
    shapes = tuple(plans.Profile(minimum=low, optimum=best, maximum=high) for low, best, high in found)
    return plans.Options(precision="fp32", profiles=shapes, **more)


def log_of(trt: Any) -> Any:
    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            self.lines.append(msg)

    return Log()


def load(trt: Any, content: bytes, log: Any = None) -> Any:
    return trt.Runtime(log or trt.Logger()).deserialize_cuda_engine(content)


def suppression() -> onnx.ModelProto:
    """One output of a size that the data decides: the places above zero."""
    return graph([helper.make_node("NonZero", ["x"], ["places"])], 1, [("places", TensorProto.INT64, (4, "found"))])


def test_a_plan_and_the_file_beside_it(tensorrt_stand_in, tmp_path: Path) -> None:
    path = write_plan(tensorrt_stand_in, graph(), tmp_path / "engines" / "fp32-0.plan")
    info = plans.read(path)
    plans.check(path, info, cuda.machine())
    assert info.machine.tensorrt == tensorrt_stand_in.__version__
    engine = load(tensorrt_stand_in, path.read_bytes())
    assert [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)] == ["x", "y", "k"]
    assert [shape[0] for shape in engine.get_tensor_profile_shape("x", 0)] == [1, 2, 4]
    narrow = tensorrt_stand_in.DataType.INT32 if tensorrt_stand_in.__version__[0] == "8" else tensorrt_stand_in.int64
    assert engine.get_tensor_dtype("k") == narrow
    with pytest.raises(NotImplementedError, match="does not play"):
        engine.create_execution_context().execute_v2([])


def test_it_computes_what_onnx_runtime_does(tensorrt_stand_in) -> None:
    engine = load(tensorrt_stand_in, build(tensorrt_stand_in, graph().SerializeToString(), "x", options()))
    context = engine.create_execution_context()
    stream, buffers, host = cuda.Stream(), {name: cuda.Buffer() for name in "xyk"}, cuda.HostMemory()
    expected = onnxruntime.InferenceSession(graph().SerializeToString()).run(None, {"x": IMAGES[:3]})
    assert not context.set_input_shape("x", (5, 3, 8, 8))
    assert context.infer_shapes() == ["x"]
    assert context.set_input_shape("x", (3, 3, 8, 8))
    arrays = {}
    for name, array in zip("yk", expected, strict=True):
        dtype = "int32" if name == "k" and tensorrt_stand_in.__version__[0] == "8" else array.dtype
        assert tuple(context.get_tensor_shape(name)) == array.shape
        arrays[name] = host.array(array.shape, dtype)
        assert context.set_tensor_address(name, buffers[name].reserve(arrays[name].nbytes))
    assert not context.execute_async_v3(stream.handle)  # no address of x
    staged = host.array(IMAGES[:3].shape, np.float32)
    staged[:] = IMAGES[:3]
    stream.upload(staged, buffers["x"].reserve(staged.nbytes))
    context.set_tensor_address("x", buffers["x"].address)
    assert context.execute_async_v3(stream.handle)
    for name, array in arrays.items():
        stream.download(buffers[name].address, array)
    assert not np.array_equal(arrays["y"], expected[0])  # nobody waited
    stream.synchronize()
    assert np.array_equal(arrays["y"], expected[0])
    assert np.array_equal(arrays["k"], expected[1])


def test_sizes_that_the_data_decides(tensorrt_stand_in) -> None:
    trt = tensorrt_stand_in
    profile = ((1, 3, 8, 8),) * 3
    context = load(trt, build(trt, suppression().SerializeToString(), "x", options(profile))).create_execution_context()
    source, target, stream = cuda.Buffer(), cuda.Buffer(), cuda.Stream()
    shapes = []

    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
            return target.reserve(size)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            shapes.append(tuple(shape))

    class Unready(trt.IOutputAllocator):
        def __init__(self) -> None:
            pass

    image = np.ascontiguousarray(IMAGES[:1])
    stream.upload(image, source.reserve(image.nbytes))
    context.set_tensor_address("x", source.address)
    assert tuple(context.get_tensor_shape("places")) == (4, -1)
    assert not context.execute_async_v3(stream.handle)  # no allocator
    with pytest.raises(TypeError, match="__init__"):
        Unready()
    context.set_output_allocator("places", Allocator())
    assert context.execute_async_v3(stream.handle)
    assert shapes == [(4, image.size)]  # all that is not zero
    stream.synchronize()
    assert stream.capture(lambda: context.execute_async_v3(stream.handle)) is None


def test_recorded_graphs_replay_at_their_addresses(tensorrt_stand_in) -> None:
    profile = ((1, 3, 8, 8),) * 3
    content = build(tensorrt_stand_in, graph(size=1).SerializeToString(), "x", options(profile))
    context = load(tensorrt_stand_in, content).create_execution_context()
    stream, buffers = cuda.Stream(), {name: cuda.Buffer() for name in "xyk"}
    for name, size in (("x", 768), ("y", 1024), ("k", 512)):
        context.set_tensor_address(name, buffers[name].reserve(size))
    assert stream.capture(lambda: context.execute_async_v3(stream.handle)) is None  # not before an ordinary run
    stream.upload(np.ascontiguousarray(IMAGES[:1]), buffers["x"].address)
    assert context.execute_async_v3(stream.handle)
    stream.synchronize()
    recorded = stream.capture(lambda: context.execute_async_v3(stream.handle))
    assert recorded is not None
    found = cuda.HostMemory().array((1, 4, 8, 8), np.float32)
    for image in IMAGES[1:3]:
        stream.upload(image, buffers["x"].address)
        recorded.launch(stream)
        stream.download(buffers["y"].address, found)
        stream.synchronize()
        session = onnxruntime.InferenceSession(graph(size=1).SerializeToString())
        assert np.array_equal(found, session.run(["y"], {"x": image[None]})[0])


def test_a_plan_that_was_changed_is_none(tensorrt_stand_in) -> None:
    log = log_of(tensorrt_stand_in)
    content = build(tensorrt_stand_in, graph().SerializeToString(), "x", options())
    assert load(tensorrt_stand_in, content, log) is not None
    for changed in (content[:-1], content[:60], content[:-1] + b"!", b""):
        log.lines.clear()
        assert load(tensorrt_stand_in, changed, log) is None
        assert "Serialization" in log.lines[-1]


def test_plans_of_other_versions_and_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with playing("10.16.1.11") as trt:
        content = build(trt, graph().SerializeToString(), "x", options())
        compatible = build(trt, graph().SerializeToString(), "x", options(version_compatible=True))
        assert load(trt, compatible) is None  # nobody allowed its code
        runtime = trt.Runtime(trt.Logger())
        runtime.engine_host_code_allowed = True
        assert runtime.deserialize_cuda_engine(compatible) is not None
        monkeypatch.setenv("STAND_IN_COMPUTE_CAPABILITY", "8.6")
        assert load(trt, content) is None
    monkeypatch.delenv("STAND_IN_COMPUTE_CAPABILITY")
    with playing("11.4.0.106") as trt:
        assert load(trt, content) is None


def test_builds_that_fail_say_why(tensorrt_stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    trt, log = tensorrt_stand_in, log_of(tensorrt_stand_in)
    builder = trt.Builder(log)
    flags = trt.NetworkDefinitionCreationFlag.__members__
    network = builder.create_network(1 << int(flags["EXPLICIT_BATCH"]) if "EXPLICIT_BATCH" in flags else 0)
    assert trt.OnnxParser(network, log).parse(graph().SerializeToString())
    config = builder.create_builder_config()
    assert builder.build_serialized_network(network, config) is None
    assert "optimization profile" in log.lines[-1]
    profile = builder.create_optimization_profile()
    with pytest.raises(ValueError, match="inconsistent"):
        profile.set_shape("x", (4, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    profile.set_shape("x", (1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    assert config.add_optimization_profile(profile) == 0
    assert builder.build_serialized_network(network, config) is not None
    for failure, said in (("memory", "OutOfMemory"), ("no kernel", "no kernel")):
        monkeypatch.setenv("STAND_IN_BUILD_FAILS", failure)
        assert builder.build_serialized_network(network, config) is None
        assert said in log.lines[-1]


def test_nodes_are_refused_by_name(tensorrt_stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    trt, log = tensorrt_stand_in, log_of(tensorrt_stand_in)
    monkeypatch.setenv("STAND_IN_REFUSED", "ArgMax")
    flags = trt.NetworkDefinitionCreationFlag.__members__
    network = trt.Builder(log).create_network(1 << int(flags["EXPLICIT_BATCH"]) if "EXPLICIT_BATCH" in flags else 0)
    parser = trt.OnnxParser(network, log)
    assert not parser.parse(graph().SerializeToString())
    error = parser.get_error(0)
    assert (parser.num_errors, error.code(), error.node()) == (1, trt.ErrorCode.UNSUPPORTED_NODE, 2)
    if trt.__version__[0] == "8":
        assert not hasattr(error, "node_name")
    else:
        assert (error.node_name(), error.node_operator()) == ("argmax", "ArgMax")
    assert not parser.supports_operator("ArgMax")
    assert not parser.supports_operator("Unique")
    parser.clear_errors()
    assert not parser.parse(b"no ONNX")


@pytest.mark.parametrize("version", VERSIONS)
def test_quantization_with_zero_points_is_refused(version: str) -> None:
    def model(zero: np.ndarray) -> bytes:
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ]
        made = graph(nodes, 1, [("y", TensorProto.FLOAT, (1, 3, 8, 8))])
        made.graph.initializer.extend(
            [numpy_helper.from_array(np.array(0.1, np.float32), "s"), numpy_helper.from_array(zero, "z")]
        )
        return made.SerializeToString()

    with playing(version) as trt:
        profile = ((1, 3, 8, 8),) * 3
        assert build(trt, model(np.array(0, np.int8)), "x", options(profile))
        for zero in (np.array(1, np.int8), np.array(0, np.uint8)):
            with pytest.raises(AssertionError, match="zero points"):
                build(trt, model(zero), "x", options(profile))


def test_plugins_must_be_registered() -> None:
    nodes = [helper.make_node("RoiAlign", ["x", "boxes", "which"], ["y"], output_height=2, output_width=2)]
    made = graph(nodes, 1, [("y", TensorProto.FLOAT, (1, 3, 2, 2))])
    boxes, which = np.array([[0, 0, 4, 4]], np.float32), np.array([0], np.int64)
    made.graph.initializer.extend([numpy_helper.from_array(boxes, "boxes"), numpy_helper.from_array(which, "which")])
    profile = options(((1, 3, 8, 8),) * 3)
    with playing("10.16.1.11") as trt:
        with pytest.raises(AssertionError, match="plugin registry"):
            build(trt, made.SerializeToString(), "x", profile)
        trt.init_libnvinfer_plugins(trt.Logger(), "")
        content = build(trt, made.SerializeToString(), "x", profile)
    with playing("10.16.1.11") as trt:
        assert load(trt, content) is None
        trt.init_libnvinfer_plugins(None, "")
        assert load(trt, content) is not None


def test_inspected_layers_have_the_precision_that_was_built(tensorrt_stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = tensorrt_stand_in

    def formats() -> set[str]:
        engine = load(trt, build(trt, graph().SerializeToString(), "x", options()))
        found = json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
        assert len(found["Layers"]) == engine.num_layers == 3
        return {tensor["Format/Datatype"] for layer in found["Layers"] for tensor in layer["Outputs"]}

    old = trt.__version__[0] == "8"
    integers = {"Row major linear Int32"} if old else {"Int64"}
    assert formats() == integers | ({"Row major linear FP32"} if old else {"Row major linear FP32", "Float"})
    monkeypatch.setenv("STAND_IN_LAYERS", "float16")
    assert formats() == integers | (
        {"Row major linear FP16 format"} if old else {"Row major linear FP16 format", "Half"}
    )


def test_a_monitor_sees_phases_and_can_cancel() -> None:
    with playing("11.4.0.106") as trt:
        calls: list[tuple] = []

        class Monitor(trt.IProgressMonitor):
            def __init__(self, going: bool) -> None:
                trt.IProgressMonitor.__init__(self)
                self.going = going

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                calls.append((phase_name, parent_phase, num_steps))

            def step_complete(self, phase_name: str, step: int) -> bool:
                return self.going

            def phase_finish(self, phase_name: str) -> None:
                calls.append((phase_name,))

        builder = trt.Builder(trt.Logger())
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        trt.OnnxParser(network, trt.Logger()).parse(graph(size=1).SerializeToString())
        for going in (True, False):
            config = builder.create_builder_config()
            config.progress_monitor = Monitor(going)
            assert (builder.build_serialized_network(network, config) is not None) == going
        assert calls[0][1] is None
        assert calls[1][1] == calls[0][0]


def test_a_child_process_sees_it_too(tmp_path: Path) -> None:
    code = "import tensorrt, cuda.bindings.runtime as r; print(tensorrt.__version__, r.cudaGetDeviceCount()[0].name)"
    env = {**os.environ, **stand_in_environment("8.6.0", gpus=0)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8.6.0", "cudaErrorNoDevice"]
