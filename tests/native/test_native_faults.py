"""What is broken or missing ends `ort_infer` with one clear line and the exit code that `slipway_runtime` has for it.

All of it runs under the sanitizers: a finding of theirs would be exit code 99. Each kind of fault has its control, an intact
twin that is predicted.
"""

import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundles import build_graph, build_manifest, build_segmenter, save, segmenter_manifest, write_bundle

from slipway_runtime import manifest as m
from slipway_runtime.__main__ import main

Infer = Callable[..., "subprocess.CompletedProcess[str]"]
Captured = pytest.CaptureFixture[str]
#: What lies in a checkout without Git LFS where the graph should be.
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", build_graph(), build_manifest())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "red.png", np.full((40, 30, 3), (0, 0, 255), np.uint8))


@pytest.fixture
def refused(sanitized: Infer, capsys: Captured) -> Callable[..., str]:
    """Runs both runtimes, which must end with this code and one line that says this; what `ort_infer` said."""

    def run(code: int, says: str, *arguments: object) -> str:
        done = sanitized(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: ")
        assert says in done.stderr
        capsys.readouterr()
        assert main([*map(str, arguments)]) == code, capsys.readouterr().err
        assert len(capsys.readouterr().err.splitlines()) == 1
        return done.stderr

    return run


def rehash(bundle: Path) -> None:
    """Let the manifest name the graph as it is now, so that the next guard meets it."""
    raw = json.loads((bundle / m.FILE_NAME).read_text())
    raw["files"] = {m.GRAPH_NAME: hashlib.sha256((bundle / m.GRAPH_NAME).read_bytes()).hexdigest()}
    (bundle / m.FILE_NAME).write_text(json.dumps(raw))


def test_control_an_intact_bundle_is_predicted(bundle: Path, image: Path, sanitized: Infer) -> None:
    rehash(bundle)
    done = sanitized(bundle, image)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{image}  red (0.")


BROKEN_BUNDLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no bundle": (lambda b: shutil.rmtree(b), "no such file"),
    "no manifest": (lambda b: (b / m.FILE_NAME).unlink(), "not a bundle's manifest (No such file"),
    "a folder as manifest": (
        lambda b: ((b / m.FILE_NAME).unlink(), (b / m.FILE_NAME).mkdir()),
        "not a bundle's manifest (Is a directory)",
    ),
    "an empty manifest": (lambda b: (b / m.FILE_NAME).write_bytes(b""), "not valid JSON"),
    "half a manifest": (lambda b: (b / m.FILE_NAME).write_text("{"), "not valid JSON"),
    "no graph": (lambda b: (b / m.GRAPH_NAME).unlink(), "model.onnx: cannot be read, though the manifest names it"),
    "a folder as graph": (lambda b: ((b / m.GRAPH_NAME).unlink(), (b / m.GRAPH_NAME).mkdir()), "cannot be read"),
    "an empty graph": (lambda b: (b / m.GRAPH_NAME).write_bytes(b""), "content was altered"),
    "half a graph": (lambda b: os.truncate(b / m.GRAPH_NAME, 200), "content was altered"),
    "a pointer as graph": (lambda b: (b / m.GRAPH_NAME).write_bytes(POINTER), "content was altered"),
    "another graph": (lambda b: tamper(b / m.GRAPH_NAME), "content was altered"),
    "no external data": (lambda b: name_file(b, "model.onnx.data"), "model.onnx.data: cannot be read"),
    "no graph named": (lambda b: name_file(b, "parity.json", alone=True), "the manifest names no 'model.onnx'"),
}


def tamper(graph: Path) -> None:
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)


def name_file(bundle: Path, name: str, *, alone: bool = False) -> None:
    raw = json.loads((bundle / m.FILE_NAME).read_text())
    raw["files"] = {**({} if alone else raw["files"]), name: hashlib.sha256(b"").hexdigest()}
    (bundle / m.FILE_NAME).write_text(json.dumps(raw))


@pytest.mark.parametrize("how", BROKEN_BUNDLES)
def test_broken_bundles(bundle: Path, image: Path, refused: Callable[..., str], how: str) -> None:
    break_it, says = BROKEN_BUNDLES[how]
    break_it(bundle)
    assert str(bundle) in refused(3, says, bundle, image)


