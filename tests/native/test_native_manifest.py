"""Both runtimes read the same manifests and refuse the same, field by field; whatever one of them refuses is one line."""

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from tiny_bundles import (
    build_detector,
    build_graph,
    build_manifest,
    build_segmenter,
    detector_manifest,
    save,
    segmenter_manifest,
    write_bundle,
)

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.errors import BundleError

Infer = Callable[..., "subprocess.CompletedProcess[str]"]
Json: TypeAlias = Any
#: A field's place in a manifest.
Place = tuple[str | int, ...]

DETS = np.array([[8, 8, 24, 24, 0.9], [32, 0, 64, 64, 0.5]], np.float32)
TASKS = ("classification", "segmentation", "detection")
SPEC = {"name": "scores", "dtype": "float32", "shape": ["batch", 4]}
NORMALIZE = {"op": "normalize", "mean": [0], "std": [1], "reverse_channels": False}
WINDOW = {"height": 8, "width": 8, "stride_height": 8, "stride_width": 8}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle a task, and an image."""
    root = tmp_path_factory.mktemp("bundles")
    masks = np.ones((2, 7, 7), np.float32)
    detector = build_detector(DETS, np.array([1, 2]), masks)
    return {
        "image": save(root / "red.png", np.full((40, 30, 3), (0, 0, 255), np.uint8)),
        "classification": write_bundle(root / "classifier", build_graph(), build_manifest()),
        "segmentation": write_bundle(root / "segmenter", build_segmenter(), segmenter_manifest()),
        "detection": write_bundle(root / "detector", detector, detector_manifest((7, 7))),
    }


class Readers:
    """The two runtimes before one bundle's folder, whose manifest is changed from case to case."""

    def __init__(self, bundle: Path, image: Path, ort_infer: Infer) -> None:
        self.bundle, self.image, self.ort_infer = bundle, image, ort_infer
        self.file = bundle / m.FILE_NAME

    def python(self) -> tuple[int, str]:
        """Exit code and what is said, or predicted."""
        try:
            model = slipway_runtime.load(self.bundle)
        except BundleError as error:
            return error.exit_code, str(error)
        return 0, json.dumps(model(self.image)[0].to_dict())

    def native(self) -> tuple[int, str]:
        """Exit code and what is said, or predicted."""
        done = self.ort_infer(self.bundle, self.image, "--json", "--threads", 1, "--workers", 1)
        return done.returncode, done.stderr if done.returncode else done.stdout

    def expect_refusal(self, field: str) -> None:
        code, said = self.python()
        assert (code, str(self.file) in said) == (3, True), said
        assert field in said
        code, said = self.native()
        assert code == 3, said
        assert said.startswith(f"error: {self.file}: ")
        assert said.count("\n") == 1
        assert len(said) < 1000
        assert field in said

    def expect_same_prediction(self) -> None:
        (code, expected), (native_code, found) = self.python(), self.native()
        assert (code, native_code) == (0, 0), f"{expected}\n{found}"
        given = json.loads(found)
        assert given.pop("image") == str(self.image)
        assert given == json.loads(expected)


@pytest.fixture
def readers(bundles: dict[str, Path], ort_infer: Infer) -> Iterator[Callable[[str], Readers]]:
    """Readers of a task's bundle, whose manifest is intact again after the test."""
    intact = {task: (bundles[task] / m.FILE_NAME).read_bytes() for task in TASKS}
    yield lambda task: Readers(bundles[task], bundles["image"], ort_infer)
    for task, content in intact.items():
        (bundles[task] / m.FILE_NAME).write_bytes(content)


def changed(manifest: Json, place: Place, value: Json) -> Json:
    """A copy with one value set; `...` removes it."""
    manifest = copy.deepcopy(manifest)
    target = manifest
    for part in place[:-1]:
        target = target[part]
    if value is ...:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    return manifest


def places(value: Json, place: Place = ()) -> Iterator[Place]:
    """Places of values, objects and lists too; of a list of alike values the first."""
    if place:
        yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in entries:
        if isinstance(value, dict) or key == 0 or isinstance(each, dict):
            yield from places(each, (*place, key))


