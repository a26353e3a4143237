"""The TensorRT session on the stand-in (tests/trt), for TensorRT 8.6, 10 and 11."""

import gc
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_plans import plan_of, session_of
from trt_fixtures import graph, playing

from slipway_runtime import manifest as m
from slipway_runtime import open_session
from slipway_runtime import plan as p
from slipway_runtime.cuda import OutOfMemoryError
from slipway_runtime.errors import BundleError, SessionError


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def by_onnxruntime(path: Path, x: np.ndarray, *arguments: Any) -> dict[str, np.ndarray]:
    onnx.save(graph(*arguments), path.with_suffix(".onnx"))
    return open_session(path.with_suffix(".onnx")).run({"x": x})


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def boxes() -> tuple[list[Any], str, list[Any]]:
    """A graph whose outputs' size depends on what it reads: the places of the numbers above 1, and those numbers."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Greater", ["x", "one"], ["high"]),
        helper.make_node("NonZero", ["high"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"], perm=[1, 0]),
        helper.make_node("GatherND", ["x", "rows"], ["values"]),
    ]
    outputs = [("places", TensorProto.INT64, (4, "found")), ("values", TensorProto.FLOAT, ("found",))]
    return nodes, "batch", outputs


def test_the_nearest_profile_that_takes_a_shape_computes_it(tmp_path: Path, tensorrt_stand_in: ModuleType) -> None:
    profiles = (((1, 3, 8, 8),) * 2 + ((8, 3, 8, 8),), ((2, 3, 8, 8), (8, 3, 8, 8), (16, 3, 8, 8)))
    session = session_of(plan_of(tensorrt_stand_in, tmp_path, profiles=profiles))
    context = session.engine.context
    for count, chosen in ((1, 0), (2, 0), (7, 1), (16, 1), (7, 1), (1, 0)):
        x = random(count, 3, 8, 8)
        same(session.run({"x": x}), by_onnxruntime(tmp_path / "x", x))
        assert context.active_optimization_profile == chosen
    with pytest.raises(SessionError) as error:
        session.run({"x": random(17, 3, 8, 8)})
    text = str(error.value)
    assert "shape (17, 3, 8, 8), the plan takes (1, 3, 8, 8) to (8, 3, 8, 8) or (2, 3, 8, 8) to (16, 3, 8, 8)" in text
    assert "`make engine-cls|det|seg EXP=… PRECISION=fp32 BATCH=MIN:OPT:MAX SIZE=" in text
    with pytest.raises(SessionError, match="the plan takes"):
        session.bind({"x": random(17, 3, 8, 8)})


def test_a_profile_is_set_only_when_it_changes(
    tmp_path: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = (((1, 3, 8, 8),) * 2 + ((2, 3, 8, 8),), ((3, 3, 8, 8),) * 2 + ((4, 3, 8, 8),))
    session = session_of(plan_of(trt, tmp_path, profiles=profiles))
    seen: list[int] = []
    kind = type(session.engine.context)
    real = kind.set_optimization_profile_async
    monkeypatch.setattr(kind, "set_optimization_profile_async", lambda *a: (seen.append(a[1]), real(*a))[1])
    for count in (1, 2, 1, 3, 4, 3, 1):
        session.run({"x": random(count, 3, 8, 8)})
    assert seen == [1, 0]


def test_outputs_whose_size_the_data_decides(tmp_path: Path, tensorrt_stand_in: ModuleType) -> None:
    session = session_of(plan_of(tensorrt_stand_in, tmp_path, *boxes()))
    for scale in (0.5, 4.0, 0.0, 1.0):  # more and fewer, and none
        x = random(2, 3, 8, 8) * np.float32(scale)
        wanted = by_onnxruntime(tmp_path / "x", x, *boxes())
        same(session.run({"x": x}), wanted)
        bound = session.bind({"x": x})
        for _ in range(3):
            bound()
            same(bound.outputs(), wanted)
        assert not bound.recorded  # type: ignore[attr-defined]
    assert session.run({"x": x * 0})["places"].shape == (4, 0)


def test_suppression(tmp_path: Path, tensorrt_stand_in: ModuleType) -> None:
    nodes = [
        helper.make_node("Constant", [], ["of_boxes"], value_ints=[1, 48, 4]),
        helper.make_node("Constant", [], ["of_scores"], value_ints=[1, 1, 48]),
        helper.make_node("Constant", [], ["from"], value_ints=[0]),
        helper.make_node("Constant", [], ["to"], value_ints=[48]),
        helper.make_node("Constant", [], ["all"], value_ints=[-1]),
        helper.make_node("Constant", [], ["kept"], value_ints=[20]),
        helper.make_node("Constant", [], ["overlap"], value_floats=[0.3]),
        helper.make_node("Reshape", ["x", "of_boxes"], ["boxes"]),
        helper.make_node("Reshape", ["x", "all"], ["flat"]),
        helper.make_node("Slice", ["flat", "from", "to"], ["some"]),
        helper.make_node("Reshape", ["some", "of_scores"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "kept", "overlap"], ["selected"]),
    ]
    arguments = (nodes, 1, [("selected", TensorProto.INT64, ("found", 3))])
    session = session_of(plan_of(tensorrt_stand_in, tmp_path, *arguments))
    x = random(1, 3, 8, 8)
    found = session.run({"x": x})
    assert 1 < len(found["selected"]) <= 20
    same(found, by_onnxruntime(tmp_path / "x", x, *arguments))


def test_the_engines_data_types_become_the_graphs(tmp_path: Path, tensorrt_stand_in: ModuleType) -> None:
    session = session_of(plan_of(tensorrt_stand_in, tmp_path))
    narrow = tensorrt_stand_in.__version__.startswith("8")
    assert session.engine.dtypes == {"x": "float32", "y": "float32", "k": "int32" if narrow else "int64"}
    assert {spec.name: spec.dtype for spec in session.outputs} == {"y": "float32", "k": "int64"}
    assert session.run({"x": random(1, 3, 8, 8)})["k"].dtype == np.int64


def test_bound_calls_launch_a_recorded_graph_from_the_second_on(tmp_path: Path, tensorrt_stand_in: ModuleType) -> None:
    session = session_of(plan_of(tensorrt_stand_in, tmp_path))
    one, other = random(2, 3, 8, 8), random(2, 3, 8, 8) + 1
    wanted = {id(x): by_onnxruntime(tmp_path / "x", x) for x in (one, other)}
    first, second = session.bind({"x": one}), session.bind({"x": other})
    recorded = []
    for bound, x in ((first, one), (second, other)) * 3:
        bound()
        same(bound.outputs(), wanted[id(x)])
        recorded.append(bound.recorded)  # type: ignore[attr-defined]
    assert recorded == [False, False, True, True, True, True]
    # An ordinary run of the same shape leaves the recordings and the last outputs as they are.
    same(session.run({"x": other}), wanted[id(other)])
    same(second.outputs(), wanted[id(other)])
    first()
    assert first.recorded  # type: ignore[attr-defined]
    with pytest.raises(SessionError, match="call again before"):
        second.outputs()


def test_a_recorded_graph_does_not_outlive_a_change_of_shape(tmp_path: Path, tensorrt_stand_in: ModuleType) -> None:
    session = session_of(plan_of(tensorrt_stand_in, tmp_path))
    x, large = random(1, 3, 8, 8), random(4, 3, 8, 8)
    wanted = by_onnxruntime(tmp_path / "x", x)
    bound, grown = session.bind({"x": x}), session.bind({"x": large})
    for _ in range(2):
        bound()
    assert bound.recorded  # type: ignore[attr-defined]
    grown()  # its outputs are larger: the buffers move
    same(grown.outputs(), by_onnxruntime(tmp_path / "x", large))
    for again in (False, True):
        bound()
        assert bound.recorded == again  # type: ignore[attr-defined]
        same(bound.outputs(), wanted)
    session.run({"x": large})
    bound()
    assert not bound.recorded  # type: ignore[attr-defined]
    same(bound.outputs(), wanted)


def test_what_cannot_be_recorded_runs_as_it_is(
    tmp_path: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(plan_of(trt, tmp_path))
    x = random(2, 3, 8, 8)
    bound = session.bind({"x": x})
    bound()
    tried: list[int] = []
    monkeypatch.setattr(session.stream, "capture", lambda enqueue: tried.append(1))
    for _ in range(3):
        bound()
        same(bound.outputs(), by_onnxruntime(tmp_path / "x", x))
    assert tried == [1]  # once
    assert not bound.recorded  # type: ignore[attr-defined]


def test_outputs_stay_what_they_are(tmp_path: Path, trt: ModuleType) -> None:
    session = session_of(plan_of(trt, tmp_path))
    x = random(2, 3, 8, 8)
    first = session.run({"x": x})
    kept = {name: array.copy() for name, array in first.items()}
    session.run({"x": x + 1})
    same(first, kept)


def test_a_plan_that_fails_says_what_tensorrt_said(
    tmp_path: Path, tensorrt_stand_in: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(plan_of(tensorrt_stand_in, tmp_path))
    x = random(2, 3, 8, 8)
    bound = session.bind({"x": x})
    monkeypatch.setenv("STAND_IN_ENQUEUE_FAILS", "kernel image is invalid")
    for call in (lambda: session.run({"x": x}), bound):
        with pytest.raises(SessionError, match=r"the plan failed on this input \(.*kernel image is invalid") as error:
            call()
        assert error.value.exit_code == 4
    monkeypatch.setenv("STAND_IN_ENQUEUE_FAILS", "CUDA error: out of memory")
    with pytest.raises(
        OutOfMemoryError, match=r"MiB of GPU memory are needed, .*; use a smaller batch or smaller images"
    ):
        session.run({"x": x})
    monkeypatch.delenv("STAND_IN_ENQUEUE_FAILS")
    same(session.run({"x": x}), by_onnxruntime(tmp_path / "x", x))


@pytest.mark.parametrize("arguments", [(), boxes()], ids=["known sizes", "sizes by data"])
def test_outputs_that_the_gpu_has_no_memory_for(
    arguments: Any, tmp_path: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(plan_of(trt, tmp_path, *arguments))
    x = random(4, 3, 8, 8) + 5
    used = sys.modules["stand_in_gpu"].GPU.used()
    monkeypatch.setenv("STAND_IN_MEMORY", str(used + x.nbytes + 4))
    with pytest.raises(OutOfMemoryError, match=r"cudaErrorMemoryAllocation; use a smaller batch .* MiB .* free"):
        session.run({"x": x})
    monkeypatch.delenv("STAND_IN_MEMORY")
    same(session.run({"x": x}), by_onnxruntime(tmp_path / "x", x, *arguments))


@pytest.mark.parametrize(
    ("seed", "value", "message"),
    [
        ("GPU_NAME", "NVIDIA T4", "built for NVIDIA H100 80GB HBM3 .*, here is NVIDIA T4"),
        ("COMPUTE_CAPABILITY", "8.9", r"here is NVIDIA H100 80GB HBM3 \(8\.9\)"),
        ("GPUS", "0", "cudaErrorNoDevice"),
        ("DRIVER", "0", "no NVIDIA driver"),
    ],
)
def test_another_machines_plan_never_reaches_tensorrt(
    seed: str, value: str, message: str, tmp_path: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plan_of(trt, tmp_path)
    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", lambda *_: pytest.fail("was deserialised"))
    monkeypatch.setenv(f"STAND_IN_{seed}", value)
    with pytest.raises(SessionError, match=message):
        open_session(path, device="cuda")
    monkeypatch.delenv(f"STAND_IN_{seed}")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match="altered or cut off"):
        open_session(path, device="cuda")
    p.sidecar(path).unlink()
    with pytest.raises(BundleError, match="a plan without it is none"):
        open_session(path, device="cuda")


def test_another_versions_plan_never_reaches_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with playing("10.16.1.11") as trt:
        path = plan_of(trt, tmp_path)
    for version in ("8.6.0", "11.4.0.106"):
        with playing(version) as trt:
            monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", lambda *_: pytest.fail("was deserialised"))
            with pytest.raises(SessionError, match=rf"built with TensorRT 10\.16\.1\.11, here is {version}"):
                open_session(path, device="cuda")


def described(path: Path, **fields: Any) -> None:
    """Alter what is said of a plan."""
    info = p.read(path)
    p.sidecar(path).write_text(info.model_copy(update=fields).to_json(), encoding="utf-8")


def test_a_plan_that_tensorrt_refuses(tmp_path: Path, tensorrt_stand_in: ModuleType) -> None:
    path = plan_of(tensorrt_stand_in, tmp_path)
    path.write_bytes(b"nothing of the kind")
    described(path, plan_sha256=m.sha256(path))
    with pytest.raises(BundleError, match=r"TensorRT refuses the plan \(.*Serialization assertion.*build one") as error:
        open_session(path, device="cuda")
    assert "\n" not in str(error.value)


def test_tensors_that_the_description_does_not_name(tmp_path: Path, trt: ModuleType) -> None:
    path = plan_of(trt, tmp_path)
    said = p.read(path).outputs
    wrong = [
        said[:1],
        (said[0], said[1].model_copy(update={"name": "z"})),
        (said[0], said[1].model_copy(update={"dtype": "float32"})),
        (said[0], said[1].model_copy(update={"shape": ("batch", 8)})),
        (said[0], said[1].model_copy(update={"shape": ("batch", 8, 9)})),
    ]
    for outputs in wrong:
        described(path, outputs=outputs)
        with pytest.raises(BundleError, match=r"its tensors are input x float32 .*, not what is said of it"):
            open_session(path, device="cuda")
    described(
        path,
        outputs=said,
        options=p.read(path).options.model_copy(update={"profiles": p.read(path).options.profiles * 2}),
    )
    with pytest.raises(BundleError, match="1 profiles, not 2 as said of it"):
        open_session(path, device="cuda")


def test_a_version_compatible_plan_loads(tmp_path: Path, tensorrt_stand_in: ModuleType) -> None:
    session = session_of(plan_of(tensorrt_stand_in, tmp_path, version_compatible=True))
    session.run({"x": random(1, 3, 8, 8)})


def test_tensorrt_runs_on_gpus_only(tmp_path: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plan_of(trt, tmp_path)
    with pytest.raises(SessionError, match="TensorRT runs on device cuda only, not on cpu"):
        open_session(path)
    open_session(path, device="cuda", threads=2)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(SessionError, match="`pip install tensorrt`"):
        open_session(path, device="cuda")


def test_inputs_are_checked_as_every_sessions(tmp_path: Path, trt: ModuleType) -> None:
    session = session_of(plan_of(trt, tmp_path))
    for feeds, message in (
        ({}, "expected inputs"),
        ({"x": random(1, 3, 8, 8).astype(np.float64)}, "is float64, expected float32"),
        ({"x": random(1, 3, 8, 9)}, "has shape"),
    ):
        with pytest.raises(SessionError, match=message):
            session.run(feeds)  # type: ignore[arg-type]


def test_a_session_leaves_nothing_on_the_gpu(tmp_path: Path, trt: ModuleType) -> None:
    gpu = sys.modules["stand_in_gpu"].GPU
    session = session_of(plan_of(trt, tmp_path))
    x = random(2, 3, 8, 8)
    bound = session.bind({"x": x})
    for _ in range(3):
        bound()
    found = session.run({"x": x})
    gc.disable()
    try:
        del session, bound
        assert {line.split(" ", 3)[-1] for line in gpu.live()} == {"host memory"}  # what `found` is a view of
        del found
        assert gpu.live() == []
    finally:
        gc.enable()
