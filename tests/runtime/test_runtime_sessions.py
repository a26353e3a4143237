import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from slipway_runtime import manifest as m
from slipway_runtime import open_session
from slipway_runtime.errors import BundleError, SessionError, UsageError
from slipway_runtime.sessions import onnxruntime as onnxruntime_session


def batch(n: int = 2, height: int = 8, width: int = 8) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(0).standard_normal((n, 3, height, width)).astype(np.float32)}


def test_inputs_and_outputs_are_the_graphs(bundle: Path) -> None:
    session = open_session(bundle)
    manifest = m.read(bundle)
    assert (session.name, session.device) == ("onnxruntime", "cpu")
    assert session.inputs == manifest.inputs
    assert session.outputs == manifest.outputs
    assert m.METADATA_KEY in session.metadata


def test_run_computes_the_graph(bundle: Path) -> None:
    feeds = batch()
    found = open_session(bundle, threads=1).run(feeds)["scores"]
    weight = onnx.numpy_helper.to_array(onnx.load(bundle / m.GRAPH_NAME).graph.initializer[0])
    powers = np.exp(feeds["image"].mean(axis=(2, 3)) @ weight)
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


def test_bind_gives_a_call_that_can_be_repeated(bundle: Path) -> None:
    session = open_session(bundle)
    run = session.bind(batch())
    run()
    run()


def test_the_outputs_of_the_last_bound_call_are_those_of_run(bundle: Path) -> None:
    session = open_session(bundle)
    one, other = batch(), {"image": batch()["image"] + 1}
    first, second = session.bind(one), session.bind(other)
    first()
    np.testing.assert_array_equal(first.outputs()["scores"], session.run(one)["scores"])
    second()
    np.testing.assert_array_equal(second.outputs()["scores"], session.run(other)["scores"])
    with pytest.raises(SessionError, match="call again before"):
        first.outputs()


def test_threads_reach_onnxruntime(bundle: Path) -> None:
    options = open_session(bundle, threads=3)._session.get_session_options()  # type: ignore[attr-defined]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not say which cores a process may use"
)
def test_forbidden_cores_are_not_counted(bundle: Path) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        narrow = open_session(bundle)._session.get_session_options().intra_op_num_threads  # type: ignore[attr-defined]
    finally:
        os.sched_setaffinity(0, allowed)
    assert narrow == (1 if (os.cpu_count() or 1) > 1 else 0)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"expected inputs \['image'\], got \[\]"),
        ({**batch(), "more": np.zeros(1)}, "expected inputs"),
        ({"image": batch()["image"].astype(np.float64)}, "is float64, expected float32"),
        ({"image": batch()["image"][0]}, "has shape"),
        ({"image": batch()["image"][:, :2]}, "has shape"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(bundle: Path, feeds: dict[str, np.ndarray], message: str) -> None:
    session = open_session(bundle)
    for call in (session.run, session.bind):
        with pytest.raises(SessionError, match=message):
            call(feeds)


def test_an_input_that_the_graph_refuses_is_one_line(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    session = open_session(bundle)
    empty = batch(1, 0, 0)
    for call in (session.run, lambda feeds: session.bind(feeds)()):
        with pytest.raises(SessionError, match="the graph failed on this input") as error:
            call(empty)
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_fixed_size_is_named_with_the_way_out(bundle: Path, make_bundle: Callable[..., Path]) -> None:
    fixed = make_bundle("fixed", shape=(1, 3, 8, 8))
    session = open_session(fixed)
    session.run(batch(1))
    with pytest.raises(SessionError, match="SHAPE=dynamic"):
        session.run(batch(2))
    with pytest.raises(SessionError, match="has shape") as error:
        open_session(bundle).run({"image": batch()["image"][:, :1]})
    assert "SHAPE=dynamic" not in str(error.value)


def test_dimensions_of_one_name_must_agree(make_bundle: Callable[..., Path]) -> None:
    square = open_session(make_bundle("square", shape=("batch", 3, "side", "side")))
    square.run(batch(1, 5, 5))
    with pytest.raises(SessionError, match="has shape"):
        square.run(batch(1, 5, 6))


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_cut_off_graph_is_refused_in_one_line(bundle: Path, kept: float, capfd: pytest.CaptureFixture[str]) -> None:
    graph = bundle / m.GRAPH_NAME
    content = graph.read_bytes()
    graph.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BundleError, match="not a usable ONNX file") as error:
        open_session(graph)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_an_operator_that_does_not_exist_is_refused(bundle: Path) -> None:
    graph = bundle / m.GRAPH_NAME
    graph.write_bytes(graph.read_bytes().replace(b"Softmax", b"Saftmax"))
    with pytest.raises(BundleError, match="Saftmax"):
        open_session(graph)


def test_a_type_that_the_manifest_cannot_name_is_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "double",
        [value("x", onnx.TensorProto.DOUBLE, (1,))],
        [value("y", onnx.TensorProto.DOUBLE, (1,))],
    )
    path = tmp_path / "double.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(BundleError, match=r"'x' is a tensor\(double\)"):
        open_session(path)