@pytest.mark.parametrize("content", [b"", POINTER, b"\x08\x09", None], ids=["empty", "pointer", "bytes", "half"])
def test_what_is_no_graph_though_its_hash_is_right(
    bundle: Path, image: Path, refused: Callable[..., str], content: bytes | None
) -> None:
    graph = bundle / m.GRAPH_NAME
    graph.write_bytes(graph.read_bytes()[:300] if content is None else content)
    rehash(bundle)
    refused(3, f"{graph}: not a usable ONNX file", bundle, image)
    refused(3, f"{graph}: not a usable ONNX file", graph, image)


def test_a_bundle_whose_manifest_names_external_data_alone(
    bundle: Path, image: Path, refused: Callable[..., str]
) -> None:
    name_file(bundle, "model.onnx.data", alone=True)
    (bundle / "model.onnx.data").write_bytes(b"")
    refused(3, "the manifest names no 'model.onnx'", bundle, image)


def test_a_graph_without_a_manifest(bundle: Path, image: Path, refused: Callable[..., str]) -> None:
    graph = bundle / m.GRAPH_NAME
    graph.write_bytes(graph.read_bytes().replace(m.METADATA_KEY.encode(), b"another.manifest"))
    refused(3, "no 'slipway.manifest' in its metadata", graph, image)


def model_of(nodes: list[Any], shape: tuple[Any, ...], outputs: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    inputs = [helper.make_tensor_value_info("image", kind, shape)]
    graph = helper.make_graph(nodes, "odd", inputs, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


SCORES = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("batch", 4))
SHAPE = ("batch", 3, "height", "width")
ODD_GRAPHS: dict[str, tuple[Any, str]] = {
    "other inputs": (
        build_graph(shape=("batch", 3, 16, 16)),
        "tiny: the manifest's inputs are image float32 (batch, 3,",
    ),
    "another width": (build_graph(shape=("batch", 3, "height", 16)), "the manifest's inputs are"),
    "other outputs": (build_graph(np.ones((3, 5), np.float32)), "tiny: the manifest's outputs are scores float32"),
    "other data type": (
        model_of([helper.make_node("Cast", ["image"], ["scores"], to=1)], SHAPE, [SCORES], TensorProto.FLOAT16),
        "image float16",
    ),
    "unknown operator": (model_of([helper.make_node("Nonsense", ["image"], ["scores"])], SHAPE, [SCORES]), "Nonsense"),
    "unknown domain": (
        model_of([helper.make_node("Nonsense", ["image"], ["scores"], domain="nowhere")], SHAPE, [SCORES]),
        "Nonsense",
    ),
    "missing input": (model_of([helper.make_node("Relu", ["nothing"], ["scores"])], SHAPE, [SCORES]), "nothing"),
    "a sequence": (
        model_of(
            [helper.make_node("SequenceConstruct", ["image"], ["scores"])],
            SHAPE,
            [helper.make_tensor_sequence_value_info("scores", TensorProto.FLOAT, None)],
        ),
        "'scores' is",
    ),
    "float64": (
        model_of(
            [helper.make_node("Cast", ["image"], ["scores"], to=TensorProto.DOUBLE)],
            SHAPE,
            [helper.make_tensor_value_info("scores", TensorProto.DOUBLE, SHAPE)],
        ),
        "'scores'",
    ),
}


@pytest.mark.parametrize("how", ODD_GRAPHS)
def test_graphs_that_do_not_fit(tmp_path: Path, image: Path, refused: Callable[..., str], how: str) -> None:
    model, says = ODD_GRAPHS[how]
    refused(3, says, write_bundle(tmp_path / "bundle", model, build_manifest()), image)


def test_an_operator_without_a_kernel_is_the_machines_lack(
    tmp_path: Path, image: Path, refused: Callable[..., str]
) -> None:
    """Of a type that the standard allows and ONNX Runtime has no kernel for."""
    nodes = [
        helper.make_node("Cast", ["image"], ["small"], to=TensorProto.BFLOAT16),
        helper.make_node("Ceil", ["small"], ["ceiled"]),
        helper.make_node("Cast", ["ceiled"], ["scores"], to=TensorProto.FLOAT),
    ]
    bundle = write_bundle(tmp_path / "bundle", model_of(nodes, SHAPE, [SCORES]), build_manifest())
    refused(4, "onnxruntime cannot run this graph on cpu", bundle, image)


def unscaled(folder: Path, shape: tuple[Any, ...]) -> Path:
    """A bundle that takes images at their own size."""
    steps = (m.Decode(), m.Normalize(mean=(127.5,), std=(127.5,), reverse_channels=True))
    return write_bundle(folder, build_graph(shape=shape), build_manifest(shape, preprocess=steps))


def test_an_input_size_that_a_static_graph_does_not_take(
    tmp_path: Path, image: Path, refused: Callable[..., str], sanitized: Infer
) -> None:
    bundle = unscaled(tmp_path / "static", (1, 3, 16, 16))
    refused(4, "input 'image' has shape (1, 3, 40, 30), expected (1, 3, 16, 16); export with", bundle, image)
    fitting = save(tmp_path / "fitting.png", np.zeros((16, 16, 3), np.uint8))
    assert sanitized(bundle, fitting).returncode == 0


def test_axes_of_one_name_have_one_size(
    tmp_path: Path, image: Path, refused: Callable[..., str], sanitized: Infer
) -> None:
    bundle = unscaled(tmp_path / "square", ("batch", 3, "edge", "edge"))
    refused(4, "has shape (1, 3, 40, 30), expected (batch, 3, edge, edge)", bundle, image)
    square = save(tmp_path / "square.png", np.zeros((16, 16, 3), np.uint8))
    assert sanitized(bundle, square).returncode == 0


def test_a_batch_that_the_graph_does_not_take(
    tmp_path: Path, image: Path, refused: Callable[..., str], sanitized: Infer
) -> None:
    bundle = unscaled(tmp_path / "pairs", (2, 3, "height", "width"))
    refused(2, "batch size 3: this graph takes 2", bundle, image, "--batch", 3)
    for batch in ([], ["--batch", 2]):
        done = sanitized(bundle, image, image, image, *batch)
        assert done.returncode == 0
        assert done.stdout.count("red (0.") == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_graph_that_gives_no_numbers(tmp_path: Path, image: Path, refused: Callable[..., str], value: float) -> None:
    weight = np.full((4, 3, 1, 1), value, np.float32)
    model = build_segmenter()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))
    bundle = write_bundle(tmp_path / "bundle", model, segmenter_manifest())
    refused(5, "output 'logits' has values that are no finite numbers", bundle, image)


