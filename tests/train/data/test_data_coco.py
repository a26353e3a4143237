"""COCO's layout: kept as it is, and every fault of it named."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from train.cli import run
from train.data import instances, prepare
from train.data.__main__ import main

Write = Callable[..., Path]
Contents = Callable[[Path], dict[str, bytes]]
SQUARE = [4, 4, 12, 4, 12, 12, 4, 12]
Coco = dict[str, list[dict[str, Any]]]


def annotation(number: int, image: int, category: int = 3, **more: Any) -> dict[str, Any]:
    """An object of 8×8 pixels."""
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [4, 4, 8, 8],
        "area": 64.5,
        "iscrowd": 0,
        "segmentation": [SQUARE],
        **more,
    }


@pytest.fixture
def shots(tmp_path: Path, photo: Write) -> Callable[..., Path]:
    """Write `shots/{train,val}2017/*.jpg`, 24×20, and annotation files with gaps in all numbers; returns `shots`."""

    def write(change: Callable[[dict[str, Coco]], Any] | None = None) -> Path:
        root = tmp_path / "shots"
        content: dict[str, Coco] = {}
        for split in ("train", "val"):
            images = []
            for number in (9, 25, 30):
                path = photo(root / f"{split}2017" / f"{number:012d}.jpg")
                images.append({"id": number, "file_name": path.name, "width": 24, "height": 20})
            content[split] = {
                "images": images,
                "annotations": [annotation(70, 9), annotation(7, 25, 90, iscrowd=1)],
                "categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}],
            }
        if change:
            change(content)
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        for split, each in content.items():
            (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(each))
        return root

    return write


def coco(root: Path, split: str) -> COCO:
    return COCO(root / "annotations" / f"instances_{split}.json")


def test_numbers_areas_and_images_without_objects_are_kept(shots: Callable[..., Path], tmp_path: Path) -> None:
    made = prepare("coco", tmp_path / "out", origin=shots())
    assert made.images == {"train": 3, "val": 3}
    assert made.classes == ("cat", "dog")
    assert not made.findings
    for split in ("train", "val"):
        found, origin = coco(made.root, split), COCO(shots() / "annotations" / f"instances_{split}2017.json")
        assert found.cats == origin.cats
        assert found.anns == origin.anns
        assert [each["id"] for each in found.imgs.values()] == [9, 25, 30]
        assert all((made.root / split / each["file_name"]).is_file() for each in found.imgs.values())
    assert [each.name for each in instances.read_classes(made.root)] == ["cat", "dog"]
    first, _, third = instances.read_split(made.root, "val")
    assert [(each.label, each.area, each.bbox) for each in first[1].instances] == [(1, 64.5, (4, 4, 8, 8))]
    assert (third[1].height, third[1].width, third[1].instances) == (20, 24, ())


def test_boxes_without_masks_get_their_area(shots: Callable[..., Path], tmp_path: Path) -> None:
    def bare(content: dict[str, Coco]) -> None:
        for each in content["val"]["annotations"]:
            del each["segmentation"], each["area"]

    made = prepare("coco", tmp_path / "out", origin=shots(bare))
    (each,) = instances.read_split(made.root, "val")[0][1].instances
    assert (each.area, each.segmentation) == (64, None)


def test_an_area_that_is_not_stated_is_the_masks(shots: Callable[..., Path], tmp_path: Path) -> None:
    triangle = [[4, 4, 12, 4, 4, 12]]
    uncompressed = {"size": [20, 24], "counts": [0, 30, 450]}

    def unstated(content: dict[str, Coco]) -> None:
        for each, segmentation in zip(content["val"]["annotations"], (triangle, uncompressed), strict=True):
            del each["area"]
            each["segmentation"] = segmentation

    made = prepare("coco", tmp_path / "out", origin=shots(unstated))
    found = [labelled.instances[0] for _, labelled in instances.read_split(made.root, "val")[:2]]
    assert found[0].area == coco_mask.area(coco_mask.frPyObjects(triangle, 20, 24))[0]
    assert found[1].area == 30
    assert found[1].segmentation == uncompressed


@pytest.mark.parametrize("layout", ["beside", "one"])
def test_other_layouts(shots: Callable[..., Path], tmp_path: Path, layout: str) -> None:
    def every(content: dict[str, Coco]) -> None:
        content["train"]["annotations"].append(annotation(71, 30))  # whichever image is drawn for val has an object

    root = shots(every)
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}2017.json"
        if layout == "beside":
            file.rename(root / f"{split}2017" / "annotation_coco.json")
            (root / f"{split}2017" / "via_region_data.json").write_text("{}")
        elif split == "val":
            file.unlink()
        else:
            file.rename(root / "annotations" / "trainval.json")
            (root / "train2017").rename(root / "images")
    made = prepare("coco", tmp_path / "out", origin=root, seed=1)
    assert sum(made.images.values()) == (6 if layout == "beside" else 3)


def test_the_prepared_set_is_a_coco_folder_itself(shots: Callable[..., Path], tmp_path: Path) -> None:
    once = prepare("coco", tmp_path / "once", origin=shots())
    twice = prepare("coco", tmp_path / "twice", origin=once.root)
    assert coco(once.root, "val").dataset == coco(twice.root, "val").dataset


def test_a_box_beyond_its_image_is_cut_and_reported(shots: Callable[..., Path], tmp_path: Path) -> None:
    def beyond(content: dict[str, Coco]) -> None:
        first, second = content["train"]["annotations"]
        first["bbox"] = [20, -5, 10, 10]
        second["bbox"] = [30, 2, 4, 4]  # nothing of it is inside
        content["val"]["annotations"][0]["bbox"] = [0, 0, 24.9, 20]  # rounded: stays

    made = prepare("coco", tmp_path / "out", origin=shots(beyond))
    where = "annotations/instances_train2017.json (train2017/0000000000"
    assert made.findings == {
        "outside": [f"{where}09.jpg, annotation 70)", f"{where}25.jpg, annotation 7)"],
        "flat": [f"{where}25.jpg, annotation 7)"],
        "unseen": ["cat"],
    }
    assert [each["bbox"] for each in coco(made.root, "train").anns.values()] == [[20, 0, 4, 5]]
    assert coco(made.root, "val").anns[70]["bbox"] == [0, 0, 24.9, 20]


def change(split: str, part: str, index: int, **values: Any) -> Callable[[dict[str, Coco]], None]:
    def apply(content: dict[str, Coco]) -> None:
        content[split][part][index].update(values)

    return apply


def emptied(part: str) -> Callable[[dict[str, Coco]], None]:
    return lambda content: content["val"][part].clear()


BAD: list[tuple[str, Callable[[dict[str, Coco]], Any], str]] = [
    ("image gone", change("val", "annotations", 0, image_id=4), "annotation 70: image 4 is not among"),
    ("unknown category", change("val", "annotations", 0, category_id=4), "annotation 70: category 4 is not among"),
    ("annotation twice", change("val", "annotations", 1, id=70), "annotation id 70 is there 2 times"),
    ("image twice", change("val", "images", 1, id=9), "image id 9 is there 2 times"),
    ("category twice", change("val", "categories", 1, id=90), "category id 90 is there 2 times"),
    ("name twice", change("val", "categories", 1, name="cat"), "2 categories are called 'cat'"),
    ("no id", change("val", "annotations", 0, id=None), "annotation id None is no whole number"),
    ("NaN box", change("val", "annotations", 0, bbox=[1, math.nan, 2, 2]), "annotation 70: bbox [1, nan, 2, 2]"),
    ("endless box", change("val", "annotations", 0, bbox=[1, 1, math.inf, 2]), "four finite numbers"),
    ("negative box", change("val", "annotations", 0, bbox=[1, 1, -2, 2]), "has a negative size"),
    ("three numbers", change("val", "annotations", 0, bbox=[1, 1, 2]), "four finite numbers"),
    ("line", change("val", "annotations", 0, segmentation=[[1, 1, 5, 5]]), "annotation 70: a polygon of 2 points"),
    ("odd polygon", change("val", "annotations", 0, segmentation=[[1, 1, 5, 5, 3, 9, 2]]), "no list of finite numbers"),
    (
        "runs",
        change("val", "annotations", 0, segmentation={"size": [9, 9], "counts": "x"}),
        "run lengths of 9×9 pixels",
    ),
    ("area", change("val", "annotations", 0, area=math.nan), "annotation 70: area nan"),
    (
        "size",
        change("val", "images", 0, width=20, height=24),
        "9.jpg is 24×20, annotations/instances_val2017.json says 20×24",
    ),
    (
        "missing file",
        change("val", "images", 0, file_name="gone.jpg"),
        "gone.jpg (image 9 of annotations/instances_val",
    ),
    ("no annotations", emptied("annotations"), "'annotations' is empty"),
    ("no images", emptied("images"), "'images' is empty"),
    ("no categories", emptied("categories"), "'categories' is empty"),
    (
        "renamed class",
        change("val", "categories", 1, name="wolf"),
        "category 3 is 'dog' in annotations/instances_train2017.json",
    ),
    (
        "dropped class",
        lambda content: content["train"]["categories"].append({"id": 5, "name": "bird"}),
        "category 5 is 'bird'",
    ),
]


@pytest.mark.parametrize(("fault", "told"), [(fault, told) for _, fault, told in BAD], ids=[name for name, _, _ in BAD])
def test_bad_annotations_are_one_line_and_exit_3(
    shots: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Any, told: str
) -> None:
    origin, out = shots(fault), tmp_path / "out"
    assert run(main, ["coco", "--from", str(origin), "--out", str(out)]) == 3
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert told in message
    assert not out.exists()
    shots()  # control: the same folder without the fault
    assert run(main, ["coco", "--from", str(origin), "--out", str(out)]) == 0


def test_several_faults_are_counted(shots: Callable[..., Path], tmp_path: Path, refused: Callable[..., str]) -> None:
    def two(content: dict[str, Coco]) -> None:
        content["val"]["annotations"][0]["bbox"] = [1, 1, -2, 2]
        content["val"]["annotations"][1]["image_id"] = 4

    message = refused("coco", shots(two))
    assert "instances_val2017.json: 2 faults: " in message


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("annotations/instances_val2017.json", "{", "no readable JSON"),
        ("annotations/instances_val2017.json", "[]", "expected an object with images"),
        (
            "annotations/instances_val2017.json",
            '{"images": {}, "annotations": [], "categories": []}',
            "no list of objects",
        ),
    ],
)
def test_a_file_of_something_else(
    shots: Callable[..., Path], refused: Callable[..., str], path: str, text: str, told: str
) -> None:
    root = shots()
    (root / path).write_text(text)
    assert told in refused("coco", root)


def test_a_folder_of_another_layout_says_what_was_expected(
    shots: Callable[..., Path], refused: Callable[..., str]
) -> None:
    root = shots()
    (root / "annotations" / "instances_val2017.json").rename(root / "annotations" / "val_more.json")
    prepared = root / "annotations" / "val_other.json"
    prepared.write_text((root / "annotations" / "val_more.json").read_text())
    assert "2 annotation files for val: val_more.json, val_other.json; keep one" in refused("coco", root)
    prepared.unlink()
    (root / "annotations" / "val_more.json").unlink()
    message = refused("coco", root)
    assert "no COCO annotations for val" in message
    assert "found annotations/instances_train2017.json" in message


def test_skip_bad_leaves_bad_images_out(
    shots: Callable[..., Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    root = shots()
    (root / "val2017" / f"{9:012d}.jpg").write_bytes(b"no image")
    (root / "train2017" / f"{30:012d}.jpg").unlink()
    assert "1 of 6 images are missing: 000000000030.jpg (image 30 of annotations/instances_train2017" in refused(
        "coco", root
    )
    made = prepare("coco", tmp_path / "out", origin=root, skip_bad=True)
    assert made.images == {"train": 2, "val": 2}
    assert len(made.findings["missing"]) == len(made.findings["unreadable"]) == 1
    assert 9 not in coco(made.root, "val").imgs


def test_the_same_image_in_both_splits_is_told(shots: Callable[..., Path], tmp_path: Path) -> None:
    root = shots()
    names = [root / f"{split}2017" / f"{30:012d}.jpg" for split in ("train", "val")]
    names[1].write_bytes(names[0].read_bytes())
    made = prepare("coco", tmp_path / "out", origin=root)
    assert made.findings["leaks"] == [f"train2017/{30:012d}.jpg = val2017/{30:012d}.jpg"]


def test_an_image_outside_the_folder_is_not_taken(
    shots: Callable[..., Path], photo: Write, refused: Callable[..., str]
) -> None:
    root = shots(change("val", "images", 0, file_name="../../secret.jpg"))
    photo(root.parent / "secret.jpg")
    assert "images are missing: ../../secret.jpg" in refused("coco", root)


def test_objects_are_drawn_on_the_sheet(shots: Callable[..., Path], tmp_path: Path) -> None:
    import numpy as np

    from train.data.look import sheet

    def bigger(content: dict[str, Coco]) -> None:
        content["val"]["images"].pop()

    made = prepare("coco", tmp_path / "out", origin=shots(bigger))
    image, total = sheet(made.root, "val", 4)
    assert total == 2
    dog = instances.read_classes(made.root)[1].color
    assert (np.asarray(image) == dog).all(axis=-1).any()


def test_the_balloon_set_keeps_its_areas(real_data: Path, tmp_path: Path) -> None:
    made = prepare("coco", tmp_path / "out", origin=real_data / "balloon")
    assert made.images == {"train": 61, "val": 13}
    for split, count in (("train", 255), ("val", 50)):
        before = COCO(real_data / "balloon" / split / "annotation_coco.json")
        after = coco(made.root, split)
        assert len(after.anns) == count
        assert after.anns == before.anns
        assert after.cats == before.cats == {0: {"id": 0, "name": "balloon"}}


def test_the_small_coco_has_all_eighty_classes(real_data: Path, tmp_path: Path) -> None:
    made = prepare("coco", tmp_path / "out", origin=real_data / "coco_mini")
    assert len(made.classes) == 80
    assert "boxes" not in str(made.findings)
    assert Image.open(instances.read_split(made.root, "val")[0][0]).size == (640, 426)