def short(value: Json) -> str:
    """A case's name."""
    return repr(value)[:40].encode("ascii", "backslashreplace").decode()


def place_of(path: str) -> Place:
    """`preprocess/1/width`, numbers as numbers."""
    return tuple(int(part) if part.isdecimal() else part for part in path.split("/"))


@pytest.mark.parametrize("task", TASKS)
def test_intact_manifests_are_read(readers: Callable[[str], Readers], task: str) -> None:
    """The control of all that follows: what is refused there is refused for the one change."""
    readers(task).expect_same_prediction()


JUNK: list[Json] = [..., None, True, 1, 3.0, "1", [], {}, float("nan"), "a\nb"]


@pytest.mark.parametrize("task", TASKS)
def test_no_value_is_read_by_one_alone(readers: Callable[[str], Readers], task: str) -> None:
    """Each value of a manifest replaced by each of many others: all types, and edges of the numbers'."""
    both = readers(task)
    intact = json.loads(both.file.read_text())
    differences, refused, read = [], 0, 0
    for place in places(intact):
        for value in JUNK:
            both.file.write_text(json.dumps(changed(intact, place, value)))
            try:
                m.read(both.bundle)
                expected = True
            except BundleError:
                expected = False
            code, said = both.native()
            # What the reader refuses names the file; what does not fit the graph names the bundle.
            found = not said.startswith(f"error: {both.file}: ")
            if expected != found or code not in (0, 3) or (not found and said.count("\n") != 1):
                differences.append((place, value, expected, code, said))
            refused, read = refused + (not found), read + found
    assert not differences
    assert refused > 5 * read > 100, "the control: most are refused, some are read"


@pytest.mark.parametrize("task", TASKS)
def test_no_object_takes_a_further_field(readers: Callable[[str], Readers], task: str) -> None:
    both = readers(task)
    intact = json.loads(both.file.read_text())
    objects = [place for place in [(), *places(intact)] if isinstance(_at(intact, place), dict)]
    free = [("files",), ("tools",)]  # names of files and tools are no fields
    for place in objects:
        both.file.write_text(json.dumps(changed(intact, (*place, "surprise"), "0" * 64)))
        both.expect_same_prediction() if place in free else both.expect_refusal("surprise")
    assert len(objects) >= 9


def _at(value: Json, place: Place) -> Json:
    for part in place:
        value = value[part]
    return value


