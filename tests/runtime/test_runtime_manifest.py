import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway_runtime import manifest as m
from slipway_runtime import schema
from slipway_runtime.errors import BundleError

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "manifest.schema.json"


def change(bundle: Path, path: str, value: Any) -> None:
    """Set one value of a written manifest, given as `key.0.key`; `...` removes it."""
    raw = json.loads((bundle / m.FILE_NAME).read_text())
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    target = raw
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    (bundle / m.FILE_NAME).write_text(json.dumps(raw))


def test_a_written_manifest_reads_back_equal(bundle: Path) -> None:
    manifest = m.read(bundle)
    assert m.parse(manifest.to_json(), "again") == manifest
    assert manifest.task == "classification"
    m.check_files(bundle, manifest)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema_version", 2, "schema_version 2, this runtime reads 1"),
        ("schema_version", ..., "schema_version None"),
        ("schema_version", True, "schema_version"),
        ("surprise", 1, "surprise: Extra inputs"),
        ("preprocess/1/surprise", 1, "surprise: Extra inputs"),
        ("preprocess/1/op", "rotate", "'rotate' found using 'op' does not match"),
        ("preprocess/1/width", "16", "valid integer"),
        ("preprocess/1/width", 0, "greater than 0"),
        ("preprocess/1/width", 10**9, "less than or equal"),
        ("preprocess/1/interpolation", "magic", "interpolation"),
        ("preprocess/2/mean", [1, 2], "one value or three"),
        ("preprocess/2/mean", [float("nan")], "NaN is not a number"),
        ("preprocess/2/mean", [float("inf")], "Infinity is not a number"),
        ("preprocess/2/std", [0], "std must be above 0"),
        ("preprocess/0", {"op": "resize", "width": 2, "height": 2}, "decode comes first"),
        ("preprocess/1", {"op": "decode"}, "decode comes first and once"),
        (
            "preprocess/1",
            {"op": "normalize", "mean": [0], "std": [1], "reverse_channels": False},
            "only pad may follow",
        ),
        ("preprocess/1", {"op": "pad", "width": 3}, "both width and height"),
        ("preprocess/1", {"op": "pad", "width": 3, "height": 3, "divisor": 3}, "both width and height"),
        ("preprocess/1", {"op": "pad", "square": True, "divisor": 3}, "or square alone"),
        ("preprocess/1", {"op": "pad"}, "or square alone"),
        ("preprocess", [], "preprocess"),
        ("classes", ["one"], "a classifier of 1 classes"),
        ("inputs/0/shape", ["batch", 3], "N×C×H×W"),
        ("postprocess/task", "poetry", "postprocess"),
        ("files", {"../model.onnx": "0" * 64}, "files"),
        ("files", {"/etc/passwd": "0" * 64}, "files"),
        ("files", {"engines/../../x": "0" * 64}, "files"),
        ("files", {"model.onnx\n": "0" * 64}, "files"),
        ("files", {"model.onnx": "0"}, "files"),
        ("origin/config", "../config.py", "origin.config"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(bundle: Path, path: str, value: Any, message: str) -> None:
    change(bundle, path, value)
    with pytest.raises(BundleError, match=message) as error:
        m.read(bundle)
    assert str(bundle) in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("palette", None, "needs a palette"),
        ("palette", [[0, 0, 0]], "a palette has a colour a class: 4, found 1"),
        ("palette/0", [0, 0, 256], "less than or equal to 255"),
        ("palette/0", [0, 0, -1], "greater than or equal to 0"),
        ("palette/0", [0, 0], "palette"),
        ("postprocess/align_corners", ..., "align_corners: Field required"),
        ("postprocess/logits", "half", "'full' or 'stride'"),
        ("postprocess/topk", 5, "topk: Extra inputs"),
        ("postprocess/threshold", 0.5, "a threshold tells 2 classes apart, found 4"),
        ("postprocess/window", {"height": 8, "width": 8, "stride_height": 9, "stride_width": 8}, "leave pixels out"),
        ("postprocess/window", {"height": 8, "width": 8, "stride_height": 8, "stride_width": 9}, "leave pixels out"),
        ("postprocess/window", {"height": 8, "width": 8, "stride_height": 0, "stride_width": 8}, "greater than 0"),
        ("postprocess/window", {"height": 8, "width": 8}, "Field required"),
        ("outputs/0/shape", ["batch", 5, "h", "w"], r"expected one output float32 \('batch', 4,.*found logits"),
        ("outputs/0/shape", ["batch", 1, "h", "w"], "expected one output"),
        ("outputs/0/shape", ["batch", 4], "expected one output"),
        ("outputs/0/dtype", "float16", "expected one output float32.*float16"),
        (
            "outputs",
            [{"name": n, "dtype": "float32", "shape": ["n", 4, "h", "w"]} for n in "ab"],
            "expected one output",
        ),
        ("classes", [str(i) for i in range(256)], "has 2 to 255 classes, found 256"),
        ("classes", ["alone"], "has 2 to 255 classes, found 1"),
    ],
)
def test_what_does_not_fit_a_segmenter_is_refused(segmenter: Path, path: str, value: Any, message: str) -> None:
    assert m.read(segmenter).task == "segmentation"
    change(segmenter, path, value)
    with pytest.raises(BundleError, match=message) as error:
        m.read(segmenter)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("palette", None, "detection needs a palette"),
        ("postprocess/clip", ..., "clip: Field required"),
        ("postprocess/score_threshold", 1, "less than 1"),
        ("postprocess/score_threshold", -0.1, "greater than or equal to 0"),
        ("postprocess/masks/over", "moon", "'box' or 'image'"),
        ("postprocess/masks/threshold", 0, "greater than 0"),
        ("postprocess/masks/threshold", 1, "less than 1"),
        ("postprocess/masks", None, "labels int64 of 2 axes, the last axis of dets being 5; found dets.*masks"),
        ("outputs/0/shape", ["batch", "found", 4], "the last axis of dets being 5"),
        ("outputs/0/shape", ["batch", 5], "a detector has dets float32 of 3 axes"),
        ("outputs/0/name", "boxes", "found boxes float32"),
        ("outputs/1/dtype", "int32", "found .*labels int32"),
        ("outputs/1/shape", ["batch"], "labels int64 of 2 axes"),
        ("outputs/2/dtype", "float16", "found .*masks float16"),
        ("outputs/2/shape", ["batch", "found", 28], "masks float32 of 4 axes"),
        ("outputs/2", ..., "masks float32 of 4 axes.*found dets"),
        ("preprocess/1", {"op": "center_crop", "width": 9, "height": 9}, "found a crop in"),
    ],
)
def test_what_does_not_fit_a_detector_is_refused(detector: Path, path: str, value: Any, message: str) -> None:
    assert m.read(detector).task == "detection"
    change(detector, path, value)
    with pytest.raises(BundleError, match=message) as error:
        m.read(detector)
    assert "\n" not in str(error.value)


