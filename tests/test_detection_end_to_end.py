"""A folder of labelled photos through all rooms from the command line: a detector, its mAP, its detections."""

import json
from pathlib import Path

import pytest
from test_end_to_end import Run, one_line
from test_segmentation_end_to_end import labelme

TINY = Path(__file__).parent / "configs" / "det" / "tiny_scenes.py"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The tiny detector for a labelme folder."""
    path = tmp_path / "det" / "tiny_labelme.py"
    path.parent.mkdir()
    path.write_text(f"_base_ = ['{TINY}']\nsource = 'labelme'\n")
    return path


def test_a_labelme_folder_becomes_a_measured_detector(run_module: Run, tmp_path: Path, config: Path) -> None:
    work, origin = tmp_path / "work", labelme(tmp_path / "photos")
    trained = run_module("train", config, "--work", work, "--data", origin, "--device", "cpu", "--json")
    assert trained.returncode == 0, trained.stderr
    exported = run_module("deploy", "export", config, "--work", work, "--json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["parity"]["outputs"]["detections"]["matched"] > 100
    brief = ("--quick", "--set", "batch_sizes=[1]", "--set", "boundaries=[e2e]", "--json")
    measured = run_module("benchmarks", "run", config, "--work", work, *brief)
    assert measured.returncode == 0, measured.stderr
    first, second = json.loads(measured.stdout)["experiments"]["det/tiny_labelme"]["accuracy"]
    assert first["images"] == second["images"] == 6
    assert first["values"]["bbox_map_percent"] == pytest.approx(second["values"]["bbox_map_percent"], abs=0.05)
    photo = next((origin / "val").glob("*.png"))
    found = run_module("slipway_runtime", work / "det/tiny_labelme/bundle", photo, "--json", "--score", "0")
    assert found.returncode == 0, found.stderr
    detections = json.loads(found.stdout)["detections"]
    assert {each["name"] for each in detections} <= {"ball", "tent"}, "class names come from the annotation"
    assert detections[0]["score"] >= detections[-1]["score"]


def test_photos_without_an_object_are_refused(run_module: Run, tmp_path: Path, config: Path) -> None:
    origin = labelme(tmp_path / "photos")
    for path in origin.glob("val/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "shapes": []}))
    trained = run_module("train", config, "--work", tmp_path / "work", "--data", origin, "--device", "cpu")
    assert trained.returncode == 3, trained.stderr
    assert one_line(trained.stderr, "val", "no object"), trained.stderr