REFUSED: dict[str, list[tuple[str, Json, str]]] = {
    "classification": [
        ("schema_version", 2, "schema_version 2"),
        ("schema_version", 0, "schema_version 0"),
        ("schema_version", "1", "schema_version"),
        ("schema_version", True, "schema_version"),
        ("schema_version", 1.0, "schema_version 1.0"),
        ("schema_version", None, "schema_version"),
        ("schema_version", 10**30, "schema_version"),
        ("schema_version", [[[]]], "schema_version"),
        ("schema_version", ..., "schema_version"),
        ("classes", [], "classes"),
        ("classes", ["one"], "classifier of 1 classes"),
        ("classes/0", None, "classes.0"),
        ("palette", [], "palette"),
        ("palette", [[0, 0, 0]] * 3, "a colour a class: 4, found 3"),
        ("palette", [[0, 0, 0]] * 5, "a colour a class: 4, found 5"),
        ("palette", [[0, 0, 256]] * 4, "palette.0.2"),
        ("palette", [[0, -1, 0]] * 4, "palette.0.1"),
        ("palette", [[0.0, 0, 0]] * 4, "palette.0.0"),
        ("palette", [[0, 0]] * 4, "palette.0"),
        ("palette", [[0, 0, 0, 0]] * 4, "palette.0"),
        ("palette", "red", "palette"),
        ("inputs", [], "inputs"),
        ("inputs", [{**SPEC, "shape": ["batch", 3, "h", "w"]}] * 2, "inputs"),
        ("inputs/0/dtype", "float64", "dtype"),
        ("inputs/0/dtype", "Float32", "dtype"),
        ("inputs/0/shape", ["batch", 3], "N×C×H×W"),
        ("inputs/0/shape", ["batch", 3, "h", "w", 1], "N×C×H×W"),
        ("inputs/0/shape", [], "N×C×H×W"),
        ("inputs/0/shape/0", 0, "inputs.0.shape.0"),
        ("inputs/0/shape/0", -1, "inputs.0.shape.0"),
        ("inputs/0/shape/0", 1.0, "inputs.0.shape.0"),
        ("inputs/0/shape/0", True, "inputs.0.shape.0"),
        ("inputs/0/shape/0", None, "inputs.0.shape.0"),
        ("outputs", [], "outputs"),
        ("outputs", [SPEC, SPEC], "classifier of 4 classes"),
        ("outputs/0/shape", ["batch", 5], "classifier of 4 classes"),
        ("outputs/0/shape", ["batch", "classes"], "classifier of 4 classes"),
        ("outputs/0/shape", ["batch", 4, 1], "classifier of 4 classes"),
        ("outputs/0/shape", [], "classifier of 4 classes"),
        ("preprocess", [], "preprocess"),
        ("preprocess", {"op": "decode"}, "preprocess"),
        ("preprocess/0", {"op": "resize", "width": 2, "height": 2}, "decode comes first and once"),
        ("preprocess/1", {"op": "decode"}, "decode comes first and once"),
        ("preprocess/0", {"op": "decode", "channel_order": "rgb"}, "channel_order"),
        ("preprocess/0", {"op": "decode", "channel_order": None}, "channel_order"),
        ("preprocess/0", {}, "preprocess.0"),
        ("preprocess/0", {"op": None}, "preprocess.0"),
        ("preprocess/0", {"op": 1}, "preprocess.0"),
        ("preprocess/0", {"op": "Decode"}, "preprocess.0"),
        ("preprocess/1", NORMALIZE, "only pad may follow"),
        ("preprocess/1/width", 0, "width"),
        ("preprocess/1/width", 65537, "width"),
        ("preprocess/1/width", 16.0, "width"),
        ("preprocess/1/width", "16", "width"),
        ("preprocess/1/width", 10**30, "width"),
        ("preprocess/1/width", ..., "width: Field required"),
        ("preprocess/1/keep_ratio", 1, "keep_ratio"),
        ("preprocess/1/keep_ratio", None, "keep_ratio"),
        ("preprocess/1/keep_ratio", "true", "keep_ratio"),
        ("preprocess/1/interpolation", "linear", "interpolation"),
        ("preprocess/1/interpolation", None, "interpolation"),
        ("preprocess/1", {"op": "resize_edge", "size": 9}, "edge"),
        ("preprocess/1", {"op": "resize_edge", "size": 9, "edge": "left"}, "edge"),
        ("preprocess/1", {"op": "resize_edge", "size": 0, "edge": "long"}, "size"),
        ("preprocess/1", {"op": "resize_edge", "size": 65537, "edge": "long"}, "size"),
        ("preprocess/1", {"op": "center_crop", "width": 0, "height": 9}, "width"),
        ("preprocess/1", {"op": "center_crop", "width": 9}, "height"),
        ("preprocess/1", {"op": "pad"}, "both width and height"),
        ("preprocess/1", {"op": "pad", "width": 3}, "both width and height"),
        ("preprocess/1", {"op": "pad", "width": 3, "square": True}, "both width and height"),
        ("preprocess/1", {"op": "pad", "width": 3, "height": 3, "divisor": 3}, "both width and height"),
        ("preprocess/1", {"op": "pad", "width": 3, "height": 3, "square": True}, "both width and height"),
        ("preprocess/1", {"op": "pad", "divisor": 3, "square": True}, "both width and height"),
        ("preprocess/1", {"op": "pad", "square": False}, "both width and height"),
        ("preprocess/1", {"op": "pad", "divisor": 0}, "divisor"),
        ("preprocess/1", {"op": "pad", "divisor": 65537}, "divisor"),
        ("preprocess/1", {"op": "pad", "divisor": 3, "value": []}, "value"),
        ("preprocess/1", {"op": "pad", "divisor": 3, "value": [0, 0]}, "value"),
        ("preprocess/1", {"op": "pad", "divisor": 3, "value": [0] * 4}, "value"),
        ("preprocess/1", {"op": "pad", "divisor": 3, "value": 0}, "value"),
        ("preprocess/1", {"op": "pad", "divisor": 3, "value": None}, "value"),
        ("preprocess/2/mean", [], "mean"),
        ("preprocess/2/mean", [1, 2], "mean"),
        ("preprocess/2/mean", [1, 2, 3, 4], "mean"),
        ("preprocess/2/mean", ["127.5"], "mean.0"),
        ("preprocess/2/mean", [True], "mean.0"),
        ("preprocess/2/mean", [None], "mean.0"),
        ("preprocess/2/std", [0], "std must be above 0"),
        ("preprocess/2/std", [-0.0], "std must be above 0"),
        ("preprocess/2/std", [1, 1, -1], "std must be above 0"),
        ("preprocess/2/reverse_channels", ..., "reverse_channels: Field required"),
        ("preprocess/2/reverse_channels", 0, "reverse_channels"),
        ("postprocess", {}, "postprocess"),
        ("postprocess", None, "postprocess"),
        ("postprocess/task", "poetry", "postprocess"),
        ("postprocess/task", ..., "postprocess"),
        ("postprocess/topk", 0, "topk"),
        ("postprocess/topk", 1.0, "topk"),
        ("postprocess/topk", 1e30, "topk"),
        ("postprocess/topk", -(10**30), "topk"),
        ("postprocess/topk", True, "topk"),
        ("postprocess/topk", None, "topk"),
        ("postprocess/clip", True, "clip"),
        ("files", None, "files"),
        ("files", [], "files"),
        ("files", {"../model.onnx": "0" * 64}, "files"),
        ("files", {"/etc/passwd": "0" * 64}, "files"),
        ("files", {"engines/../../x": "0" * 64}, "files"),
        ("files", {"engines/engines/x": "0" * 64}, "files"),
        ("files", {"engines/": "0" * 64}, "files"),
        ("files", {"": "0" * 64}, "files"),
        ("files", {".hidden": "0" * 64}, "files"),
        ("files", {"-flag": "0" * 64}, "files"),
        ("files", {"a b": "0" * 64}, "files"),
        ("files", {"bär": "0" * 64}, "files"),
        ("files", {"model.onnx\n": "0" * 64}, "files"),
        ("files", {"model.onnx\0": "0" * 64}, "files"),
        ("files/model.onnx", "0" * 63, "files"),
        ("files/model.onnx", "0" * 65, "files"),
        ("files/model.onnx", "0" * 64 + "\n", "files"),
        ("files/model.onnx", "A" * 64, "files"),
        ("files/model.onnx", "g" * 64, "files"),
        ("files/model.onnx", 0, "files"),
        ("origin", None, "origin"),
        ("origin/checkpoint", ..., "origin.checkpoint: Field required"),
        ("origin/checkpoint_sha256", "0" * 63, "origin.checkpoint_sha256"),
        ("origin/config", "../config.py", "origin.config"),
        ("origin/config", "", "origin.config"),
        ("origin/config_sha256", None, "origin.config_sha256"),
        ("tools", None, "tools"),
        ("tools", {"onnx": 1}, "tools.onnx"),
        ("tools", {"onnx": None}, "tools.onnx"),
        ("name", 7, "name"),
        ("name", ["x" * 100_000], "name"),
        ("s" * 100_000, 1, "ssss"),
    ],
    "segmentation": [
        ("palette", None, "needs a palette"),
        ("palette", ..., "needs a palette"),
        ("palette", [[0, 0, 0]], "a colour a class: 4, found 1"),
        ("classes", [str(i) for i in range(256)], "2 to 255 classes, found 256"),
        ("classes", ["alone"], "2 to 255 classes, found 1"),
        ("outputs/0/shape", ["batch", 5, "h", "w"], "expected one output"),
        ("outputs/0/shape", ["batch", 1, "h", "w"], "expected one output"),
        ("outputs/0/shape", ["batch", "c", "h", "w"], "expected one output"),
        ("outputs/0/shape", ["batch", 4], "expected one output"),
        ("outputs/0/shape", ["batch"], "expected one output"),
        ("outputs/0/dtype", "float16", "expected one output"),
        ("outputs", [{**SPEC, "shape": ["batch", 4, "h", "w"]}] * 2, "expected one output"),
        ("postprocess/align_corners", ..., "align_corners: Field required"),
        ("postprocess/align_corners", None, "align_corners"),
        ("postprocess/logits", "half", "logits"),
        ("postprocess/logits", None, "logits"),
        ("postprocess/topk", 5, "topk"),
        ("postprocess/threshold", 0.5, "2 classes apart, found 4"),
        ("postprocess/threshold", "0.5", "threshold"),
        ("postprocess/window", {**WINDOW, "stride_height": 9}, "leave pixels out"),
        ("postprocess/window", {**WINDOW, "stride_width": 9}, "leave pixels out"),
        ("postprocess/window", {**WINDOW, "stride_width": 0}, "stride_width"),
        ("postprocess/window", {**WINDOW, "height": 65537}, "height"),
        ("postprocess/window", {**WINDOW, "surprise": 1}, "surprise"),
        ("postprocess/window", {"height": 8, "width": 8}, "Field required"),
        ("postprocess/window", {}, "Field required"),
        ("postprocess/window", [], "window"),
    ],
    "detection": [
        ("palette", None, "needs a palette"),
        ("preprocess/1", {"op": "center_crop", "width": 9, "height": 9}, "found a crop"),
        ("outputs/0/shape", ["batch", "found", 4], "a detector has dets"),
        ("outputs/0/shape", ["batch", "found", "five"], "a detector has dets"),
        ("outputs/0/shape", ["batch", 5], "a detector has dets"),
        ("outputs/0/name", "boxes", "a detector has dets"),
        ("outputs/0/dtype", "float16", "a detector has dets"),
        ("outputs/1/dtype", "int32", "a detector has dets"),
        ("outputs/1/shape", ["batch"], "a detector has dets"),
        ("outputs/2/dtype", "float16", "a detector has dets"),
        ("outputs/2/shape", ["batch", "found", 28], "a detector has dets"),
        ("outputs/2", ..., "a detector has dets"),
        ("outputs", [], "outputs"),
        ("postprocess/masks", None, "a detector has dets"),
        ("postprocess/masks", ..., "a detector has dets"),
        ("postprocess/masks", False, "masks"),
        ("postprocess/masks", {}, "over"),
        ("postprocess/masks/over", "moon", "over"),
        ("postprocess/masks/over", None, "over"),
        ("postprocess/masks/threshold", 0, "threshold"),
        ("postprocess/masks/threshold", 1, "threshold"),
        ("postprocess/masks/threshold", -0.1, "threshold"),
        ("postprocess/masks/threshold", "0.5", "threshold"),
        ("postprocess/masks/surprise", 1, "surprise"),
        ("postprocess/clip", ..., "clip: Field required"),
        ("postprocess/clip", 1, "clip"),
        ("postprocess/score_threshold", 1, "score_threshold"),
        ("postprocess/score_threshold", 1.0, "score_threshold"),
        ("postprocess/score_threshold", -0.1, "score_threshold"),
        ("postprocess/score_threshold", None, "score_threshold"),
        ("postprocess/score_threshold", True, "score_threshold"),
    ],
}