def test_dimensions_without_a_name_are_not_one_another(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "unnamed",
        [value("x", onnx.TensorProto.FLOAT, (None, None))],
        [value("y", onnx.TensorProto.FLOAT, (None, None))],
    )
    path = tmp_path / "unnamed.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    session = open_session(path)
    assert session.inputs[0].shape == ("x.0", "x.1")
    assert session.run({"x": np.ones((2, 3), np.float32)})["y"].shape == (2, 3)


@pytest.mark.skipif(onnxruntime.__version__.startswith("1.23."), reason="onnxruntime looks at this since 1.24")
@pytest.mark.parametrize("location", ["../secret.bin", "absolute"])
def test_external_data_outside_the_folder_is_refused(bundle: Path, location: str) -> None:
    model = onnx.load(bundle / m.GRAPH_NAME)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    outside = bundle.parent / "secret.bin"
    for file in (outside, bundle / "model.onnx.data"):
        file.write_bytes(weight.tobytes())

    def save_with(target: str) -> Path:
        tensor = onnx.numpy_helper.from_array(weight, "weight")
        onnx.external_data_helper.set_external_data(tensor, target, 0, weight.nbytes)
        tensor.ClearField("raw_data")
        model.graph.initializer[0].CopyFrom(tensor)
        path = bundle / "external.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    open_session(save_with("model.onnx.data"))  # beside the graph, it loads
    with pytest.raises(BundleError, match="not a usable ONNX file"):
        open_session(save_with(str(outside) if location == "absolute" else location))


