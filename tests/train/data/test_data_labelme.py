"""labelme files: the pixels of every shape, the instances, what is refused and what is reported."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from train.data import Prepared, label_maps, load, prepare
from train.data.shapes import Shape, cover, outline

Write = Callable[..., Path]
Refused = Callable[..., str]
SQUARE = [[4, 4], [12, 4], [12, 12], [4, 12]]


def shape(label: str, points: list[list[float]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


@pytest.fixture
def labelled(tmp_path: Path, photo: Write) -> Callable[..., Path]:
    """Write `shots/NAME.jpg` (24×20) and its labelme file with the given shapes; returns `shots`."""

    def write(name: str, *shapes: dict[str, Any], **more: Any) -> Path:
        path = tmp_path / "shots" / f"{name}.json"
        image = photo(path.with_suffix(".jpg"))
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image.name, "imageData": None}
        path.write_text(json.dumps({**content, "imageHeight": 20, "imageWidth": 24, **more}))
        return tmp_path / "shots"

    return write


@pytest.fixture
def pair(labelled: Callable[..., Path], tmp_path: Path) -> Callable[..., Prepared]:
    """Prepare two images: `train/a` with the given shapes and `val/b` with a square of class `cat`."""

    def write(*shapes: dict[str, Any], **more: Any) -> Prepared:
        labelled("train/a", *shapes, **more)
        origin = labelled("val/b", shape("cat", SQUARE))
        return prepare("labelme", tmp_path / "out", origin=origin)

    return write


def label_map(made: Prepared) -> np.ndarray:
    return label_maps.load(made.root / "labels" / "train" / "a.png")


def coco(made: Prepared, split: str = "train") -> COCO:
    return COCO(made.root / "annotations" / f"instances_{split}.json")


def pixels(kind: str, points: list[list[float]], size: tuple[int, int] = (20, 24)) -> np.ndarray:
    from pycocotools import mask as coco_mask

    return coco_mask.decode(cover(Shape(1, "x", kind, tuple((x, y) for x, y in points)), *size)).astype(bool)


def test_a_polygon_covers_the_pixels_whose_middle_it_holds() -> None:
    for points in (SQUARE, [[4.4, 3.6], [12.4, 3.6], [12.4, 11.6], [4.4, 11.6]]):
        assert np.array_equal(np.argwhere(pixels("polygon", points)), np.argwhere(np.pad(np.ones((8, 8)), (4, 0))))
    triangle = [[2, 2], [90, 10], [30, 70]]
    y, x = np.mgrid[:80, :100] + 0.5
    edges = [(triangle[i], triangle[(i + 1) % 3]) for i in range(3)]
    inside = np.all([(b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) > 0 for a, b in edges], axis=0)
    found = pixels("polygon", triangle, (80, 100))
    assert (found != inside).sum() < 0.02 * inside.sum()


def test_a_rectangle_by_any_two_corners() -> None:
    expected = pixels("polygon", SQUARE)
    for corners in ([[4, 4], [12, 12]], [[12, 12], [4, 4]], [[12, 4], [4, 12]]):
        assert np.array_equal(pixels("rectangle", corners), expected)


def test_a_circle_by_its_middle_and_its_edge() -> None:
    disc = pixels("circle", [[50, 40], [80, 40]], (80, 100))
    assert disc.sum() == pytest.approx(np.pi * 30**2, rel=0.005)
    assert disc[40, 20:80].all()
    assert not disc[40, [19, 80]].any()
    assert np.array_equal(disc, disc[:, ::-1])


def test_a_shape_is_cut_at_the_border() -> None:
    beyond = [[-10.0, 5.0], [30.0, 5.0], [30.0, 40.0], [-10.0, 40.0]]
    flat = outline(Shape(1, "x", "polygon", tuple((x, y) for x, y in beyond)), 20, 24)
    assert sorted(zip(flat[::2], flat[1::2], strict=True)) == [(0, 5), (0, 20), (24, 5), (24, 20)]
    assert np.array_equal(pixels("polygon", beyond), np.pad(np.ones((15, 24)), ((5, 0), (0, 0))))
    for outside in ([[-9, -9], [-1, -9], [-1, -1]], [[24, 20], [40, 20], [40, 60]]):
        assert not pixels("polygon", outside).any()
    assert pixels("circle", [[0, 0], [5, 0]]).sum() == pixels("circle", [[10, 10], [15, 10]]).sum() / 4


def test_label_map_and_instances(pair: Callable[..., Prepared]) -> None:
    made = pair(
        shape("dog", [[0, 0], [24, 0], [24, 10], [0, 10]]),
        shape("cat", [[2, 2], [8, 8]], "rectangle"),
        shape("__ignore__", [[20, 0], [24, 20]], "rectangle"),
        shape("_background_", [[0, 0], [2, 2]], "rectangle"),
    )
    assert [each.name for each in label_maps.read_classes(made.root)] == ["_background_", "cat", "dog"]
    assert made.classes == ("cat", "dog")
    expected = np.zeros((20, 24), int)
    expected[:10] = 2
    expected[2:8, 2:8] = 1
    expected[:, 20:] = 255
    expected[:2, :2] = 0
    assert np.array_equal(label_map(made), expected)
    found = coco(made)
    assert found.dataset["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert found.dataset["images"] == [{"id": 1, "file_name": "a.jpg", "width": 24, "height": 20}]
    dog, cat = found.dataset["annotations"]
    assert (dog["category_id"], dog["area"], dog["bbox"], dog["iscrowd"]) == (2, 240, [0, 0, 24, 10], 0)
    assert dog["segmentation"] == [[0, 0, 24, 0, 24, 10, 0, 10]]
    assert (cat["id"], cat["category_id"], cat["area"], cat["bbox"]) == (2, 1, 36, [2, 2, 6, 6])
    assert found.annToMask(cat).sum() == 36
    assert json.loads((made.root / "dataset.json").read_text())["labels"] == {
        "train": {"cat": 1, "dog": 1},
        "val": {"cat": 1},
    }


def test_a_group_is_one_instance(pair: Callable[..., Prepared]) -> None:
    halves = ([[2, 2], [6, 2], [6, 6], [2, 6]], [[10, 10], [14, 10], [14, 14], [10, 14]])
    made = pair(
        *(shape("cat", half, group_id=7) for half in halves),
        shape("dog", halves[1], group_id=7),
        shape("cat", [[20, 10], [22, 10]], "circle", group_id=8),
        shape("cat", [[16, 10], [17, 10]], "circle", group_id=8),
    )
    cat, dog, circles = coco(made).dataset["annotations"]
    assert (cat["area"], cat["bbox"], len(cat["segmentation"])) == (32, [2, 2, 12, 12], 2)
    assert (dog["category_id"], dog["area"]) == (2, 16)
    assert isinstance(circles["segmentation"], dict)
    assert coco(made).annToMask(circles).sum() == circles["area"] == 16
    assert set(np.unique(label_map(made)[10:14, 10:14])) == {2}


def test_labelmes_own_masks(pair: Callable[..., Prepared]) -> None:
    ring = np.pad(np.zeros((2, 3), bool), 1, constant_values=True)
    buffer = io.BytesIO()
    Image.fromarray(ring).save(buffer, format="png")
    made = pair(shape("dog", [[5, 7], [9, 10]], "mask", mask=base64.b64encode(buffer.getvalue()).decode()))
    expected = np.zeros((20, 24), int)
    expected[7:11, 5:10][ring] = 2
    assert np.array_equal(label_map(made), expected)
    assert coco(made).dataset["annotations"][0]["area"] == ring.sum()


@pytest.mark.parametrize("name", ["labels.txt", "classes.txt"])
def test_listed_classes_keep_their_order(name: str, pair: Callable[..., Prepared], tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / name).write_text("__ignore__\n_background_\nowl\ndog\ncat\n")
    made = pair(shape("dog", SQUARE))
    assert [each.name for each in label_maps.read_classes(made.root)] == ["_background_", "owl", "dog", "cat"]
    assert label_map(made).max() == 2
    assert made.findings == {"absent": ["owl", "cat"]}
    assert coco(made).dataset["annotations"][0]["category_id"] == 2


def test_listed_colours(pair: Callable[..., Prepared], tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "classes.txt").write_text("cat 9 8 7\ndog 6 5 4\n")
    classes = label_maps.read_classes(pair(shape("dog", SQUARE)).root)
    assert [(each.name, each.color) for each in classes] == [
        ("_background_", (0, 0, 0)),
        ("cat", (9, 8, 7)),
        ("dog", (6, 5, 4)),
    ]


def test_a_class_that_the_list_lacks(labelled: Callable[..., Path], refused: Refused) -> None:
    for name in ("a", "b"):
        origin = labelled(name, shape("cat", SQUARE), shape("cta", SQUARE))
    (origin / "labels.txt").write_text("cat\n")
    assert "shapes of classes that its list lacks: 'cta' (a.json, b.json); rename them" in refused("labelme", origin)


def test_what_has_no_area_or_lies_outside_is_reported(pair: Callable[..., Prepared]) -> None:
    made = pair(
        shape("cat", [[12, 4], [40, 4], [40, 8]]),
        shape("edge", [[1, 1]], "point"),
        shape("edge", [[1, 1], [5, 5]], "line"),
        shape("edge", [[1, 1], [5, 5], [9, 1]], "linestrip"),
        shape("dog", [[5, 5], [5, 5], [5, 5]]),
        shape("dog", [[0, -0.4], [24.3, 20]], "rectangle"),
    )
    assert made.findings["outside"] == ["train/a.json (shape 1, polygon 'cat')"]
    assert [line.split("(")[1] for line in made.findings["flat"]] == [
        "shape 2, point 'edge')",
        "shape 3, line 'edge')",
        "shape 4, linestrip 'edge')",
        "shape 5, polygon 'dog')",
    ]
    assert made.classes == ("cat", "dog")
    assert [a["category_id"] for a in coco(made).dataset["annotations"]] == [1, 2]
    assert "ignored" not in made.findings


def test_images_within_the_files_and_elsewhere(
    labelled: Callable[..., Path], photo: Write, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    origin = labelled("val/b", shape("cat", SQUARE), imagePath="C:\\shots\\b.jpg")
    image = photo(tmp_path / "elsewhere" / "a.png")
    embedded = base64.b64encode(image.read_bytes()).decode()
    labelled("train/a", shape("cat", SQUARE), imageData=embedded)
    (origin / "train" / "a.jpg").unlink()
    labelled("train/c", shape("cat", SQUARE), imagePath="../photos/c.jpg")
    (origin / "photos").mkdir()
    (origin / "train" / "c.jpg").rename(origin / "photos" / "c.jpg")
    photo(origin / "photos" / "later.jpg")
    (origin / "notes.json").write_text('{"note": "no labelme file"}')
    made = prepare("labelme", tmp_path / "out", origin=origin)
    assert made.images == {"train": 2, "val": 1}
    assert sorted(path.name for path in (made.root / "train").iterdir()) == ["a.png", "c.jpg"]
    assert (made.root / "train" / "a.png").read_bytes() == image.read_bytes()
    assert made.findings == {"ignored": ["photos/later.jpg (no labelme file)"]}
    again = prepare("labelme", tmp_path / "again", origin=origin)
    assert contents(again.root) == contents(made.root)


def test_an_image_outside_the_folder_is_not_taken(
    labelled: Callable[..., Path], photo: Write, refused: Refused
) -> None:
    origin = labelled("a", shape("cat", SQUARE), imagePath="../secret.jpg")
    photo(origin.parent / "secret.jpg")
    (origin / "a.jpg").unlink()
    assert "a.json: its image '../secret.jpg' is not there, and none is embedded" in refused("labelme", origin)


def test_a_folder_that_is_not_split(labelled: Callable[..., Path], tmp_path: Path) -> None:
    for i in range(10):
        origin = labelled(f"{i}", shape("cat", SQUARE), shape("dog", [[0, 0], [3, 3]], "rectangle"))
    made = prepare("labelme", tmp_path / "out", origin=origin)
    assert made.images == {"train": 8, "val": 2}
    assert len(coco(made, "val").dataset["images"]) == 2
    train = prepare("masks", tmp_path / "again", origin=made.root)
    assert (train.images, train.classes) == (made.images, ("_background_", "cat", "dog"))
    assert load(made.root).source == "labelme"


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (shape("cat", [[1, 1], [5, 5]]), "shape 2: polygon 'cat' has 2 points; it needs 3"),
        (shape("cat", [[1, 1]], "rectangle"), "shape 2: rectangle 'cat' has 1 points; it needs 2"),
        (shape("cat", [[1, 1], [2, 2], [3, 3]], "circle"), "shape 2: circle 'cat' has 3 points; it needs 2"),
        (shape("cat", [[1, 1], [5, 5], [float("nan"), 0]]), "shape 2: a coordinate is no number below 1e"),
        (shape("cat", [[1, 1], [5, 5], [1e300, 0]]), "shape 2: a coordinate is no number below 1e"),
        (shape("cat", [[1, 1], [5, 5], "x"]), "shape 2: its points are no list of"),
        (shape("cat", SQUARE, "cuboid"), "shape 2: type 'cuboid' is not known; expected one of polygon, rectangle"),
        (shape("cat", SQUARE, group_id="left"), "shape 2: group_id 'left' is no number"),
        (shape("cat", [[0, 0], [3, 3]], "mask", mask="x"), "shape 2: its mask is no readable image"),
        (shape(" ", SQUARE), "shape 2: has no label"),
        ("cat", "shape 2: has no label"),
    ],
)
def test_bad_shapes(bad: Any, expected: str, labelled: Callable[..., Path], refused: Refused) -> None:
    labelled("a", shape("cat", SQUARE), bad)
    origin = labelled("b", shape("cat", SQUARE))
    assert f"1 of 2 labelme files are wrong: a.json: {expected}" in refused("labelme", origin)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"shapes": {}}, "expected 'shapes' to be a list and 'imagePath' a text"),
        ({"imagePath": "gone.jpg"}, "its image 'gone.jpg' is not there, and none is embedded"),
        ({"imagePath": "gone.jpg", "imageData": "AAAA"}, "its embedded image cannot be read"),
        ({"imageHeight": 40}, r"drawn on an image of 24×40 pixels, its image has 24×20\); restore the image"),
    ],
)
def test_bad_files(more: dict[str, Any], expected: str, labelled: Callable[..., Path], refused: Refused) -> None:
    labelled("train/a", shape("cat", SQUARE))
    origin = labelled("val/b", shape("cat", SQUARE), **more)
    message = refused("labelme", origin)
    assert "1 of 2" in message
    assert re.search(rf"val/b\.json.*{expected}", message)


def test_json_that_is_cut_off(labelled: Callable[..., Path], refused: Refused) -> None:
    origin = labelled("a", shape("cat", SQUARE))
    (origin / "a.json").write_text('{"shapes": [')
    assert "a.json: no readable JSON" in refused("labelme", origin)


def test_two_files_for_one_image(labelled: Callable[..., Path], refused: Refused) -> None:
    labelled("a", shape("cat", SQUARE))
    origin = labelled("b", shape("cat", SQUARE), imagePath="a.jpg")
    assert "a.json and b.json both label a.jpg; remove one" in refused("labelme", origin)


def test_nothing_labelled(labelled: Callable[..., Path], refused: Refused) -> None:
    origin = labelled("a", shape("cat", [[1, 1]], "point"))
    assert "no shape with an area" in refused("labelme", origin)
    (origin / "a.json").unlink()
    assert "no labelme file; expected *.json" in refused("labelme", origin)


def test_an_empty_split(labelled: Callable[..., Path], refused: Refused) -> None:
    origin = labelled("train/a", shape("cat", SQUARE))
    (origin / "val").mkdir()
    assert "no image in val" in refused("labelme", origin)


@pytest.mark.data
def test_real_balloons(real_data: Path, tmp_path: Path) -> None:
    """Polygons of real photos, given as labelme's, against the COCO annotations that others made from them."""
    origin = tmp_path / "shots"
    for split, count in (("train", 5), ("val", 13)):
        (origin / split).mkdir(parents=True)
        regions = json.loads((real_data / "balloon" / split / "via_region_data.json").read_text())
        for each in sorted(regions.values(), key=lambda each: each["filename"])[:count]:
            polygons = [region["shape_attributes"] for region in each["regions"].values()]
            shapes = [
                shape(
                    "balloon", [[x + 0.5, y + 0.5] for x, y in zip(p["all_points_x"], p["all_points_y"], strict=True)]
                )
                for p in polygons
            ]
            image = origin / split / each["filename"]
            image.symlink_to(real_data / "balloon" / split / each["filename"])
            content = {"shapes": shapes, "imagePath": image.name, "imageData": None}
            image.with_suffix(".json").write_text(json.dumps(content))
    made = prepare("labelme", tmp_path / "out", origin=origin)
    found, expected = coco(made, "val"), COCO(real_data / "balloon" / "val" / "annotation_coco.json")
    names = {image["file_name"]: image["id"] for image in expected.dataset["images"]}
    compared = 0
    for image in found.dataset["images"]:
        ours = found.imgToAnns[image["id"]]
        theirs = expected.imgToAnns[names[image["file_name"]]]
        assert len(ours) == len(theirs)
        union = np.zeros((image["height"], image["width"]), bool)
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(found.annToMask(a), expected.annToMask(b))
            assert a["area"] == pytest.approx(b["area"], rel=0.02, abs=5)  # of the outline, where it crosses itself too
            assert np.abs(np.subtract(a["bbox"], b["bbox"])).max() <= 2  # a pointed tip covers no pixel
            union |= found.annToMask(a).astype(bool)
            compared += 1
        stem = Path(image["file_name"]).stem
        assert np.array_equal(label_maps.load(made.root / "labels" / "val" / f"{stem}.png"), union)
    assert compared == 50


def test_areas_are_pycocotools_and_images_without_objects_are_kept(
    labelled: Callable[..., Path], tmp_path: Path
) -> None:
    from pycocotools import mask as coco_mask

    polygons = [[[2.5, 3.2], [17.1, 4.4], [9.3, 15.8]], [[4, 4], [20, 4], [20, 18], [12, 9], [4, 18]]]
    for split in ("train", "val"):
        labelled(f"{split}/empty")
        origin = labelled(f"{split}/full", shape("dog", polygons[0]), shape("cat", polygons[1]))
    made = prepare("labelme", tmp_path / "out", origin=origin)
    for split in ("train", "val"):
        found = coco(made, split)
        assert {each["id"]: each["name"] for each in found.cats.values()} == {1: "cat", 2: "dog"}
        assert sorted(each["file_name"] for each in found.imgs.values()) == ["empty.jpg", "full.jpg"]
        for each in found.anns.values():
            rles = coco_mask.frPyObjects(each["segmentation"], 20, 24)
            assert each["area"] == coco_mask.area(coco_mask.merge(rles)) > 0
            assert each["segmentation"] == [[value for point in polygons[2 - each["category_id"]] for value in point]]
