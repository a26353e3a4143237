"""The TensorRT session on the stand-in (tests/trt), for TensorRT 8.6, 10 and 11."""

import gc
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from trt_fixtures import graph, playing, write_plan

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime import open_session
from slipway_runtime import plan as p
from slipway_runtime.__main__ import main
from slipway_runtime.cuda import OutOfMemoryError
from slipway_runtime.errors import BundleError, SessionError, UsageError
from slipway_runtime.sessions.tensorrt import TensorRtSession

BundleMaker = Callable[..., Path]
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
WIDE: Shapes = ((1, 3, 4, 4), (2, 3, 32, 32), (4, 3, 128, 128))


@pytest.fixture
def trt() -> Iterator[ModuleType]:
    """One version, for what does not depend on it."""
    with playing() as module:
        yield module


def planned(
    bundle: Path, trt: ModuleType, profiles: tuple[Shapes, ...] = (WIDE,), name: str = "fp32-1.plan", **options: Any
) -> Path:
    """Build a plan of a bundle's graph where the bundle keeps its own."""
    return write_plan(trt, onnx.load(bundle / m.GRAPH_NAME), bundle / p.FOLDER / name, profiles, **options)


def plan_of(trt: ModuleType, folder: Path, *arguments: Any, profiles: tuple[Shapes, ...] = (), **options: Any) -> Path:
    """Build a plan of a graph of `trt_fixtures.graph`."""
    return write_plan(trt, graph(*arguments), folder / "x.plan", profiles, **options)


def session_of(path: Path) -> TensorRtSession:
    session = open_session(path, device="cuda")
    assert isinstance(session, TensorRtSession)
    return session


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


def test_a_classifier_answers_as_onnxruntime(
    bundle: Path, colours: dict[str, Path], tensorrt_stand_in: ModuleType
) -> None:
    planned(bundle, tensorrt_stand_in)
    wanted = slipway_runtime.load(bundle)(colours.values())
    model = slipway_runtime.load(bundle, device="cuda", engine="tensorrt")
    assert (model.session.name, model.session.device) == ("tensorrt", "cuda")
    assert model.session.inputs == model.manifest.inputs
    for batch_size in (None, 3, 4):
        found = model(colours.values(), batch_size)
        assert [one.to_dict() for one in found] == [one.to_dict() for one in wanted]


def test_a_segmenter_answers_as_onnxruntime(segmenter: Path, tensorrt_stand_in: ModuleType) -> None:
    planned(segmenter, tensorrt_stand_in)
    images = [np.random.default_rng(size).integers(0, 256, (size, 9, 3), np.uint8) for size in (5, 5, 5, 8)]
    wanted = slipway_runtime.load(segmenter)(images)
    found = slipway_runtime.load(segmenter, device="cuda", engine="tensorrt")(images, 3)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.label_map, other.label_map)  # type: ignore[attr-defined]


def test_a_detector_answers_as_onnxruntime(
    detector: Path, colours: dict[str, Path], tensorrt_stand_in: ModuleType
) -> None:
    planned(detector, tensorrt_stand_in)
    wanted = slipway_runtime.load(detector)(colours.values())
    model = slipway_runtime.load(detector, device="cuda", engine="tensorrt")
    found = model(colours.values(), 4)
    assert [one.to_dict() for one in found] == [one.to_dict() for one in wanted]
    # TensorRT 8 has no int64; what the session gives is the graph's.
    engine = session_of(next((detector / "engines").glob("*.plan"))).engine
    assert engine.dtypes["labels"] == ("int32" if tensorrt_stand_in.__version__.startswith("8") else "int64")


def test_a_plan_by_its_path(bundle: Path, colours: dict[str, Path], trt: ModuleType, tmp_path: Path) -> None:
    path = planned(bundle, trt)
    model = slipway_runtime.load(path, device="cuda")
    assert model(colours["red"])[0].names[0] == "red"  # type: ignore[attr-defined]
    for options, message in (
        ({"precision": "fp16"}, "precision fp16 of engine onnxruntime is for a bundle's folder"),
        ({"engine": "trt"}, "unknown engine 'trt', expected one of: onnxruntime, tensorrt"),
    ):
        with pytest.raises(UsageError, match=message):
            slipway_runtime.load(path, device="cuda", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="engine tensorrt is for a bundle's folder"):
        slipway_runtime.load(bundle / m.GRAPH_NAME, engine="tensorrt")
    with pytest.raises(BundleError, match="no such file"):
        slipway_runtime.load(bundle / "engines" / "y.plan", device="cuda")
    for name in (path.name, f"{path.name}.json"):
        (tmp_path / name).write_bytes((path.parent / name).read_bytes())
    with pytest.raises(BundleError, match="no bundle around it; a plan is read where it was built"):
        slipway_runtime.load(tmp_path / path.name, device="cuda")