def png(width: int, height: int) -> bytes:
    """A PNG's header, and pixels for one row of it at most."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int) -> bytes:
    """A JPEG's header over the pixels of a small one."""
    content = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


PIXELS = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
BAD_IMAGES: dict[str, tuple[str, bytes, str]] = {
    "half a PNG": ("bad.png", cv2.imencode(".png", PIXELS)[1].tobytes()[:999], "not a whole image (999 bytes)"),
    "half a JPEG": ("bad.jpg", cv2.imencode(".jpg", PIXELS)[1].tobytes()[:999], "not a whole image (999 bytes)"),
    "a PNG's signature": ("bad.png", b"\x89PNG\r\n\x1a\n", "not a whole image"),
    "a JPEG's signature": ("bad.jpg", b"\xff\xd8", "not a whole image"),
    "nothing": ("bad.png", b"", "not a whole image (0 bytes)"),
    "text": ("bad.png", b"just text", "not a whole image"),
    "a pointer": ("bad.jpg", POINTER, "not a whole image"),
    "a huge PNG": ("bad.png", png(30000, 30000), "30000×30000 pixels, expected 1 to 268435456"),
    "a huge JPEG": ("bad.jpg", jpeg(30000, 30000), "30000×30000 pixels"),
    "a boundless PNG": ("bad.png", png(2**31 - 1, 2**31 - 1), "pixels, expected"),
    "a PNG without pixels": ("bad.png", png(0, 5), "0×5 pixels"),
}


@pytest.mark.parametrize("how", BAD_IMAGES)
def test_bad_images(bundle: Path, tmp_path: Path, refused: Callable[..., str], how: str) -> None:
    name, content, says = BAD_IMAGES[how]
    (tmp_path / name).write_bytes(content)
    assert f"error: {tmp_path / name}: " in refused(3, says, bundle, tmp_path / name)


def test_control_images_of_the_same_kinds(bundle: Path, tmp_path: Path, sanitized: Infer) -> None:
    names = [save(tmp_path / name, PIXELS) for name in ("whole.png", "whole.jpg")]
    names.append(save(tmp_path / "smallest.png", PIXELS[:1, :1]))
    (tmp_path / "header.jpg").write_bytes(jpeg(8, 8))
    done = sanitized(bundle, *names, tmp_path / "header.jpg")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 4


