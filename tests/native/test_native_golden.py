"""`ort_infer` answers as `slipway_runtime` does: every task, every kind of image file."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import real_images
from conftest import ROOT, Infer
from PIL import Image as Pil
from tiny_bundles import build_detector, build_segmenter, detector_manifest, segmenter_manifest, write_bundle

import slipway_runtime
from slipway_runtime import Model
from slipway_runtime import manifest as m

Line = dict[str, Any]
NORMALIZE = m.Normalize(mean=(127.5,), std=(127.5,), reverse_channels=True)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found = real_images.write(tmp_path_factory.mktemp("images") / "photos")
    assert len(found) >= 50
    return found


@pytest.fixture(scope="session")
def change_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A bundle like another, with other preprocessing or post-processing."""

    def change(bundle: Path, **changes: Any) -> Path:
        copied = tmp_path_factory.mktemp("changed") / "bundle"
        copied.mkdir()
        (copied / m.GRAPH_NAME).symlink_to(bundle / m.GRAPH_NAME)
        manifest = m.read(bundle).model_copy(update=changes)
        (copied / m.FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")
        return copied

    return change


def lines(done: Any) -> list[Line]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def pythons(model: Model, images: list[Path]) -> list[Line]:
    """What `slipway_runtime` prints, as JSON reads it."""
    return [
        {"image": str(path)} | json.loads(json.dumps(result.to_dict()))
        for path, result in zip(images, model(images), strict=True)
    ]


def test_classification(ort_infer: Infer, digits_experiment: Any, images: list[Path]) -> None:
    found = lines(ort_infer(digits_experiment.bundle, *images, "--json", "--topk", 10))
    model = slipway_runtime.load(digits_experiment.bundle)
    output = model.manifest.postprocess.model_copy(update={"topk": 10})
    expected = pythons(Model(model.manifest.model_copy(update={"postprocess": output}), model.session), images)
    assert [line["image"] for line in found] == [line["image"] for line in expected]
    for one, other in zip(found, expected, strict=True):
        assert [row["label"] for row in one["top"]] == [row["label"] for row in other["top"]], one["image"]
        assert [row["name"] for row in one["top"]] == [row["name"] for row in other["top"]]
        scores = [[row["score"] for row in line["top"]] for line in (one, other)]
        np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)
    assert len({line["top"][0]["label"] for line in expected}) > 1