def test_a_device_that_is_not_there_is_an_error(bundle: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDAExecutionProvider")
    with pytest.raises(SessionError, match=r"CUDAExecutionProvider, .* has .*CPUExecutionProvider") as error:
        open_session(bundle, device="cuda")
    assert error.value.exit_code == 4


def test_a_gpu_that_fails_is_no_damaged_file(tmp_path: Path) -> None:
    failed = ort_state.Fail(
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 35: CUDA driver version is insufficient ; GPU=-1"
    )
    graphs = ort_state.Fail("This session cannot use the CUDA graph feature as requested by the user")
    damaged = ort_state.InvalidProtobuf(f"Load model from {tmp_path}/cuda/model.onnx failed: Protobuf parsing failed")
    path = tmp_path / "cuda" / "model.onnx"
    for error in (failed, graphs):
        found = onnxruntime_session._refused(path, "cuda", error)
        assert isinstance(found, SessionError)
        assert found.exit_code == 4
        assert isinstance(onnxruntime_session._refused(path, "cpu", error), BundleError)
    assert isinstance(onnxruntime_session._refused(path, "cuda", damaged), BundleError)


def test_cuda_graphs_are_an_option_of_the_cuda_provider(make_bundle: Callable[..., Path]) -> None:
    plain, recorded = (onnxruntime_session._own("cuda", wanted) for wanted in (False, True))
    assert plain == ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert recorded == ("CUDAExecutionProvider", {"use_tf32": "0", "enable_cuda_graph": "1"})
    graph = make_bundle("fixed", shape=(1, 3, 8, 8)) / m.GRAPH_NAME
    with pytest.raises(SessionError, match="CUDA graphs are for device cuda, not cpu"):
        onnxruntime_session.OnnxRuntimeSession(graph, cuda_graphs=True)


def test_cuda_graphs_need_fixed_shapes(bundle: Path, make_bundle: Callable[..., Path]) -> None:
    moving, fixed = open_session(bundle), open_session(make_bundle("fixed", shape=(1, 3, 8, 8)))
    onnxruntime_session._refuse_symbols(bundle, (*fixed.inputs, *fixed.outputs))
    with pytest.raises(SessionError, match=r"fixed shapes, 'image' is \('batch', 3, .*; export with SHAPE=static"):
        onnxruntime_session._refuse_symbols(bundle, (*moving.inputs, *moving.outputs))


def test_calls_that_are_recorded_keep_their_outputs_where_they_are(make_bundle: Callable[..., Path]) -> None:
    """The binding that CUDA graphs need, on the CPU; which graph is meant is an option that the CPU does not look at."""
    session = open_session(make_bundle("fixed", shape=(2, 3, 8, 8)))
    assert isinstance(session, onnxruntime_session.OnnxRuntimeSession)
    one, other = batch(), {"image": batch()["image"] + 1}
    first, second = (onnxruntime_session._Recorded(session, feeds) for feeds in (one, other))
    places = set()
    for call, feeds in ((first, one), (second, other)) * 2:
        call()
        places.add(call._outputs[0].data_ptr())
        np.testing.assert_array_equal(call.outputs()["scores"], session.run(feeds)["scores"])
    assert len(places) == 2
    numbers = [each._options.get_run_config_entry("gpu_graph_id") for each in (first, second)]
    assert len({"-1", *numbers}) == 3


def test_how_many_images_go_together(bundle: Path, make_bundle: Callable[..., Path]) -> None:
    free, three = open_session(bundle), open_session(make_bundle("fixed", shape=(3, 3, 8, 8)))
    assert (free.min_batch, free.max_batch) == (1, None)
    assert (three.min_batch, three.max_batch) == (3, 3)
    assert [free.batch(count, (3, 8, 8)) for count in (1, 5)] == [1, 5]
    assert [three.batch(count, (3, 8, 8)) for count in (1, 3, 5)] == [3, 3, 3]


@pytest.mark.gpu
def test_cuda_graphs_give_what_the_cpu_gives(make_bundle: Callable[..., Path]) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider; install onnxruntime-gpu in its place")
    graph = make_bundle("fixed", shape=(2, 3, 8, 8)) / m.GRAPH_NAME
    session = onnxruntime_session.OnnxRuntimeSession(graph, "cuda", cuda_graphs=True)
    one, other = batch(), {"image": batch()["image"] + 1}
    calls = [(session.bind(feeds), open_session(graph).run(feeds)) for feeds in (one, other)]
    for call, wanted in calls * 3:
        call()
        np.testing.assert_allclose(call.outputs()["scores"], wanted["scores"], rtol=1e-5)
    np.testing.assert_allclose(session.run(one)["scores"], calls[0][1]["scores"], rtol=1e-5)


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives(bundle: Path) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider; install onnxruntime-gpu in its place")
    session = open_session(bundle, device="cuda")
    feeds = batch()
    np.testing.assert_allclose(session.run(feeds)["scores"], open_session(bundle).run(feeds)["scores"], rtol=1e-5)
    session.bind(feeds)()


def test_wrong_arguments(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        open_session(bundle, device="tpu")
    with pytest.raises(UsageError, match="threads: expected 1 or more, got 0"):
        open_session(bundle, threads=0)
    with pytest.raises(BundleError, match=r"nowhere\.onnx: no such file"):
        open_session(tmp_path / "nowhere.onnx")
    with pytest.raises(BundleError, match=r"no engine opens '\.json' files; known: \.onnx"):
        open_session(bundle / m.FILE_NAME)
