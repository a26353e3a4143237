"""The layout of label maps: what is written is what is read, and faults are named."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data import digits_scenes, label_maps, prepare
from train.data.label_maps import Class
from train.errors import InputError

Write = Callable[..., Path]
Refused = Callable[..., str]


@pytest.fixture
def pairs(tmp_path: Path, photo: Write, mask: Write) -> Path:
    """Four images in train, two in val, with masks of labels 0 and 1."""
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            photo(tmp_path / "photos" / "images" / split / f"{i}.jpg")
            mask(tmp_path / "photos" / "masks" / split / f"{i}.png", 0, 1)
    return tmp_path / "photos"


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)
    classes = (Class("road", (1, 2, 3)), Class("Straße", (4, 5, 6)), Class("sky", (7, 8, 9)))
    (tmp_path / "labels" / "val").mkdir(parents=True)
    label_maps.save(tmp_path / "labels" / "val" / "a.b.png", labels, classes)
    label_maps.write_lists(tmp_path, classes, {"train": [], "val": ["a.b.jpg"]})
    assert label_maps.read_classes(tmp_path) == classes
    ((image, path),) = label_maps.read_split(tmp_path, "val")
    assert (image, path) == (tmp_path / "val" / "a.b.jpg", tmp_path / "labels" / "val" / "a.b.png")
    assert np.array_equal(label_maps.load(path), labels)
    with Image.open(path) as stored:
        assert stored.mode == "P"
        assert stored.getpalette()[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    with pytest.raises(InputError, match="found splits: val"):
        label_maps.read_split(tmp_path, "train")


def test_what_is_no_set_with_label_maps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes\.json: missing"):
        label_maps.read_classes(tmp_path)
    with pytest.raises(InputError, match="found splits: none"):
        label_maps.read_split(tmp_path, "val")
    (tmp_path / "labels").mkdir()
    for text in ("{", '[{"name": "a"}]', '[{"name": "a", "color": [0, 0, 256]}]', '{"a": 1}'):
        (tmp_path / "labels" / "classes.json").write_text(text)
        with pytest.raises(InputError, match="prepare the set again"):
            label_maps.read_classes(tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_load_takes_labels_only(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="expected an indexed or grey 8-bit image"):
        label_maps.load(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("x")
    for name in ("b.png", "c.png"):
        with pytest.raises(InputError, match="no readable label map"):
            label_maps.load(tmp_path / name)


def test_images_are_linked_and_maps_are_equal(pairs: Path, tmp_path: Path) -> None:
    made = prepare("masks", tmp_path / "out", origin=pairs)
    assert (made.classes, made.images) == (("class 0", "class 1"), {"train": 4, "val": 2})
    for split in ("train", "val"):
        for image, path in label_maps.read_split(made.root, split):
            assert image.samefile(pairs / "images" / split / image.name)
            stored = np.asarray(Image.open(pairs / "masks" / split / path.name))
            assert np.array_equal(label_maps.load(path), stored)
    record = json.loads((made.root / "dataset.json").read_text())
    assert record["labels"]["val"] == {"class 0": 2 * 240, "class 1": 2 * 240}


def test_a_prepared_set_can_be_prepared(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pairs / "classes.txt").write_text("ground 9 9 9\ntree 0 99 0\n")
    first = prepare("masks", tmp_path / "first", origin=pairs)
    second = prepare("masks", tmp_path / "second", origin=first.root)
    assert second.fingerprint == first.fingerprint
    assert prepare("masks", tmp_path / "second", origin=first.root).reused
    monkeypatch.setattr(digits_scenes, "SCENES", {"train": 20, "val": 10})
    scenes = prepare("digits_scenes", tmp_path / "scenes")
    again = prepare("masks", tmp_path / "again", origin=scenes.root)
    assert again.classes == ("background", *"0123456789")


def test_names_are_unique_up_to_the_ending(tmp_path: Path, photo: Write, mask: Write) -> None:
    for split in ("train", "val"):
        for folder, ending in (("a", "jpg"), ("b", "png")):
            photo(tmp_path / "photos" / "images" / split / folder / f"1.{ending}")
            mask(tmp_path / "photos" / "masks" / split / folder / "1.png", *((0, 1) if folder == "a" else (1, 0)))
    made = prepare("masks", tmp_path / "out", origin=tmp_path / "photos")
    found = label_maps.read_split(made.root, "val")
    assert [(image.name, path.name) for image, path in found] == [("1.jpg", "1.png"), ("1-2.png", "1-2.png")]
    assert [label_maps.load(path)[0, 0] for _, path in found] == [0, 1]


def test_sizes_that_differ(pairs: Path, refused: Refused) -> None:
    for name in ("0", "2"):
        path = pairs / "masks" / "train" / f"{name}.png"
        Image.open(path).resize((12, 10), Image.Resampling.NEAREST).save(path)
    message = refused("masks", pairs)
    assert message.startswith(
        "2 of 6 label maps are wrong: masks/train/0.png (12×10 pixels, its image 24×20), masks/train/2.png ("
    )
    assert "a label map must have its image's size" in message


def test_a_photo_is_upright_before_its_size_counts(pairs: Path, tmp_path: Path, refused: Refused) -> None:
    path = pairs / "images" / "val" / "1.jpg"
    exif = Image.Exif()
    exif[0x112] = 6
    Image.open(path).save(path, exif=exif)
    message = refused("masks", pairs)
    assert "masks/val/1.png (24×20 pixels, its image 20×24); training turns a photo" in message
    turned = np.asarray(Image.open(pairs / "masks" / "val" / "1.png")).T
    Image.fromarray(turned).save(pairs / "masks" / "val" / "1.png")
    assert prepare("masks", tmp_path / "out", origin=pairs).findings == {"turned": ["images/val/1.jpg"]}


def test_labels_outside_the_classes(pairs: Path, mask: Write, refused: Refused) -> None:
    (pairs / "classes.txt").write_text("ground\ntree\n")
    mask(pairs / "masks" / "train" / "1.png", 2, 77)
    mask(pairs / "masks" / "val" / "0.png", 0, 254)
    message = refused("masks", pairs)
    assert (
        "2 of 6 label maps are wrong: masks/train/1.png (label 2 in 240 pixels, 77 in 240 pixels), masks/val/0"
        in message
    )
    assert "labels are 0..1 for 2 classes, 255 = ignore" in message


def test_faults_of_different_kinds_come_together_and_many_are_counted(
    pairs: Path, mask: Write, refused: Refused
) -> None:
    (pairs / "classes.txt").write_text("ground\ntree\n")
    mask(pairs / "masks" / "train" / "1.png", 0, 3)
    (pairs / "masks" / "train" / "2.png").write_text("x")
    message = refused("masks", pairs)
    assert "2 of 6" in message
    assert "1.png (label 3 in 240 pixels)" in message
    assert "2.png (not an image)" in message
    for i in range(20):
        shutil.copy(pairs / "images" / "train" / "0.jpg", pairs / "images" / "train" / f"more {i}.jpg")
        mask(pairs / "masks" / "train" / f"more {i}.png", 9, 9)
    assert re.search(r"22 of 26 .* and 12 more; ", refused("masks", pairs))


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_unreadable_files_are_named_or_left_out(kind: str, pairs: Path, tmp_path: Path, refused: Refused) -> None:
    (path,) = (pairs / kind / "train").glob("3.*")
    path.write_bytes(path.read_bytes()[:45])
    message = refused("masks", pairs)
    assert f"1 of 6 {'images cannot be read' if kind == 'images' else 'label maps are wrong'}" in message
    assert f"{kind}/train/{path.name} (" in message
    assert "SKIP_BAD=1" in message
    made = prepare("masks", tmp_path / "out", origin=pairs, skip_bad=True)
    assert made.images == {"train": 3, "val": 2}
    assert [finding.split(" (")[0] for finding in made.findings["unreadable"]] == [f"{kind}/train/{path.name}"]
    assert sorted(path.stem for path in (made.root / "train").iterdir()) == ["0", "1", "2"]
    assert sorted(path.stem for path in (made.root / "labels" / "train").iterdir()) == ["0", "1", "2"]


def test_a_split_that_is_left_empty(pairs: Path, refused: Refused) -> None:
    for path in (pairs / "masks" / "val").iterdir():
        path.write_text("x")
    assert "no image in val; every split needs one" in refused("masks", pairs, skip_bad=True)


def test_one_class_is_none(pairs: Path, mask: Write, refused: Refused) -> None:
    for path in pairs.rglob("*.png"):
        mask(path, 0, 255)
    message = refused("masks", pairs)
    assert "hold only 'class 0' of 1 classes beside 255 (ignore)" in message
    assert "NAME 255 255 255" in message


def test_findings(pairs: Path, tmp_path: Path) -> None:
    shutil.copy(pairs / "images" / "train" / "0.jpg", pairs / "images" / "val" / "0.jpg")
    (pairs / "classes.txt").write_text("ground\ntree\nowl\n")
    made = prepare("masks", tmp_path / "out", origin=pairs)
    assert made.findings == {"leaks": ["images/train/0.jpg = images/val/0.jpg"], "absent": ["owl"]}


def test_class_names_must_differ(pairs: Path, refused: Refused) -> None:
    (pairs / "classes.txt").write_text("owl\nowl\n")
    assert "class names must differ; twice: owl" in refused("masks", pairs)