def agreement(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The share of equal pixels of two masks, as run lengths."""
    assert found["size"] == expected["size"]
    one, other = (np.repeat(np.arange(len(mask["counts"])) % 2, mask["counts"]) for mask in (found, expected))
    return float((one == other).mean())


@pytest.mark.parametrize("kind", ["detector_experiment", "masks_experiment"])
def test_detection(ort_infer: Infer, kind: str, images: list[Path], request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(kind).bundle
    images = [path for path in images if not path.name.startswith("427")]  # a hundred masks each, pixel by pixel
    assert len(images) >= 50
    found = lines(ort_infer(bundle, *images, "--json", "--score", 0))
    model = slipway_runtime.load(bundle)
    output = model.manifest.postprocess.model_copy(update={"score_threshold": 0.0})
    expected = pythons(Model(model.manifest.model_copy(update={"postprocess": output}), model.session), images)
    count = 0
    for one, other in zip(found, expected, strict=True):
        assert {key: one[key] for key in ("image", "task", "width", "height")} == {
            key: other[key] for key in ("image", "task", "width", "height")
        }
        assert [row["label"] for row in one["detections"]] == [row["label"] for row in other["detections"]]
        for row, wanted in zip(one["detections"], other["detections"], strict=True):
            assert row["name"] == wanted["name"]
            assert row["score"] == pytest.approx(wanted["score"], abs=1e-5)
            np.testing.assert_allclose(row["box"], wanted["box"], rtol=0, atol=0.01)
            assert ("mask" in row) == ("mask" in wanted) == (kind == "masks_experiment")
            if "mask" in row:
                assert agreement(row["mask"], wanted["mask"]) >= 0.9999
            count += 1
    assert count > len(images)


@pytest.mark.parametrize(("over", "size"), [("box", (14, 14)), ("image", (16, 16))])
def test_both_kinds_of_masks(
    ort_infer: Infer, over: Any, size: tuple[int, int], images: list[Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    dets = np.array([[5, 4, 40, 33, 0.9], [-6, 20, 30, 70, 0.8], [30.3, 9.7, 31, 60, 0.7]], np.float32)
    masks = rng.normal(size=(3, *size)).astype(np.float32)
    if over == "box":
        masks = 1 / (1 + np.exp(-masks))
    output = m.DetectionOutput(clip=True, masks=m.Masks(over=over, threshold=0.45))
    steps = (m.Decode(), m.Resize(width=64, height=64, keep_ratio=True), NORMALIZE, m.Pad(width=64, height=64))
    graph = build_detector(dets, np.array([2, 0, 1]), masks)
    bundle = write_bundle(tmp_path / "bundle", graph, detector_manifest(size, postprocess=output, preprocess=steps))
    small = [path for path in images if not path.name.startswith("427")]
    found = lines(ort_infer(bundle, *small, "--json"))
    seen = 0
    for one, other in zip(found, pythons(slipway_runtime.load(bundle), small), strict=True):
        assert [row["box"] for row in one["detections"]] == [row["box"] for row in other["detections"]]
        for row, wanted in zip(one["detections"], other["detections"], strict=True):
            assert agreement(row["mask"], wanted["mask"]) >= 0.9999
            seen += len(wanted["mask"]["counts"]) > 2
    assert seen > len(small)


def check_label_maps(ort_infer: Infer, bundle: Path, images: list[Path], out: Path) -> set[int]:
    """Compare lines and label maps; the labels seen."""
    found = lines(ort_infer(bundle, images[0].parent, "--json", "--out", out))
    labels: set[int] = set()
    for path, line, result in zip(images, found, slipway_runtime.load(bundle)(images), strict=True):
        # Pillow reads the pixels of a palette's picture, the labels, where OpenCV gives their colours.
        written = Pil.open(out / path.with_suffix(".labels.png").name)
        assert written.mode == "P"
        assert written.getpalette() == [value for colour in result.palette for value in colour]
        label_map = np.asarray(written)
        assert label_map.shape == result.label_map.shape
        assert (label_map == result.label_map).mean() >= 0.9999, path
        expected = result.to_dict()
        assert (line["image"], line["width"], line["height"]) == (str(path), expected["width"], expected["height"])
        assert [row["name"] for row in line["classes"]] == [row["name"] for row in expected["classes"]]
        labels |= set(np.unique(result.label_map).tolist())
    return labels


def test_segmentation(ort_infer: Infer, scenes_experiment: Any, images: list[Path], tmp_path: Path) -> None:
    assert len(check_label_maps(ort_infer, scenes_experiment.bundle, images, tmp_path)) > 1


SEGMENTERS: dict[str, tuple[int, dict[str, Any], tuple[m.Step, ...]]] = {
    "whole": (1, {}, ()),
    "stride": (8, {"logits": "stride"}, (NORMALIZE, m.Pad(divisor=32))),
    "corners": (8, {"logits": "stride", "align_corners": True}, (m.Resize(width=160, height=96), NORMALIZE)),
    "slide": (1, {"window": m.Window(height=97, width=131, stride_height=60, stride_width=77)}, ()),
    "slide, stride": (4, {"window": m.Window(height=64, width=64, stride_height=43, stride_width=43)}, ()),
    "kept ratio": (8, {}, (m.Resize(width=333, height=150, keep_ratio=True), NORMALIZE, m.Pad(width=352, height=352))),
}


@pytest.mark.parametrize("kind", SEGMENTERS)
def test_label_maps_of_four_colours(ort_infer: Infer, kind: str, images: list[Path], tmp_path: Path) -> None:
    """A segmenter that tells colours apart finds all of its classes in photographs, in shreds."""
    stride, output, steps = SEGMENTERS[kind]
    manifest = segmenter_manifest(
        preprocess=(m.Decode(), *(steps or (NORMALIZE,))),
        postprocess=m.SegmentationOutput(**{"align_corners": False, **output}),
    )
    bundle = write_bundle(tmp_path / "bundle", build_segmenter(stride=stride), manifest)
    assert len(check_label_maps(ort_infer, bundle, images, tmp_path / "out")) == len(manifest.classes)


def test_label_maps_of_a_threshold(ort_infer: Infer, images: list[Path], tmp_path: Path) -> None:
    graph = build_segmenter(np.array([[0.5], [1], [-1.4]], np.float32))
    manifest = segmenter_manifest(
        classes=("cold", "warm"),
        palette=((0, 0, 255), (255, 0, 0)),
        outputs=(m.TensorSpec(name="logits", dtype="float32", shape=("batch", 1, "h", "w")),),
        postprocess=m.SegmentationOutput(align_corners=False, threshold=0.45),
    )
    assert (
        len(check_label_maps(ort_infer, write_bundle(tmp_path / "bundle", graph, manifest), images, tmp_path / "out"))
        == 2
    )


STEPS = {
    "resized": [m.Resize(width=97, height=64)],
    "nearest": [m.Resize(width=150, height=90, interpolation="nearest")],
    "bicubic": [m.Resize(width=97, height=64, keep_ratio=True, interpolation="bicubic")],
    "area": [m.Resize(width=97, height=64, keep_ratio=True, interpolation="area")],
    "lanczos": [m.ResizeEdge(size=101, edge="long", interpolation="lanczos")],
    "edge and crop": [m.ResizeEdge(size=72, edge="short"), m.CenterCrop(width=64, height=65)],
    "padded": [m.Pad(width=400, height=300, value=(1.0, 114.4, 250.0)), m.Resize(width=333, height=222)],
    "square": [m.Resize(width=64, height=64, keep_ratio=True), m.Pad(square=True, value=(114.0,))],
    "untouched": [],
}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("normalized", [True, False], ids=["normalized", "bytes"])
def test_preprocessed_tensors_are_equal_bit_for_bit(
    ort_infer: Infer,
    steps: str,
    normalized: bool,
    images: list[Path],
    scenes_experiment: Any,
    change_bundle: Any,
    tmp_path: Path,
) -> None:
    chosen = [m.Decode(), *STEPS[steps]]
    if normalized:
        norm = m.Normalize(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), reverse_channels=True)
        chosen += [norm, m.Pad(divisor=32, value=(0.5,))]
    bundle = change_bundle(scenes_experiment.bundle, preprocess=tuple(chosen))
    model = slipway_runtime.load(bundle)
    # The graph takes any size; small pictures keep this quick. JPEG too: the decoders agree, though nobody promises it.
    small = [path for path in images if not path.name.startswith("427")]
    lines(ort_infer(bundle, *small, "--inputs", tmp_path, "--json"))
    for path in small:
        np.testing.assert_array_equal(np.load(tmp_path / f"{path.name}.npy"), model.preprocess(path).array, str(path))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batches_of_mixed_sizes_keep_their_order(
    ort_infer: Infer, batch: int, detector_experiment: Any, images: list[Path]
) -> None:
    found = lines(ort_infer(detector_experiment.bundle, *images, "--json", "--batch", batch, "--workers", 3))
    alone = lines(ort_infer(detector_experiment.bundle, *images, "--json"))
    assert [line["image"] for line in found] == [str(path) for path in images]
    for one, other in zip(found, alone, strict=True):
        assert [row["label"] for row in one["detections"]] == [row["label"] for row in other["detections"]]


def test_lines_for_a_person_are_pythons(
    ort_infer: Infer, digits_experiment: Any, scenes_experiment: Any, images: list[Path]
) -> None:
    for bundle in (digits_experiment.bundle, scenes_experiment.bundle):
        done = ort_infer(bundle, *images[:20])
        expected = [
            f"{path}  {r.line()}" for path, r in zip(images, slipway_runtime.load(bundle)(images[:20]), strict=False)
        ]
        assert done.stdout.splitlines() == expected


def test_a_bare_graph_carries_its_manifest(ort_infer: Infer, digits_experiment: Any, images: list[Path]) -> None:
    whole = ort_infer(digits_experiment.bundle, images[0], "--json")
    bare = ort_infer(digits_experiment.bundle / m.GRAPH_NAME, images[0], "--json")
    assert lines(bare) == lines(whole)


def test_drawings_are_pythons(
    ort_infer: Infer, run_module: Any, masks_experiment: Any, images: list[Path], tmp_path: Path
) -> None:
    chosen = [path for path in images if path.suffix == ".png"][:12]
    options = ("--score", "0.05", "--opacity", "0.6")
    assert not ort_infer(masks_experiment.bundle, *chosen, *options, "--out", tmp_path / "native").returncode
    assert not run_module(
        "slipway_runtime", masks_experiment.bundle, *chosen, *options, "--out", tmp_path / "python"
    ).returncode
    for path in chosen:
        one, other = (cv2.imread(str(tmp_path / side / path.name)).astype(int) for side in ("native", "python"))
        # Versions of OpenCV may blend a letter's edge differently.
        assert (np.abs(one - other).max(axis=2) <= 8).mean() >= 0.9999, path


def test_make_infer_runs_it(digits_experiment: Any, images: list[Path], binary: Path) -> None:
    command = ["make", "infer", "NATIVE=1", f"BUNDLE={digits_experiment.bundle}", f"IMAGES={images[0].parent}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert sum(line.startswith(str(images[0].parent)) for line in done.stdout.splitlines()) == len(images)