@pytest.mark.parametrize(
    ("task", "path", "value", "field"), [(task, *case) for task, cases in REFUSED.items() for case in cases], ids=short
)
def test_both_refuse(readers: Callable[[str], Readers], task: str, path: str, value: Json, field: str) -> None:
    both = readers(task)
    both.file.write_text(json.dumps(changed(json.loads(both.file.read_text()), place_of(path), value)))
    both.expect_refusal(field)


READ: dict[str, list[tuple[str, Json]]] = {
    "classification": [
        ("palette", None),
        ("palette", [[0, 255, 0]] * 4),
        ("name", ""),
        ("name", "Zaunkönig №1 🐦"),
        ("name", "two\nlines\0"),
        ("classes", ["same"] * 4),
        ("preprocess/0", {"op": "decode"}),
        ("preprocess/1/width", 1),
        ("preprocess/1/keep_ratio", True),
        ("preprocess/1/interpolation", "area"),
        ("preprocess/1", {"op": "resize", "width": 65536, "height": 1}),
        ("preprocess/1", {"op": "resize_edge", "size": 9, "edge": "short"}),
        ("preprocess/1", {"op": "center_crop", "width": 65536, "height": 1}),
        ("preprocess/1", {"op": "pad", "width": 44, "height": 1, "divisor": None, "square": False}),
        ("preprocess/1", {"op": "pad", "divisor": 7, "width": None, "value": [1, 2.5, 3]}),
        ("preprocess/1", {"op": "pad", "square": True, "value": [10**30]}),
        ("preprocess/2/mean", [0]),
        ("preprocess/2/mean", [-0.0, 1e-400, 10**3]),
        ("preprocess/2/std", [1e-3, 255, 2.5]),
        ("preprocess/2/mean", [10**18]),
        ("postprocess/topk", 1),
        ("postprocess/topk", ...),
        ("postprocess/topk", 2**63 - 1),
        ("origin/checkpoint", ""),
        ("origin/config", "engines/x-1.py"),
        ("tools", {}),
        ("tools", {"": "", "a b": "\n"}),
    ],
    "segmentation": [
        ("postprocess/logits", ...),
        ("postprocess/logits", "stride"),
        ("postprocess/align_corners", True),
        ("postprocess/threshold", None),
        ("postprocess/window", WINDOW),
        ("postprocess/window", {**WINDOW, "stride_height": 1, "width": 65536}),
    ],
    "detection": [
        ("postprocess/score_threshold", 0),
        ("postprocess/score_threshold", 0.9999),
        ("postprocess/score_threshold", ...),
        ("postprocess/clip", False),
        ("postprocess/masks/over", "image"),
        ("postprocess/masks/threshold", 0.9999),
        ("postprocess/masks/threshold", 1e-9),
        ("palette/0", [255, 255, 255]),
    ],
}


