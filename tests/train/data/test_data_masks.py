"""Folders of images and masks in every form, and every way to name the classes."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data import label_maps, prepare

Write = Callable[..., Path]
Refused = Callable[..., str]
RED, GREEN, BLUE, CREAM = (255, 0, 0), (0, 255, 0), (0, 0, 255), (224, 224, 192)
#: Index 0 red, 1 green.
PALETTE = [*RED, *GREEN]


@pytest.fixture
def folder(tmp_path: Path, photo: Write, mask: Write) -> Callable[..., Path]:
    """Write `photos` with an image and a mask of the given halves in each of the folders (images → masks)."""

    def write(places: dict[str, str], *halves: int | tuple[int, int, int], **options: list[int]) -> Path:
        for images, masks in places.items():
            for i in range(5):
                photo(tmp_path / "photos" / images / f"{i}.jpg")
                mask(tmp_path / "photos" / masks / f"{i}.png", *halves, **options)
        return tmp_path / "photos"

    return write


@pytest.fixture
def split(folder: Callable[..., Path]) -> Callable[..., Path]:
    """Form 1: five images in train and in val."""
    return lambda *halves, **options: folder(
        {f"images/{s}": f"masks/{s}" for s in ("train", "val")}, *halves, **options
    )


@pytest.mark.parametrize(
    "places",
    [
        {"images/train": "masks/train", "images/val": "masks/val"},
        {"img_dir/train": "ann_dir/train", "img_dir/val": "ann_dir/val", "img_dir/test": "ann_dir/test"},
        {"images/training/rome": "masks/training/rome", "images/validation": "masks/validation"},
        {"train2017": "stuff/train2017", "val2017": "stuff/val2017", "test2017": "stuff/test2017"},
        {"train": "labels/train", "val": "labels/val"},
    ],
)
def test_forms_that_are_split(places: dict[str, str], folder: Callable[..., Path], tmp_path: Path) -> None:
    made = prepare("masks", tmp_path / "out", origin=folder(places))
    assert made.images == {"train": 5, "val": 5}
    left_out = [f"{images}/ (no split)" for images in places if "test" in images]
    assert made.findings == ({"ignored": left_out} if left_out else {})


@pytest.mark.parametrize("below", ["", "/rome"])
def test_a_folder_that_is_not_split(below: str, folder: Callable[..., Path], tmp_path: Path) -> None:
    origin = folder({f"images{below}": f"masks{below}"})
    made = prepare("masks", tmp_path / "out", origin=origin)
    assert made.images == {"train": 4, "val": 1}
    again = prepare("masks", tmp_path / "again", origin=origin)
    assert again.fingerprint == made.fingerprint


def test_val_alone_is_enough(folder: Callable[..., Path], tmp_path: Path) -> None:
    made = prepare("masks", tmp_path / "out", origin=folder({"images/val": "masks/val"}))
    assert made.images == {"train": 0, "val": 5}


def test_an_empty_split(split: Callable[..., Path], refused: Refused) -> None:
    origin = split()
    for path in [*(origin / "images" / "train").iterdir(), *(origin / "masks" / "train").iterdir()]:
        path.unlink()
    assert "no image in train; every split needs one" in refused("masks", origin)


def test_missing_masks_and_images(split: Callable[..., Path], tmp_path: Path, refused: Refused) -> None:
    origin = split()
    (origin / "masks" / "train" / "3.png").unlink()
    (origin / "masks" / "val" / "0.png").rename(origin / "masks" / "val" / "0.jpg")
    message = refused("masks", origin)
    assert "2 of 10 images have no label map: masks/train/3 (no label map), masks/val/0 (no label map); " in message
    assert "JPEG alters labels" in message
    (origin / "images" / "train" / "3.jpg").unlink()
    (origin / "masks" / "val" / "0.jpg").rename(origin / "masks" / "val" / "0.png")
    (origin / "images" / "stray.png").write_bytes((origin / "masks" / "val" / "1.png").read_bytes())
    (origin / "masks" / "val" / "extra.png").write_bytes((origin / "masks" / "val" / "1.png").read_bytes())
    made = prepare("masks", tmp_path / "out", origin=origin)
    assert made.findings == {"ignored": ["stray.png", "masks/val/extra (no image)"]}


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"images/train": "masks/train"}, "found train without val"),
        ({"images/train": "masks/train", "images/train2": "masks/train2"}, "expected one folder a split, found"),
        ({"photos/train": "masks/train"}, r"expected images/ and masks/, .*; found masks/, photos/"),
        ({"train": "a/train", "val": "a/val", "train/x": "b/train", "val/x": "b/val"}, "found a/, b/"),
    ],
)
def test_other_forms(places: dict[str, str], expected: str, folder: Callable[..., Path], refused: Refused) -> None:
    assert re.search(expected, refused("masks", folder(places)))


def test_two_images_for_one_mask(split: Callable[..., Path], refused: Refused, photo: Write) -> None:
    origin = split()
    photo(origin / "images" / "val" / "0.png")
    assert "0.jpg and 0.png differ in their ending only" in refused("masks", origin)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.json", '[{"name": "road", "color": [255, 0, 0]}, {"name": "wet leaf", "color": [0, 255, 0]}]'),
        ("palette.json", '[{"name": "road", "color": [255, 0, 0]}, {"name": "wet leaf", "color": [0, 255, 0]}]'),
        ("classes.txt", "road 255 0 0\nwet leaf 0 255 0\n"),
        ("classes.txt", "__ignore__ 0 0 255\nroad, 255, 0, 0\nwet leaf, 0, 255, 0"),
        ("label_colors.txt", "255 0 0\troad\n0 255 0 \t wet leaf\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:255,0,0::\nwet leaf:0,255,0::\n"),
    ],
)
@pytest.mark.parametrize("stored", ["colours", "indices", "grey"])
def test_classes_with_colours(
    stored: str, name: str, text: str, split: Callable[..., Path], tmp_path: Path, refused: Refused
) -> None:
    origin = split(RED, GREEN) if stored == "colours" else split(0, 1, palette=PALETTE if stored == "indices" else None)
    (origin / name).write_text(text)
    made = prepare("masks", tmp_path / "out", origin=origin)
    assert [(each.name, each.color) for each in label_maps.read_classes(made.root)] == [
        ("road", RED),
        ("wet leaf", GREEN),
    ]
    labels = label_maps.load(label_maps.read_split(made.root, "val")[0][1])
    assert (labels[:10] == 0).all()
    assert (labels[10:] == 1).all()


@pytest.mark.parametrize(
    ("name", "text"),
    [("classes.json", '["7", "lane 2"]'), ("classes.txt", "7\n\nlane 2\n"), ("labels.txt", "7\nlane 2")],
)
def test_names_alone(name: str, text: str, split: Callable[..., Path], tmp_path: Path) -> None:
    origin = split(0, 1)
    (origin / name).write_text(text)
    made = prepare("masks", tmp_path / "out", origin=origin)
    assert made.classes == ("7", "lane 2")
    assert label_maps.read_classes(made.root)[1].color == (128, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_masks_without_classes_hold_their_labels(mode: str, split: Callable[..., Path], tmp_path: Path) -> None:
    origin = split(0, 1)
    for path in origin.rglob("*.png"):
        labels = np.asarray(Image.open(path))
        image = Image.fromarray(labels.astype(np.uint16)) if mode == "I;16" else Image.fromarray(labels)
        (Image.fromarray(labels > 0) if mode == "1" else image if mode == "I;16" else image.convert(mode)).save(path)
    made = prepare("masks", tmp_path / "out", origin=origin)
    assert made.classes == ("class 0", "class 1")
    assert label_maps.load(label_maps.read_split(made.root, "val")[0][1])[10:].min() == 1


def test_the_colour_to_ignore(split: Callable[..., Path], mask: Write, tmp_path: Path) -> None:
    origin = split(RED, GREEN)
    mask(origin / "masks" / "val" / "0.png", RED, CREAM)
    (origin / "classes.txt").write_text("road 255 0 0\nleaf 0 255 0\n__ignore__ 224 224 192\n")
    made = prepare("masks", tmp_path / "out", origin=origin)
    assert made.classes == ("road", "leaf")
    assert label_maps.load(made.root / "labels" / "val" / "0.png")[:, 0].tolist() == [0] * 10 + [255] * 10


def test_a_foreground_of_255_is_read_by_its_colour(split: Callable[..., Path], tmp_path: Path) -> None:
    origin = split(0, 255)
    (origin / "classes.txt").write_text("background 0 0 0\nleaf 255 255 255\n")
    made = prepare("masks", tmp_path / "out", origin=origin)
    assert label_maps.load(made.root / "labels" / "val" / "0.png")[:, 0].tolist() == [0] * 10 + [1] * 10


def test_a_colour_of_no_class(split: Callable[..., Path], mask: Write, refused: Refused) -> None:
    origin = split(RED, GREEN)
    mask(origin / "masks" / "val" / "1.png", RED, BLUE)
    (origin / "classes.txt").write_text("road 255 0 0\nleaf 0 255 0\n")
    message = refused("masks", origin)
    assert "1 of 10 label maps are wrong: masks/val/1.png (colour (0, 0, 255) in 240 pixels, of no class); " in message
    assert "NAME R G B" in message


def test_colours_without_classes(split: Callable[..., Path], refused: Refused) -> None:
    message = refused("masks", split(RED, GREEN))
    assert "10 of 10 label maps are wrong: masks/train/0.png (holds colours, and the classes have none), " in message


def test_a_palette_in_another_order(split: Callable[..., Path], tmp_path: Path, refused: Refused) -> None:
    origin = split(0, 1, palette=[*GREEN, *RED])
    (origin / "classes.txt").write_text("road 255 0 0\nleaf 0 255 0\n")
    message = refused("masks", origin)
    assert (
        "masks/train/0.png (palette: index 0 has the colour of 'leaf', not of 'road', index 1 has the colour of 'road', "
        "not of 'leaf')" in message
    )
    assert "put the classes into the order of the indices" in message
    (origin / "classes.txt").write_text("leaf 0 255 0\nroad 255 0 0\n")
    assert prepare("masks", tmp_path / "out", origin=origin).classes == ("leaf", "road")


def test_a_palette_of_other_colours_is_no_contradiction(split: Callable[..., Path], tmp_path: Path) -> None:
    origin = split(0, 1, palette=[*BLUE, *CREAM])
    (origin / "classes.txt").write_text("road 255 0 0\nleaf 0 255 0\n")
    assert prepare("masks", tmp_path / "out", origin=origin).images["val"] == 5


def test_values_above_255(split: Callable[..., Path], refused: Refused) -> None:
    origin = split()
    Image.fromarray(np.full((20, 24), 1000, np.uint16)).save(origin / "masks" / "val" / "0.png")
    assert "masks/val/0.png (values from 1000 to 1000); labels are 0..254" in refused("masks", origin)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"classes.txt": "a\nb", "palette.json": "[]"}, "classes.json|classes.txt and palette.json|both name classes"),
        ({"classes.txt": "a 1 2 3\nb\n"}, "no colour for b; give every class a colour, or none"),
        ({"classes.txt": "a 1 2 3\nb 1 2 3\n"}, r"two classes have the colour \(1, 2, 3\)"),
        ({"classes.txt": "a 1 2 300\n"}, r"expected three numbers from 0 to 255, found \[1, 2, 300\]"),
        ({"classes.txt": "\n# nothing\n"}, "names no class"),
        ({"classes.txt": "\n".join(f"c{i}" for i in range(256))}, "256 classes; label maps hold at most 255"),
        ({"classes.json": "{"}, r"classes\.json: .*; expected \[\{"),
        ({"classes.json": '{"a": 1}'}, "no list of classes"),
        ({"classes.json": '[{"color": [0, 0, 0]}]'}, r"classes\.json: 'name'"),
        ({"classes.json": '[{"name": "a", "color": "red"}]'}, "expected three numbers"),
        ({"classes.json": "[1]"}, r"classes\.json: "),
    ],
)
def test_bad_lists_of_classes(
    files: dict[str, str], expected: str, split: Callable[..., Path], refused: Refused
) -> None:
    origin = split()
    for name, text in files.items():
        (origin / name).write_text(text)
    assert re.search(expected, refused("masks", origin))


@pytest.mark.data
def test_real_street_scenes(real_data: Path, tmp_path: Path) -> None:
    made = prepare("masks", tmp_path / "out", origin=real_data / "camvid_mini")
    assert (made.images, len(made.classes)) == ({"train": 36, "val": 12}, 11)
    assert made.findings == {"ignored": ["img_dir/test/ (no split)"]}
    for image, path in label_maps.read_split(made.root, "val"):
        original = np.asarray(Image.open(real_data / "camvid_mini" / "ann_dir" / "val" / path.name))
        assert np.array_equal(label_maps.load(path), original)
        assert Image.open(image).size == original.shape[::-1]


@pytest.mark.data
def test_real_photos_with_voc_classes(real_data: Path, tmp_path: Path) -> None:
    made = prepare("masks", tmp_path / "out", origin=real_data / "coco_mini")
    assert (made.images, len(made.classes)) == ({"train": 100, "val": 100}, 21)
    for image, path in label_maps.read_split(made.root, "val"):
        original = Image.open(real_data / "coco_mini" / "semantic_voc21" / "val2017" / path.name)
        assert np.array_equal(label_maps.load(path), np.asarray(original))
        assert image.samefile(real_data / "coco_mini" / "val2017" / image.name)