def test_a_classifier_may_have_a_palette_but_a_whole_one(bundle: Path) -> None:
    change(bundle, "palette", [[0, 0, 0]] * 4)
    m.read(bundle)
    change(bundle, "palette", [[0, 0, 0]] * 3)
    with pytest.raises(BundleError, match="a colour a class: 4, found 3"):
        m.read(bundle)


@pytest.mark.parametrize(
    "output",
    [
        m.SegmentationOutput(align_corners=True, logits="stride"),
        m.SegmentationOutput(
            align_corners=False, window=m.Window(height=8, width=9, stride_height=8, stride_width=1), threshold=None
        ),
    ],
)
def test_a_segmenters_manifest_reads_back_equal(make_segmenter: Any, output: m.SegmentationOutput) -> None:
    manifest = m.read(make_segmenter(postprocess=output))
    assert manifest.postprocess == output
    assert m.parse(manifest.to_json(), "again") == manifest


@pytest.mark.parametrize("over", ["box", "image"])
def test_a_detectors_manifest_reads_back_equal(make_detector: Any, over: Any) -> None:
    output = m.DetectionOutput(clip=True, score_threshold=0.05, masks=m.Masks(over=over, threshold=0.5))
    bundle = make_detector([(0, 0, 9, 9, 0.9, 0)], np.ones((1, 2, 2), np.float32), postprocess=output)
    assert m.read(bundle).postprocess == output


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema_version": 1}'])
def test_what_is_no_manifest_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / m.FILE_NAME).write_bytes(content)
    with pytest.raises(BundleError, match=m.FILE_NAME):
        m.read(bundle)


def test_an_infinite_number_is_refused(bundle: Path) -> None:
    text = (bundle / m.FILE_NAME).read_text().replace("127.5", "1e999")
    (bundle / m.FILE_NAME).write_text(text)
    with pytest.raises(BundleError, match="finite number"):
        m.read(bundle)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        m.read(tmp_path / "nowhere")


def test_check_files_finds_what_was_altered_or_is_missing(bundle: Path) -> None:
    manifest = m.read(bundle)
    graph = bundle / m.GRAPH_NAME
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match="content was altered"):
        m.check_files(bundle, manifest)
    graph.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        m.check_files(bundle, manifest)
    graph.mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        m.check_files(bundle, manifest)
    with pytest.raises(BundleError, match="names no 'other"):
        m.check_files(bundle, manifest, ["other.onnx"])


def test_the_schema_in_docs_is_this_schema() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema.text(), (
        "run `python -m slipway_runtime.schema > docs/manifest.schema.json`"
    )