def test_a_huge_image_takes_no_memory(bundle: Path, image: Path, binary: Path, tmp_path: Path) -> None:
    """2 GiB are enough to refuse an image whose pixels alone would need 2.7 GB."""
    limit = (2 << 30, 2 << 30)
    names = {"huge.png": png(30000, 30000), "huge.jpg": jpeg(30000, 30000)}
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    for name, code in ((image, 0), *((tmp_path / name, 3) for name in names)):
        done = subprocess.run(
            [binary, bundle, name, "--threads", "1", "--workers", "1"],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
        )
        assert done.returncode == code, done.stderr
        assert code == 0 or "30000×30000 pixels" in done.stderr


@pytest.mark.parametrize(("ending", "name"), [(".webp", "WebP"), (".bmp", "BMP"), (".tiff", "TIFF")])
def test_formats_that_only_python_reads_are_named(
    bundle: Path, tmp_path: Path, sanitized: Infer, ending: str, name: str
) -> None:
    path = save(tmp_path / f"photo{ending}", PIXELS)
    disguised = shutil.copy(path, tmp_path / "photo.png")
    for each in (path, disguised):
        done = sanitized(bundle, each)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == f"error: {each}: a {name} image, expected JPEG or PNG; convert it\n"


def test_images_that_are_not_there(bundle: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "folder.jpg").mkdir()
    refused(3, "folder.jpg: nothing in this folder to predict on", bundle, tmp_path / "folder.jpg")
    refused(3, "missing.jpg: cannot be read as an image file (No such file", bundle, tmp_path / "missing.jpg")
    refused(3, "x" * 300, bundle, tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_that_must_not_be_read(bundle: Path, image: Path, refused: Callable[..., str]) -> None:
    image.chmod(0)
    refused(3, "red.png: cannot be read as an image file (Permission denied)", bundle, image)


@pytest.mark.parametrize("options", [[], ["--batch", "3"], ["--workers", "1"], ["--batch", "2", "--workers", "3"]])
def test_in_a_folder_the_others_are_done(bundle: Path, tmp_path: Path, sanitized: Infer, options: list[str]) -> None:
    folder = tmp_path / "folder"
    for name in ("a.png", "b.jpg", "deeper/d.PNG", "e.jpeg"):
        save(folder / name, PIXELS)
    (folder / "album.jpg").mkdir()
    (folder / "notes.txt").write_text("no image")
    (folder / "c.png").write_bytes(b"text")
    (folder / "deeper" / "zero.jpg").write_bytes(b"")
    done = sanitized(bundle, folder, "--json", *options)
    assert done.returncode == 3
    names = ["a.png", "b.jpg", "deeper/d.PNG", "e.jpeg"]
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == [str(folder / name) for name in names]
    first, second, count = done.stderr.splitlines()
    assert first.startswith(f"error: {folder / 'c.png'}: not a whole image")
    assert second.startswith(f"error: {folder / 'deeper/zero.jpg'}: not a whole image")
    assert count == "error: 2 of 6 files could not be read"


def test_lists(bundle: Path, image: Path, tmp_path: Path, sanitized: Infer) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{image}\n\n{tmp_path / 'missing.png'}\r\n{'x' * 300}\n{image}")
    for done in (sanitized(bundle, listed), sanitized(bundle, "-", input=listed.read_text())):
        assert done.returncode == 3
        assert done.stdout.count("red (0.") == 2
        said = done.stderr.splitlines()
        assert [line.split(": ")[2][:14] for line in said[:2]] == ["cannot be read"] * 2
        assert said[2:] == ["error: 2 of 4 files could not be read"]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_lists(bundle: Path, tmp_path: Path, sanitized: Infer, content: str) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(content)
    for done in (sanitized(bundle, listed), sanitized(bundle, "-", input=content)):
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "error: no image to predict on: the list is empty\n"


def test_controls_break_what_they_should() -> None:
    """The builders above make what they say: a valid graph is valid, and a header says its size."""
    onnx.checker.check_model(build_graph())
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(ODD_GRAPHS["missing input"][0])
    assert cv2.imdecode(np.frombuffer(jpeg(8, 8), np.uint8), cv2.IMREAD_COLOR).shape == (8, 8, 3)
