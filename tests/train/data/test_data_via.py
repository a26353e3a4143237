"""VIA's files: the pixels of every region, its class, what is refused and what is reported."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from train.cli import run
from train.data import instances, prepare
from train.data.__main__ import main

Write = Callable[..., Path]
Refused = Callable[..., str]
TRIANGLE = {"name": "polygon", "all_points_x": [4, 12, 4], "all_points_y": [4, 4, 12]}


def region(drawn: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": drawn, "region_attributes": attributes}


@pytest.fixture
def marked(tmp_path: Path, photo: Write) -> Callable[..., Path]:
    """Write `pets/{train,val}/{a,b}.jpg`, 24×20, and VIA's file; image a of train has the given regions, val/a a triangle."""

    def write(*regions: dict[str, Any], version: int = 1, **attributes: Any) -> Path:
        root = tmp_path / "pets"
        for split in ("train", "val"):
            mine = list(regions) if split == "train" else [region(TRIANGLE, **attributes)]
            entries = {}
            for name in ("a.jpg", "b.jpg"):
                photo(root / split / name)
                shown = mine if name == "a.jpg" else []
                entries[f"{name}1234"] = {
                    "filename": name,
                    "size": 1234,
                    "regions": {str(i): each for i, each in enumerate(shown)} if version == 1 else shown,
                    "file_attributes": {},
                }
            content = {"_via_settings": {}, "_via_img_metadata": entries} if version == 3 else entries
            (root / split / "via_region_data.json").write_text(json.dumps(content))
        return root

    return write


def coco(root: Path, split: str = "train") -> COCO:
    return COCO(root / "annotations" / f"instances_{split}.json")


@pytest.mark.parametrize("version", [1, 2, 3], ids=["dict of regions", "list of regions", "saved project"])
def test_areas_are_pycocotools_and_empty_images_are_kept(
    marked: Callable[..., Path], tmp_path: Path, version: int
) -> None:
    made = prepare("via", tmp_path / "out", origin=marked(region(TRIANGLE), version=version))
    assert made.images == {"train": 2, "val": 2}
    assert made.classes == ("pets",), "without any attribute, the folder names the class"
    assert not made.findings
    (found,) = coco(made.root).anns.values()
    assert found["segmentation"] == [[4, 4, 12, 4, 4, 12]]
    assert found["area"] == coco_mask.area(coco_mask.frPyObjects(found["segmentation"], 20, 24))[0]
    assert found["bbox"] == coco_mask.toBbox(coco_mask.frPyObjects(found["segmentation"], 20, 24))[0].tolist()
    assert [len(labelled.instances) for _, labelled in instances.read_split(made.root, "train")] == [1, 0]


def test_each_shape_and_its_class(marked: Callable[..., Path], tmp_path: Path) -> None:
    origin = marked(
        region({"name": "rect", "x": 2, "y": 3, "width": 8, "height": 4}, kind="dog", fur="long"),
        region({"name": "circle", "cx": 12, "cy": 10, "r": 6}, kind="cat"),
        region({"name": "ellipse", "cx": 12, "cy": 10, "rx": 9, "ry": 4, "theta": 0.3}, kind="cat"),
        region({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}, kind="eel"),
        region({"name": "point", "cx": 3, "cy": 3}, kind="ant"),
        kind="cat",
    )
    message = run(main, ["via", "--from", str(origin), "--out", str(tmp_path / "out")])
    assert message == 3, "kind and fur: neither is called class"
    for path in origin.glob("*/*.json"):
        path.write_text(path.read_text().replace('"kind"', '"Class"'))
    made = prepare("via", tmp_path / "out", origin=origin)
    assert made.classes == ("cat", "dog"), "lines and points are no objects"
    assert len(made.findings["flat"]) == 2
    assert "train/via_region_data.json (train/a.jpg, region 4, linestrip)" in made.findings["flat"]
    areas = [each["area"] for each in coco(made.root).anns.values()]
    assert areas[0] == 32
    assert areas[1] == pytest.approx(math.pi * 36, rel=0.05)
    assert areas[2] == pytest.approx(math.pi * 36, rel=0.05)


def test_a_ticked_box_is_a_class(marked: Callable[..., Path], tmp_path: Path) -> None:
    origin = marked(region(TRIANGLE, type={"cat": True, "dog": False}), type={"dog": True})
    assert prepare("via", tmp_path / "out", origin=origin).classes == ("cat", "dog")


def test_a_list_gives_the_order(marked: Callable[..., Path], tmp_path: Path, refused: Refused) -> None:
    origin = marked(region(TRIANGLE, name="cat"), name="dog")
    (origin / "classes.txt").write_text("dog\ncat\nbird\n")
    made = prepare("via", tmp_path / "out", origin=origin)
    assert made.classes == ("dog", "cat", "bird")
    assert made.findings == {"unseen": ["dog", "bird"]}
    (origin / "classes.txt").write_text("dog\n")
    assert "lacks: 'cat' (a.jpg, region 1)" in refused("via", origin)


