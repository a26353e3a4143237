"""A bundle with graphs in several precisions: the one that is asked for is opened, or the user learns what there is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import WEIGHT, build_graph

import slipway_runtime
from slipway_runtime import manifest
from slipway_runtime.__main__ import main
from slipway_runtime.errors import BundleError, UsageError


@pytest.fixture
def mixed(make_bundle: Callable[..., Path]) -> Path:
    """A bundle whose "int8" graph answers the other way round."""
    bundle = make_bundle()
    other = bundle.parent / "other"
    shutil.copytree(bundle, other)
    model = build_graph(np.ascontiguousarray(-WEIGHT), ("batch", 3, "height", "width"))
    (bundle / "model.int8.onnx").write_bytes(model.SerializeToString())
    described = manifest.read(bundle)
    files = {**described.files, "model.int8.onnx": manifest.sha256(bundle / "model.int8.onnx")}
    (bundle / manifest.FILE_NAME).write_text(described.model_copy(update={"files": files}).to_json())
    return bundle


def test_names() -> None:
    assert [manifest.graph_name(each) for each in manifest.PRECISIONS] == [
        "model.onnx",
        "model.fp16.onnx",
        "model.int8.onnx",
    ]
    with pytest.raises(UsageError, match="unknown precision 'int4', expected one of: fp32, fp16, int8"):
        manifest.graph_name("int4")


def test_the_graph_that_is_asked_for_is_opened(mixed: Path, colours: dict[str, Path]) -> None:
    first = slipway_runtime.load(mixed)(colours["red"])[0].names[0]
    assert slipway_runtime.load(mixed, precision="fp32")(colours["red"])[0].names[0] == first
    assert slipway_runtime.load(mixed, precision="int8")(colours["red"])[0].names[0] != first


def test_a_precision_that_is_not_there(
    mixed: Path, colours: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        BundleError, match=r"no graph in fp16; it has fp32, int8; make one with `make export-.* PRECISION=fp16`"
    ):
        slipway_runtime.load(mixed, precision="fp16")
    assert main([str(mixed), str(colours["red"]), "--precision", "fp16"]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert main([str(mixed), str(colours["red"]), "--precision", "int8"]) == 0


def test_an_altered_or_unlisted_graph_is_refused(mixed: Path) -> None:
    (mixed / "model.fp16.onnx").write_bytes((mixed / "model.onnx").read_bytes())
    with pytest.raises(BundleError, match="no graph in fp16"):
        slipway_runtime.load(mixed, precision="fp16")
    (mixed / "model.int8.onnx").write_bytes(b"altered")
    slipway_runtime.load(mixed)
    with pytest.raises(BundleError, match="content was altered"):
        slipway_runtime.load(mixed, precision="int8")


def test_a_bare_file_has_its_own(mixed: Path) -> None:
    with pytest.raises(UsageError, match="for a bundle's folder"):
        slipway_runtime.load(mixed / "model.onnx", precision="int8")
