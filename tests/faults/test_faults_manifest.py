"""Manifests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_runtime_manifest import change
from tiny_bundles import WEIGHT, build_graph, build_manifest, save, write_bundle

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.__main__ import main as predict
from slipway_runtime.preprocess import preprocess


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", build_graph(), build_manifest())


@pytest.fixture
def red(tmp_path: Path) -> str:
    return str(save(tmp_path / "red.png", np.full((40, 30, 3), (0, 0, 255), np.uint8)))


@pytest.fixture
def refused(bundle: Path, red: str, capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Predict with the bundle: it must end with code 3, one line that says this, and nothing predicted."""

    def run(says: str) -> None:
        assert predict([str(bundle), red]) == 3
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith(f"error: {bundle}")
        assert says in err

    return run


def names(bundle: Path, red: str, **options: Any) -> str:
    """What is predicted."""
    return slipway_runtime.load(bundle, **options)(red)[0].names[0]


@pytest.mark.fault(
    row="manifest-version",
    fault="a schema version that this runtime does not know, or none",
    sees="“schema_version 2, this runtime reads 1; export again or update slipway-runtime”",
    code=3,
    intact="nothing is predicted",
)
@pytest.mark.parametrize(
    ("version", "says"), [(2, "schema_version 2, this runtime reads 1"), (..., "schema_version None")]
)
def test_an_unknown_version(bundle: Path, refused: Callable[[str], None], version: Any, says: str) -> None:
    change(bundle, "schema_version", version)
    refused(says)


@pytest.mark.control(row="manifest-version")
def test_control_numbers_of_another_version_read_as_ours(bundle: Path, red: str) -> None:
    """Had version 2 its means in units of 0 to 1, the same file read as version 1 would give other scores."""
    (before,) = slipway_runtime.load(bundle)(red)
    change(bundle, "preprocess/2/mean", [0.5])
    change(bundle, "preprocess/2/std", [0.5])
    (after,) = slipway_runtime.load(bundle)(red)
    assert abs(before.scores[0] - after.scores[0]) > 0.05


@pytest.mark.fault(
    row="manifest-fields",
    fault="a field that is missing, or one too many",
    sees="“preprocess.2.normalize.reverse_channels: Field required”, “surprise: Extra inputs are not permitted”",
    code=3,
    intact="nothing is predicted",
)
@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("preprocess/2/reverse_channels", ..., "reverse_channels: Field required"),
        ("origin", ..., "origin: Field required"),
        ("surprise", 1, "surprise: Extra inputs are not permitted"),
        ("preprocess/1/keep_ration", True, "keep_ration: Extra inputs are not permitted"),
    ],
)
def test_fields_are_those_of_the_schema(
    bundle: Path, refused: Callable[[str], None], path: str, value: Any, says: str
) -> None:
    change(bundle, path, value)
    refused(says)


@pytest.mark.control(row="manifest-fields")
def test_control_a_default_in_its_place_sees_other_colours(bundle: Path, red: str) -> None:
    assert names(bundle, red) == "red"
    change(bundle, "preprocess/2/reverse_channels", False)
    assert names(bundle, red) == "blue"


@pytest.mark.control(row="manifest-fields")
def test_control_a_misspelt_field_would_be_dropped() -> None:
    class Lenient(m.Resize, extra="ignore"):
        pass

    assert not Lenient.model_validate({"op": "resize", "width": 8, "height": 8, "keep_ration": True}).keep_ratio


@pytest.mark.fault(
    row="manifest-hash",
    fault="a graph that is not the one the manifest names",
    sees="“content was altered (sha256 …, manifest says …); export again”",
    code=3,
    intact="nothing is predicted",
)
def test_another_graph(bundle: Path, refused: Callable[[str], None]) -> None:
    swap(bundle)
    refused("content was altered (sha256 ")


@pytest.mark.control(row="manifest-hash")
def test_control_unverified_it_predicts_something_else(bundle: Path, red: str) -> None:
    swap(bundle)
    assert names(bundle, red, verify=False) != "red"


def swap(bundle: Path) -> None:
    """Another training's graph under the old one's name."""
    (bundle / m.GRAPH_NAME).write_bytes(build_graph(np.ascontiguousarray(WEIGHT[:, ::-1])).SerializeToString())


@pytest.mark.fault(
    row="manifest-numbers",
    fault="NaN, infinity, or a number beyond float64, in a mean",
    sees="“not valid JSON (NaN is not a number); export again”, “Input should be a finite number”",
    code=3,
    intact="nothing is predicted",
)
@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("NaN", "NaN is not a number"),
        ("-Infinity", "-Infinity is not a number"),
        ("1e999", "should be a finite number"),
    ],
)
def test_no_number(bundle: Path, refused: Callable[[str], None], written: str, says: str) -> None:
    path = bundle / m.FILE_NAME
    path.write_text(path.read_text().replace("127.5", written, 1))
    refused(says)


@pytest.mark.control(row="manifest-numbers")
def test_control_python_reads_it_and_the_tensor_is_nan(bundle: Path, red: str) -> None:
    raw = json.loads((bundle / m.FILE_NAME).read_text().replace("127.5", "NaN", 1))["preprocess"][2]
    lenient = m.Normalize.model_construct(**{**raw, "mean": tuple(raw["mean"]), "std": tuple(raw["std"])})
    assert np.isnan(preprocess(red, (m.Decode(), lenient)).array).all()


@pytest.mark.fault(
    row="manifest-paths",
    fault="a file named by a path that leaves the bundle: ../x, /etc/x, engines/../../x",
    sees="“files.../secret.[key]: String should match pattern …; export again”",
    code=3,
    intact="nothing outside the bundle is read",
)
@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "engines/../../secret", "model.onnx\n"])
def test_paths_stay_inside(bundle: Path, refused: Callable[[str], None], path: str) -> None:
    change(bundle, "files", {path: "0" * 64})
    refused("String should match pattern")


@pytest.mark.control(row="manifest-paths")
def test_control_unrefused_it_is_read(bundle: Path) -> None:
    secret = bundle.parent / "secret"
    secret.write_text("of somebody else")
    outside = m.read(bundle).model_copy(update={"files": {"../secret": m.sha256(secret)}})
    m.check_files(bundle, outside)