def test_one_file_for_all_is_split(marked: Callable[..., Path], photo: Write, tmp_path: Path) -> None:
    content = json.loads((marked(region(TRIANGLE)) / "train" / "via_region_data.json").read_text())
    origin = tmp_path / "balls"
    entry = content["a.jpg1234"]
    for i in range(10):
        photo(origin / f"{i}.jpg")
    (origin / "any.json").write_text(json.dumps({str(i): {**entry, "filename": f"{i}.jpg"} for i in range(10)}))
    (origin / "other.json").write_text('{"a": 1}')  # not of VIA
    photo(origin / "more.jpg")
    made = prepare("via", tmp_path / "out", origin=origin)
    assert made.images == {"train": 8, "val": 2}
    assert made.findings == {"ignored": ["more.jpg (in no VIA file)"]}


BAD: list[tuple[str, Any, str]] = [
    ("two points", {**TRIANGLE, "all_points_x": [1, 2], "all_points_y": [1, 2]}, "region 1: polygon of 2 points"),
    ("unequal", {**TRIANGLE, "all_points_x": [1, 2]}, "a.jpg, region 1: "),
    ("NaN", {**TRIANGLE, "all_points_x": [1, 2, math.nan]}, "region 1: a coordinate is no number below"),
    ("negative", {"name": "rect", "x": 1, "y": 1, "width": -3, "height": 2}, "rect of -3×2 pixels"),
    ("unknown", {"name": "spiral"}, "shape 'spiral' is not known"),
    ("nothing", {}, "region 1: no region of VIA"),
]


@pytest.mark.parametrize(("drawn", "told"), [(drawn, told) for _, drawn, told in BAD], ids=[name for name, _, _ in BAD])
def test_bad_regions_are_one_line_and_exit_3(
    marked: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: Any, told: str
) -> None:
    out = tmp_path / "out"
    assert run(main, ["via", "--from", str(marked(region(drawn))), "--out", str(out)]) == 3
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert "train/via_region_data.json: " in message
    assert told in message
    assert not out.exists()
    assert run(main, ["via", "--from", str(marked(region(TRIANGLE))), "--out", str(out)]) == 0


def test_regions_without_a_class_among_others(marked: Callable[..., Path], refused: Refused) -> None:
    origin = marked(region(TRIANGLE, name="cat"), region(TRIANGLE), name="dog")
    assert "train/via_region_data.json: a.jpg, region 2: 'name' is empty" in refused("via", origin)


def test_a_missing_image(marked: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    origin = marked(region(TRIANGLE))
    (origin / "train" / "b.jpg").unlink()
    assert "1 of 4 images are missing: b.jpg (train/via_region_data.json)" in refused("via", origin)
    made = prepare("via", tmp_path / "out", origin=origin, skip_bad=True)
    assert made.findings == {"missing": ["b.jpg (train/via_region_data.json)"]}


def test_what_is_no_via_set_is_told(marked: Callable[..., Path], class_folders: Path, refused: Refused) -> None:
    assert "no VIA file; expected via_region_data.json" in refused("via", class_folders)
    origin = marked(region(TRIANGLE))
    (origin / "train" / "copy.json").write_text((origin / "train" / "via_region_data.json").read_text())
    assert "a.jpg in train/copy.json and train/via_region_data.json" in refused("via", origin)
    (origin / "train" / "copy.json").write_text('{"project": {}, "config": {}, "attribute": {}, "metadata": {}}')
    assert "a project of VIA 3" in refused("via", origin)
    (origin / "train" / "copy.json").write_text("{")
    assert "train/copy.json: no readable JSON" in refused("via", origin)


def test_an_empty_set_is_refused(marked: Callable[..., Path], refused: Refused) -> None:
    assert "no object in train; nothing can be learned" in refused("via", marked())


def test_the_balloon_set(real_data: Path, tmp_path: Path) -> None:
    made = prepare("via", tmp_path / "out", origin=real_data / "balloon")
    assert made.classes == ("balloon",)
    assert made.images == {"train": 61, "val": 13}
    for split, count in (("train", 255), ("val", 50)):
        found = coco(made.root, split)
        assert len(found.anns) == count
        reference = {
            each["file_name"]: each
            for each in COCO(real_data / "balloon" / split / "annotation_coco.json").imgs.values()
        }
        for each in found.anns.values():
            image = found.imgs[each["image_id"]]
            rles = coco_mask.frPyObjects(each["segmentation"], image["height"], image["width"])
            assert each["area"] == coco_mask.area(coco_mask.merge(rles))
            assert (image["height"], image["width"]) == (
                reference[image["file_name"]]["height"],
                reference[image["file_name"]]["width"],
            )