@pytest.mark.parametrize(
    ("task", "path", "value"), [(task, *case) for task, cases in READ.items() for case in cases], ids=short
)
def test_both_read(readers: Callable[[str], Readers], task: str, path: str, value: Json) -> None:
    both = readers(task)
    both.file.write_text(json.dumps(changed(json.loads(both.file.read_text()), place_of(path), value)))
    both.expect_same_prediction()


def test_integers_of_more_than_64_bits(readers: Callable[[str], Readers]) -> None:
    """No graph has such a size. That many best classes is the one thing that `slipway_runtime` alone reads."""
    both = readers("classification")
    intact = json.loads(both.file.read_text())
    both.file.write_text(json.dumps(changed(intact, ("inputs", 0, "shape", 0), 10**19)))
    assert (both.python()[0], both.native()[0]) == (3, 3)
    for number in (2**63, 10**30):
        both.file.write_text(json.dumps(changed(intact, ("postprocess", "topk"), number)))
        assert both.python()[0] == 0
        code, said = both.native()
        assert code == 3
        assert f"{both.file}: postprocess.topk: expected an integer of 1 or more" in said


#: What a text editor, another program or a broken disk may leave, made of the intact text.
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda text: b"",
    "space": lambda text: b" \n",
    "cut": lambda text: text[: len(text) // 2],
    "a list": lambda text: b"[]",
    "a word": lambda text: b"null",
    "a number": lambda text: b"1",
    "a text": lambda text: b'"manifest"',
    "twice": lambda text: text + text,
    "more after it": lambda text: text + b"}",
    "a null byte and more after it": lambda text: text + b"\0more",
    "a null byte after it": lambda text: text + b"\0",
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "not UTF-8": lambda text: text.replace(b"tiny", b"t\xffny"),
    "overlong UTF-8": lambda text: text.replace(b"tiny", b"t\xc0\xafny"),
    "a surrogate in UTF-8": lambda text: text.replace(b"tiny", b"t\xed\xa0\x80ny"),
    "half a surrogate pair": lambda text: text.replace(b"tiny", rb"\ud800"),
    "a tab in a text": lambda text: text.replace(b"tiny", b"ti\tny"),
    "an unknown escape": lambda text: text.replace(b"tiny", rb"t\iny"),
    "a comment": lambda text: b"// a manifest\n" + text,
    "a comma too many": lambda text: text.replace(b'"2.', b'"2.').replace(b"},\n", b"},,\n", 1),
    "single quotes": lambda text: text.replace(b'"', b"'"),
    "no quotes": lambda text: text.replace(b'"name"', b"name"),
    "a leading zero": lambda text: text.replace(b": 16", b": 016"),
    "a plus": lambda text: text.replace(b": 16", b": +16"),
    "no digits after the point": lambda text: text.replace(b": 16", b": 16."),
    "a hexadecimal number": lambda text: text.replace(b": 16", b": 0x10"),
    "NaN": lambda text: text.replace(b"127.5", b"NaN"),
    "Infinity": lambda text: text.replace(b"127.5", b"Infinity"),
    "-Infinity": lambda text: text.replace(b"127.5", b"-Infinity"),
    "a number of no end": lambda text: text.replace(b"127.5", b"1e999"),
    "an integer of no end": lambda text: text.replace(b"127.5", b"9" * 400),
    "a number of a million digits": lambda text: text.replace(b"127.5", b"1" * 10**6),
    "lists without end": lambda text: b"[" * 100_000,
    "lists within lists": lambda text: text.replace(b'"tiny"', b"[" * 100_000 + b"]" * 100_000),
    "objects within objects": lambda text: text.replace(b'"tiny"', b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a version within lists": lambda text: text.replace(
        b'"schema_version": 1', b'"schema_version": ' + b"[" * 100_000 + b"]" * 100_000
    ),
    "two versions, the last unknown": lambda text: text.replace(b"{", b'{"schema_version": 1,', 1).replace(
        b'"schema_version": 1,\n', b'"schema_version": 2,\n'
    ),
    "two names, the last a number": lambda text: text.replace(b'"name": "tiny"', b'"name": "tiny", "name": 1'),
    "a field given twice, once unknown": lambda text: text.replace(b'"name"', b'"nome": 1, "name"'),
}


