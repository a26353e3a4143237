"""Folders of PASCAL VOC's layout."""

import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data import label_maps, prepare, sources, voc
from train.files import sha256

Write = Callable[..., Path]
Refused = Callable[..., str]
CREAM = (224, 224, 192)


@pytest.fixture
def devkit(tmp_path: Path, photo: Write, mask: Write) -> Path:
    """`VOCdevkit/VOC2012` with images 0 to 4, of which 0 to 3 have masks, 0 to 2 in train and 3 in val."""
    root = tmp_path / "given" / "VOCdevkit" / "VOC2012"
    for i in range(5):
        photo(root / "JPEGImages" / f"2007_00000{i}.jpg")
    for i in range(4):
        mask(root / "SegmentationClass" / f"2007_00000{i}.png", i, 255, palette=label_maps.palette().ravel().tolist())
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"2007_00000{i}\n" for i in range(3)))
    (lists / "val.txt").write_text("2007_000003\n")
    (lists / "trainval.txt").write_text("".join(f"2007_00000{i}\n" for i in range(4)))
    return root


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_devkit_at_any_level(level: int, devkit: Path, tmp_path: Path) -> None:
    origin = [devkit, *devkit.parents][level]
    made = prepare("voc", tmp_path / "out", origin=origin)
    assert (made.classes, made.images) == (voc.CLASSES, {"train": 3, "val": 1})
    assert len(made.classes) == 21
    ((image, path),) = label_maps.read_split(made.root, "val")
    assert image.name == "2007_000003.jpg"
    assert label_maps.load(path)[:, 0].tolist() == [3] * 10 + [255] * 10
    aeroplane = label_maps.read_classes(made.root)[1]
    assert (aeroplane.name, aeroplane.color) == ("aeroplane", (128, 0, 0))


def test_masks_in_colours(devkit: Path, tmp_path: Path, mask: Write) -> None:
    mask(devkit / "SegmentationClass" / "2007_000003.png", (128, 0, 0), CREAM)
    made = prepare("voc", tmp_path / "out", origin=devkit)
    path = label_maps.read_split(made.root, "val")[0][1]
    assert label_maps.load(path)[:, 0].tolist() == [1] * 10 + [255] * 10


def test_own_classes_of_cvat(devkit: Path, tmp_path: Path, mask: Write) -> None:
    (devkit / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nleaf:9,99,9::\n")
    for name in ("train", "val"):
        (devkit / "ImageSets" / "Segmentation" / f"{name}.txt").unlink()
    for i in range(4):
        mask(devkit / "SegmentationClass" / f"2007_00000{i}.png", (0, 0, 0), (9, 99, 9))
    made = prepare("voc", tmp_path / "out", origin=devkit)
    assert (made.classes, made.images) == (("background", "leaf"), {"train": 3, "val": 1})


def test_labelmes_export_without_lists(devkit: Path, tmp_path: Path, mask: Write) -> None:
    shutil.rmtree(devkit / "ImageSets")
    (devkit / "SegmentationClass").rename(devkit / "SegmentationClassPNG")
    (devkit / "SegmentationClass").mkdir()
    (devkit / "class_names.txt").write_text("_background_\nleaf\nstone\nowl\n")
    made = prepare("voc", tmp_path / "out", origin=devkit)
    assert (made.classes, sum(made.images.values())) == (("_background_", "leaf", "stone", "owl"), 4)


def test_a_palette_in_another_order(devkit: Path, refused: Refused, mask: Write) -> None:
    colours = label_maps.palette()
    colours[[1, 2]] = colours[[2, 1]]
    mask(devkit / "SegmentationClass" / "2007_000001.png", 0, 1, palette=colours.ravel().tolist())
    message = refused("voc", devkit)
    assert "1 of 4 label maps are wrong: 2007_000001.png (palette: index 1 has the colour of 'bicycle'" in message


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda root: (root / "SegmentationClass" / "2007_000001.png").unlink(), r"2007_000001 \(no label map\)"),
        (lambda root: (root / "JPEGImages" / "2007_000001.jpg").unlink(), r"2007_000001 \(no image\)"),
        (lambda root: (root / "ImageSets" / "Segmentation" / "val.txt").write_text(""), "no image in val"),
        (
            lambda root: (root / "ImageSets" / "Segmentation" / "val.txt").unlink(),
            r"expected train\.txt and val\.txt, or",
        ),
        (lambda root: shutil.rmtree(root / "SegmentationClass"), "here or in one folder below; found none"),
        (lambda root: shutil.copytree(root, root.with_name("VOC2007")), "found VOC2007 and VOC2012"),
    ],
)
def test_what_is_missing(spoil: Callable[[Path], object], expected: str, devkit: Path, refused: Refused) -> None:
    spoil(devkit)
    assert re.search(expected, refused("voc", devkit.parent))


def test_the_download(devkit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = tmp_path / "data" / ".downloads"
    downloads.mkdir(parents=True)
    archive = downloads / voc.ARCHIVE.name
    with tarfile.open(archive, "w") as tar:
        tar.add(devkit.parent, "VOCdevkit")
    item = replace(voc.ARCHIVE, sha256=sha256(archive), size=archive.stat().st_size)
    monkeypatch.setattr(voc, "ARCHIVE", item)
    made = prepare("voc", tmp_path / "data" / "voc")
    shutil.rmtree(devkit)
    assert all(image.is_file() and not image.is_symlink() for image, _ in label_maps.read_split(made.root, "train"))
    assert not list(made.root.glob(".extracted-*"))
    assert sources()["voc"].downloads[0].url.endswith("/VOCtrainval_11-May-2012.tar")


@pytest.mark.data
def test_real_photos(real_data: Path, tmp_path: Path) -> None:
    """The VOC classes of COCO images, laid out as VOC does; all masks carry VOC's palette."""
    root, real = tmp_path / "VOC2012", real_data / "coco_mini"
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for kind in ("JPEGImages", "SegmentationClass"):
        (root / kind).mkdir()
    for split, folder in (("train", "train2017"), ("val", "val2017")):
        names = []
        for image in sorted((real / folder).iterdir())[:10]:
            names.append(image.stem)
            (root / "JPEGImages" / image.name).symlink_to(image)
            mask = real / "semantic_voc21" / folder / f"{image.stem}.png"
            (root / "SegmentationClass" / mask.name).symlink_to(mask)
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names))
    made = prepare("voc", tmp_path / "out", origin=root)
    assert made.images == {"train": 10, "val": 10}
    for _, path in label_maps.read_split(made.root, "val"):
        expected = np.asarray(Image.open(root / "SegmentationClass" / path.name))
        assert np.array_equal(label_maps.load(path), expected)
