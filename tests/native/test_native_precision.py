"""`--precision`: which of a bundle's graphs `ort_infer` opens, and what it says where there is none."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import add_graph
from tiny_bundles import WEIGHT, build_graph, build_manifest, save, write_bundle

from slipway_runtime import manifest as m

Infer = Callable[..., "subprocess.CompletedProcess[str]"]
#: The manifest's name of a graph → what it calls a red image.
ANSWERS = {"fp32": "red", "int8": "green"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Its int8 graph has the classes of red and green the other way round, so that an answer shows which graph was run."""
    folder = write_bundle(tmp_path / "bundle", build_graph(), build_manifest())
    add_graph(folder, "model.int8.onnx", build_graph(WEIGHT[:, [0, 2, 1, 3]]))
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "red.png", np.full((40, 30, 3), (0, 0, 255), np.uint8))


def best(done: "subprocess.CompletedProcess[str]") -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return str(json.loads(done.stdout)["top"][0]["name"])


@pytest.mark.parametrize("precision", ANSWERS)
def test_the_graph_that_is_asked_for_is_run(bundle: Path, image: Path, sanitized: Infer, precision: str) -> None:
    assert best(sanitized(bundle, image, "--json", "--precision", precision)) == ANSWERS[precision]


def test_fp32_is_the_default(bundle: Path, image: Path, sanitized: Infer) -> None:
    assert best(sanitized(bundle, image, "--json")) == ANSWERS["fp32"]


def test_the_cache_keeps_each_precision(bundle: Path, image: Path, tmp_path: Path, sanitized: Infer) -> None:
    for _ in range(2):
        for precision, expected in ANSWERS.items():
            done = sanitized(bundle, image, "--json", "--precision", precision, "--cache", tmp_path / "cache")
            assert best(done) == expected
    assert len(list((tmp_path / "cache").glob("*.onnx"))) == 2


def refused(done: "subprocess.CompletedProcess[str]", code: int = 3) -> str:
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_precision_that_the_bundle_lacks(bundle: Path, image: Path, sanitized: Infer) -> None:
    said = refused(sanitized(bundle, image, "--precision", "fp16"))
    assert said == (
        f"error: {bundle}: no graph in fp16, this bundle has fp32, int8; make it with `make export-… PRECISION=fp16`\n"
    )


def test_a_graph_that_the_manifest_does_not_name_is_none(bundle: Path, image: Path, sanitized: Infer) -> None:
    (bundle / "model.fp16.onnx").write_bytes((bundle / m.GRAPH_NAME).read_bytes())
    assert "no graph in fp16" in refused(sanitized(bundle, image, "--precision", "fp16"))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda graph: graph.write_bytes(graph.read_bytes() + b" "), "model.int8.onnx: content was altered"),
        (lambda graph: graph.unlink(), "model.int8.onnx: cannot be read, though the manifest names it"),
        (
            lambda graph: add_graph(graph.parent, f"{graph.name}.data", onnx.ModelProto()).unlink(),
            "model.int8.onnx.data: cannot be read",
        ),
        (
            lambda graph: add_graph(graph.parent, graph.name, build_graph(shape=("batch", 3, 16, 16))),
            "the manifest's inputs are",
        ),
    ],
    ids=["altered", "missing", "external data", "other inputs"],
)
def test_a_broken_graph_is_refused_where_it_is_asked_for(
    bundle: Path, image: Path, sanitized: Infer, break_it: Callable[[Path], object], says: str
) -> None:
    break_it(bundle / "model.int8.onnx")
    assert says in refused(sanitized(bundle, image, "--precision", "int8"))
    # The control: the other graph is whole.
    assert best(sanitized(bundle, image, "--json")) == "red"


def test_a_bare_graph_has_one_precision(bundle: Path, image: Path, sanitized: Infer) -> None:
    said = refused(sanitized(bundle / m.GRAPH_NAME, image, "--precision", "int8"), 2)
    assert "--precision chooses among a bundle's graphs" in said
    assert best(sanitized(bundle / m.GRAPH_NAME, image, "--json")) == "red"


def test_an_unknown_precision(bundle: Path, image: Path, sanitized: Infer) -> None:
    done = sanitized(bundle, image, "--precision", "int4")
    assert (done.returncode, done.stdout) == (2, "")
    assert "int4" in done.stderr