@pytest.mark.parametrize("how", BROKEN)
def test_both_refuse_what_is_no_json_of_a_manifest(readers: Callable[[str], Readers], how: str) -> None:
    both = readers("classification")
    broken = BROKEN[how](both.file.read_bytes())
    assert broken != both.file.read_bytes()
    both.file.write_bytes(broken)
    both.expect_refusal("")


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b" ", b"\t") + b" \t\r\n",
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: json.dumps(json.loads(text), sort_keys=True, indent=1).encode(),
        lambda text: text.replace(b"tiny", rb"\u0074\ud83d\udc26\/"),
        lambda text: text.replace(b"127.5", b"1275e-1"),
        lambda text: text.replace(b"127.5", b"127.500000000000000000000000000000000000000000001"),
        lambda text: text.replace(b'"name": "tiny"', b'"name": 1, "name": "tiny"'),
        lambda text: text.replace(b'"width": 16', b'"width": 1, "width": 16'),
        lambda text: text.replace(b'"op": "resize"', b'"op": "pad", "op": "resize"'),
    ],
    ids=["crlf", "tabs", "compact", "sorted", "escapes", "exponent", "digits", "name", "width", "op"],
)
def test_both_read_any_json_of_a_manifest(readers: Callable[[str], Readers], rewrite: Callable[[bytes], bytes]) -> None:
    both = readers("classification")
    rewritten = rewrite(both.file.read_bytes())
    assert rewritten != both.file.read_bytes()
    both.file.write_bytes(rewritten)
    both.expect_same_prediction()


def test_a_manifest_in_the_graph_is_read_alike(bundles: dict[str, Path], ort_infer: Infer, tmp_path: Path) -> None:
    graph = (bundles["classification"] / m.GRAPH_NAME).read_bytes()
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(graph)
    assert ort_infer(alone, bundles["image"]).returncode == 0
    # As long as before: the graph's file is not written anew.
    alone.write_bytes(graph.replace(b'"topk": 2', b'"topk": 0'))
    assert alone.read_bytes() != graph
    done = ort_infer(alone, bundles["image"])
    with pytest.raises(BundleError, match=r"metadata: postprocess.*topk") as error:
        slipway_runtime.load(alone)
    assert done.returncode == error.value.exit_code
    assert f"{alone}: metadata: postprocess.topk" in done.stderr