def test_a_plan_of_another_graph_than_the_bundles(
    bundle: Path, make_bundle: BundleMaker, trt: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    path = planned(make_bundle("other", weight=np.eye(3, 4, dtype=np.float32)), trt)
    (bundle / "engines").mkdir()
    for name in (path.name, f"{path.name}.json"):
        (bundle / "engines" / name).write_bytes((path.parent / name).read_bytes())
    with pytest.raises(BundleError, match=r"built from another model\.onnx than the bundle has; build one with"):
        slipway_runtime.load(bundle / "engines" / path.name, device="cuda")
    with pytest.raises(SessionError, match="was built from another graph"):
        slipway_runtime.load(bundle, device="cuda", engine="tensorrt")


def test_the_command_line(
    bundle: Path, colours: dict[str, Path], trt: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [str(bundle), str(colours["green"]), "--json", "--engine", "tensorrt"]
    assert main([*run, "--device", "cuda"]) == 4
    assert "no TensorRT plan in fp32 for this machine; build one with `make engine-cls" in capsys.readouterr().err
    path = planned(bundle, trt)
    assert main([*run, "--device", "cuda"]) == 0
    assert json.loads(capsys.readouterr().out)["top"][0]["name"] == "green"
    assert main([str(path), str(colours["green"]), "--device", "cuda"]) == 0
    assert main([*run, "--device", "cpu"]) == 2
    assert "engine tensorrt runs on device cuda only" in capsys.readouterr().err
    assert main([str(path), str(colours["green"])]) == 4
    assert "TensorRT runs on device cuda only, not on cpu" in capsys.readouterr().err


def spied(model: slipway_runtime.Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call hands to the session."""
    seen: list[int] = []
    run = model.session.run

    def spy(feeds: Any) -> Any:
        seen.append(len(next(iter(feeds.values()))))
        return run(feeds)

    monkeypatch.setattr(model.session, "run", spy)
    return seen


@pytest.mark.parametrize(
    ("batches", "handed"),
    [
        ([(1, 4)], [4, 1]),
        ([(1, 2)], [2, 2, 1]),
        ([(3, 3)], [3, 3]),  # the second is filled up
        ([(8, 8)], [8]),
        ([(1, 1), (4, 4)], [4, 1]),
        ([(2, 3), (4, 4)], [4, 2]),
        ([(1, 8)], [5]),
    ],
)
def test_batches_are_split_and_filled_up(
    batches: list[tuple[int, int]],
    handed: list[int],
    bundle: Path,
    trt: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiles = tuple(((low, 3, 16, 16), (low, 3, 16, 16), (high, 3, 16, 16)) for low, high in batches)
    planned(bundle, trt, profiles)
    images = [np.full((6, 6, 3), value, np.uint8) for value in range(0, 250, 50)]
    wanted = [one.to_dict() for one in slipway_runtime.load(bundle)(images)]
    model = slipway_runtime.load(bundle, device="cuda", engine="tensorrt")
    seen = spied(model, monkeypatch)
    assert [one.to_dict() for one in model(images, 5)] == wanted
    assert seen == handed
    assert [one.to_dict() for one in model(images)] == wanted
    assert model.session.max_batch == max(high for _, high in batches)
    assert model.batch_size() == model.session.min_batch == min(low for low, _ in batches)


def test_windows_are_split_too(make_segmenter: BundleMaker, trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    window = m.Window(height=8, width=8, stride_height=6, stride_width=6)
    bundle = make_segmenter(postprocess=m.SegmentationOutput(align_corners=False, window=window))
    # Whole images would fit into the second profile, four at once; their windows into the first only.
    planned(bundle, trt, (((1, 3, 8, 8),) * 2 + ((2, 3, 8, 8),), ((1, 3, 20, 20),) * 2 + ((4, 3, 20, 20),)))
    images = [np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8) for seed in range(3)]
    wanted = slipway_runtime.load(bundle)(images, 3)
    model = slipway_runtime.load(bundle, device="cuda", engine="tensorrt")
    seen = spied(model, monkeypatch)
    for one, other in zip(model(images, 3), wanted, strict=True):
        np.testing.assert_array_equal(one.label_map, other.label_map)  # type: ignore[attr-defined]
    assert seen == [2] * 9 + [1] * 9


def test_more_images_than_a_plan_takes_are_no_feeds(bundle: Path, trt: ModuleType) -> None:
    planned(bundle, trt)
    model = slipway_runtime.load(bundle, device="cuda", engine="tensorrt")
    with pytest.raises(UsageError, match="4 images at most, got 5 images"):
        model.feeds([random(3, 16, 16)] * 5)


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


def test_without_a_gpu_the_real_path_says_so(bundle: Path) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if runtime.cudaDriverGetVersion()[1]:
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(SessionError, match="no NVIDIA driver found"):
        slipway_runtime.load(bundle, device="cuda", engine="tensorrt")


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
