"""Bundles on TensorRT's stand-in (tests/trt): predictions, batches that are split, and how a plan is named."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tiny_plans import planned, session_of

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.__main__ import main
from slipway_runtime.errors import BundleError, SessionError, UsageError

BundleMaker = Callable[..., Path]


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
        model.feeds([np.zeros((3, 16, 16), np.float32)] * 5)


def test_without_a_gpu_the_real_path_says_so(bundle: Path) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if runtime.cudaDriverGetVersion()[1]:
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(SessionError, match="no NVIDIA driver found"):
        slipway_runtime.load(bundle, device="cuda", engine="tensorrt")
