"""Annotation files and manifests that nobody would write."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as coco_mask

from train.data import coco_files, labelme_files, via_files
from train.errors import InputError

PROGRAM = Path(__file__).parents[1] / "fuzz" / "parsers.py"
SQUARE = [[4, 4], [12, 4], [12, 12], [4, 12]]
HUGE = 10**400


def coco(**annotation: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 9, "file_name": "a.png", "width": 24, "height": 20}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 3, "bbox": [4, 4, 8, 8], **annotation}],
        "categories": [{"id": 3, "name": "cat"}],
    }


def labelme(**shape: Any) -> dict[str, Any]:
    return {"imagePath": "a.png", "shapes": [{"label": "cat", "points": SQUARE, **shape}]}


def via(**region: Any) -> dict[str, Any]:
    drawn = {"name": "rect", "x": 2, "y": 3, "width": 8, "height": 4}
    return {"a": {"filename": "a.png", "regions": [{"shape_attributes": drawn, "region_attributes": {}, **region}]}}


def read_coco(path: Path) -> object:
    return coco_files.read_annotations(path, path.parent)


#: What the fuzzer found, each once a traceback or memory without end: parser, its own error, content, what is said.
FOUND: list[tuple[Callable[[Path], object], type[Exception], Any, str]] = [
    (read_coco, InputError, coco(category_id=[]), "category [] is not among"),
    (read_coco, InputError, coco(image_id={}), "image {} is not among"),
    (read_coco, InputError, coco(bbox=[HUGE, 0, 1, 1]), "expected four finite numbers"),
    (read_coco, InputError, coco(iscrowd=None), "iscrowd None, expected 0 or 1"),
    (read_coco, InputError, coco(segmentation=[[4, 4, 12, 4, 4, 1e300]]), "no number below 1e"),
    (read_coco, InputError, coco(segmentation={"size": [20, 24], "counts": "oooo"}), "do not fill 24×20 pixels"),
    (read_coco, InputError, coco(segmentation={"size": [20, 24], "counts": [0, 481]}), "do not fill 24×20 pixels"),
    (labelme_files.read_labelling, ValueError, labelme(shape_type=["x"]), "is not known"),
    (labelme_files.read_labelling, ValueError, labelme(points=[[HUGE, 0]] * 3), "no list of"),
    (via_files.read_via, ValueError, {"a": {"filename": "a.png", "regions": 0}}, "expected the regions"),
    (via_files.read_via, ValueError, via(region_attributes=[[0, 1]]), "its attributes are no object"),
    (
        via_files.read_via,
        ValueError,
        via(shape_attributes={"name": "circle", "cx": HUGE, "cy": 0, "r": 1}),
        "too large",
    ),
]


@pytest.mark.fault(
    row="fuzz-found",
    fault="values of another kind or size in annotation files (found by `make fuzz`)",
    sees="FILE: annotation 1: category [] is not among the file's categories (or what else is wrong)",
    code=3,
    intact="nothing is written",
)
@pytest.mark.parametrize(("read", "refusal", "content", "says"), FOUND, ids=range(len(FOUND)))
def test_what_the_fuzzer_found_is_refused(
    tmp_path: Path, read: Callable[[Path], object], refusal: type[Exception], content: Any, says: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(refusal) as caught:
        read(path)
    assert says in str(caught.value)


@pytest.mark.control(row="fuzz-found")
def test_control_pycocotools_measures_run_lengths_that_are_no_mask() -> None:
    assert coco_mask.area({"size": [20, 24], "counts": b"0Pg1"}) > 20 * 24, "more pixels than the image has"
    with pytest.raises(TypeError):
        {3: "cat"}[coco(category_id=[])["annotations"][0]["category_id"]]


def fuzz(target: str, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    pytest.importorskip("atheris")
    command = [sys.executable, str(PROGRAM), target, "-seed=1", f"-artifact_prefix={folder}/found-", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.fault(
    row="fuzz",
    fault="any file at all as manifest, COCO, VIA or labelme annotations (`make fuzz`, here a second each)",
    sees="what is wrong with it; never a traceback",
    code=3,
    intact="nothing is written",
)
@pytest.mark.parametrize("target", ["manifest", "coco", "via", "labelme"])
def test_the_fuzzer_finds_nothing(target: str, tmp_path: Path) -> None:
    done = fuzz(target, tmp_path, "-runs=300")
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list(tmp_path.iterdir())


@pytest.mark.control(row="fuzz")
def test_control_the_fuzzer_finds_a_planted_fault(tmp_path: Path) -> None:
    done = fuzz("planted", tmp_path, "-runs=5000")
    assert done.returncode not in (0, 4)
    assert "KeyError: 'imageHeight'" in done.stdout + done.stderr
    assert len(list(tmp_path.glob("found-crash-*"))) == 1
