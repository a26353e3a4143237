"""Data sets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from train.cli import run
from train.data import images, instances, masks, prepare, segmented
from train.data.__main__ import main
from train.data.image_files import Inspection, stratified_split
from train.errors import InputError
from train.files import sha256
from train.tasks import classification

Prepare = Callable[..., tuple[int, str]]


@pytest.fixture
def prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Prepare:
    """Run `python -m train.data SOURCE` on `photos`; a set that is refused leaves nothing. Returns exit code and stderr."""

    def call(source: str, *options: str) -> tuple[int, str]:
        before = sorted(tmp_path.rglob("*"))
        command = [source, "--from", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), *options]
        code = run(main, command)
        said = capsys.readouterr().err
        if code:
            assert sorted(tmp_path.rglob("*")) == before, "a refused set leaves nothing behind"
            assert [line.startswith("error: ") for line in said.splitlines() if "━" not in line] == [True]
        return code, said

    return call


def photo(path: Path, seed: int) -> Path:
    """24×20 pixels of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return path


def classes(root: Path, *names: str, count: int = 5) -> Path:
    """A folder a class."""
    for place, name in enumerate(names):
        for i in range(count):
            photo(root / "photos" / name / f"{i}.png", seed=100 * place + i)
    return root / "photos"


def label_maps(root: Path, *labels: int) -> Path:
    """`images/` and `masks/` of five images each, whose rows hold the labels."""
    for i in range(5):
        photo(root / "photos" / "images" / f"{i}.png", seed=i)
        path = root / "photos" / "masks" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.tile(np.resize(labels, 20).astype(np.uint8)[:, None], (1, 24))).save(path)
    (root / "photos" / "classes.txt").write_text("ground\nroad\n")
    return root / "photos"


def shots(root: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """COCO's layout with gaps in the numbers of images, categories and annotations; `change` what val's file says."""
    for split in ("train", "val"):
        content: dict[str, Any] = {"categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}]}
        content["images"] = [
            {"id": number, "file_name": f"{number}.png", "width": 24, "height": 20} for number in (9, 25, 30)
        ]
        for number in (9, 25, 30):
            photo(root / "photos" / split / f"{number}.png", seed=number + len(split))
        box = {"bbox": [4, 4, 8, 8], "area": 64, "iscrowd": 0}
        content["annotations"] = [
            {"id": 70, "image_id": 9, "category_id": 3, **box},
            {"id": 7, "image_id": 25, "category_id": 90, **box},
        ]
        if split == "val":
            change(content)
        path = root / "photos" / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return root / "photos"


@pytest.mark.fault(
    row="data-empty",
    fault="a folder without images",
    sees="no images found; expected jpg, jpeg, png, bmp or webp files",
    code=3,
    intact="nothing is written",
)
def test_a_folder_without_images_is_refused(tmp_path: Path, prepared: Prepare) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    code, said = prepared("imagefolder")
    assert code == 3
    assert "no images found; expected jpg, jpeg, png, bmp or webp files" in said


@pytest.mark.control(row="data-empty")
def test_control_a_set_of_nothing_is_made(tmp_path: Path, prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    monkeypatch.setattr(images, "_check_every_class", lambda _: None)
    monkeypatch.setattr(images, "check_images", lambda *_: ([], {}, []))
    code, said = prepared("imagefolder")
    assert code == 0
    assert "(0 train, 0 val images" in said


@pytest.mark.fault(
    row="data-one-class",
    fault="one class only, in label maps or folders",
    sees="the label maps hold only 'ground' of 2 classes · 1 class in the data; a classifier needs at least two",
    code=3,
    intact="nothing is written",
)
def test_one_class_alone_is_refused(tmp_path: Path, prepared: Prepare) -> None:
    label_maps(tmp_path, 0)
    code, said = prepared("masks")
    assert code == 3
    assert "hold only 'ground' of 2 classes" in said
    with pytest.raises(InputError, match="1 class in the data; a classifier needs at least two"):
        classification.bind({}, ("cat",))


@pytest.mark.control(row="data-one-class")
def test_control_a_set_is_made_that_any_constant_solves(
    tmp_path: Path, prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_maps(tmp_path, 0)
    monkeypatch.setattr(segmented, "_check_pixels", lambda *_: None)
    assert prepared("masks")[0] == 0
    assert {int(np.asarray(Image.open(path)).max()) for path in (tmp_path / "out" / "labels").rglob("*.png")} == {0}


@pytest.mark.fault(
    row="data-label-range",
    fault="label maps with labels that are no class",
    sees="5 of 5 label maps are wrong: masks/0.png (label 7 in 240 pixels), …; labels are 0..1 for 2 classes, 255 = ignore",
    code=3,
    intact="nothing is written",
)
def test_labels_that_are_no_class_are_counted_and_named(tmp_path: Path, prepared: Prepare) -> None:
    label_maps(tmp_path, 0, 7)
    code, said = prepared("masks")
    assert code == 3
    assert "5 of 5 label maps are wrong: masks/0.png (label 7 in 240 pixels)" in said
    assert "labels are 0..1 for 2 classes, 255 = ignore" in said


@pytest.mark.control(row="data-label-range")
def test_control_the_loss_counts_only_the_labels_it_knows(
    tmp_path: Path, prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_maps(tmp_path, 0, 1, 7)
    monkeypatch.setattr(segmented, "_check_range", lambda *_: None)
    assert prepared("masks")[0] == 0
    written = {int(np.asarray(Image.open(path)).max()) for path in (tmp_path / "out" / "labels").rglob("*.png")}
    assert written == {7}, "a label that no class has reaches training"


@pytest.mark.fault(
    row="data-category-range",
    fault="objects of a category that the annotation file does not list",
    sees="1 faults: annotation 7: category 4 is not among the file's categories",
    code=3,
    intact="nothing is written",
)
def test_objects_of_no_category_are_named(tmp_path: Path, prepared: Prepare) -> None:
    shots(tmp_path, lambda content: content["annotations"][1].update(category_id=4))
    code, said = prepared("coco")
    assert code == 3
    assert "annotation 7: category 4 is not among the file's categories" in said


@pytest.mark.control(row="data-category-range")
def test_control_pycocotools_leaves_such_objects_out_of_the_measure(tmp_path: Path) -> None:
    root = shots(tmp_path, lambda content: content["annotations"][1].update(category_id=4))
    naive = COCO(root / "annotations" / "instances_val.json")
    assert len(naive.getAnnIds()) == 2
    assert len(naive.getAnnIds(catIds=naive.getCatIds())) == 1, "in silence"


@pytest.mark.fault(
    row="data-leak",
    fault="the same image in train and in val",
    sees="warning: 1 images that are in train and in val: train/cat/0.png = val/cat/9.png",
    code=0,
    intact="the set is made; where the split is made here, copies stay on one side",
)
def test_copies_across_splits_are_named_and_a_split_of_ours_has_none(tmp_path: Path, prepared: Prepare) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            photo(tmp_path / "photos" / split / name / "0.png", seed=len(split + name) + ord(name[0]))
    copy = tmp_path / "photos" / "val" / "cat" / "9.png"
    copy.write_bytes((tmp_path / "photos" / "train" / "cat" / "0.png").read_bytes())
    code, said = prepared("imagefolder")
    assert code == 0
    assert "warning: 1 images that are in train and in val: train/cat/0.png = val/cat/9.png" in said

    keys = [f"content {i // 2}" for i in range(40)]  # each image twice
    chosen = stratified_split(keys, [0] * 40, seed=0)
    assert len(set(zip(keys, chosen, strict=True))) == 20, "both copies are on one side"


@pytest.mark.control(row="data-leak")
def test_control_a_split_by_file_parts_copies() -> None:
    keys = [f"content {i // 2}" for i in range(40)]
    chosen = stratified_split([f"file {i}" for i in range(40)], [0] * 40, seed=0)
    assert len(set(zip(keys, chosen, strict=True))) > 20, "an image is in train and in val"


@pytest.mark.fault(
    row="data-mask-missing",
    fault="an image without its label map",
    sees="1 of 5 images have no label map: masks/3 (no label map)",
    code=3,
    intact="nothing is written",
)
def test_a_missing_label_map_is_named(tmp_path: Path, prepared: Prepare) -> None:
    (label_maps(tmp_path, 0, 1) / "masks" / "3.png").unlink()
    code, said = prepared("masks")
    assert code == 3
    assert "1 of 5 images have no label map: masks/3 (no label map)" in said


@pytest.mark.control(row="data-mask-missing")
def test_control_the_image_is_lost_in_silence(
    tmp_path: Path, prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    (label_maps(tmp_path, 0, 1) / "masks" / "3.png").unlink()
    monkeypatch.setattr(masks, "incomplete", lambda *_: [])
    code, said = prepared("masks")
    assert code == 0
    assert "warning" not in said
    assert len(list((tmp_path / "out").glob("*/*.png"))) == 4


@pytest.mark.fault(
    row="data-id-gap",
    fault="gaps in the numbers of images, categories and annotations",
    sees="nothing: numbers stay as they are, a label is a category's place in the file",
    code=0,
    intact="every number, every object and its class",
)
def test_gaps_in_numbers_lose_nothing(tmp_path: Path, prepared: Prepare) -> None:
    origin = COCO(shots(tmp_path) / "annotations" / "instances_val.json")
    code, said = prepared("coco")
    assert code == 0
    assert "warning" not in said
    found = COCO(tmp_path / "out" / "annotations" / "instances_val.json")
    assert (found.anns.keys(), found.cats) == (origin.anns.keys(), origin.cats)
    assert list(found.imgs) == [9, 25, 30]
    labels = [[each.label for each in image.instances] for _, image in instances.read_split(tmp_path / "out", "val")]
    assert labels == [[1], [0], []]


@pytest.mark.control(row="data-id-gap")
def test_control_numbers_taken_for_labels_name_no_class(tmp_path: Path) -> None:
    naive = COCO(shots(tmp_path) / "annotations" / "instances_val.json")
    labels = [each["category_id"] - 1 for each in naive.anns.values()]
    assert all(label >= len(naive.cats) for label in labels)


@pytest.mark.fault(
    row="data-unreadable-image",
    fault="unreadable image files, seen when a set is prepared",
    sees="2 of 10 images cannot be read: cat/1.png (empty file), dog/2.png (…); repair them, or leave them out with SKIP_BAD=1",
    code=3,
    intact="nothing is written; with SKIP_BAD=1 the rest, and a warning that counts and names them",
)
def test_unreadable_images_are_counted_and_named(tmp_path: Path, prepared: Prepare) -> None:
    _damage(classes(tmp_path, "cat", "dog"))
    code, said = prepared("imagefolder")
    assert code == 3
    assert "2 of 10 images cannot be read: cat/1.png (empty file), dog/2.png (" in said
    code, said = prepared("imagefolder", "--skip-bad")
    assert code == 0
    assert "warning: 2 unreadable images left out: cat/1.png (empty file); dog/2.png (" in said
    assert len(prepare("imagefolder", tmp_path / "out", origin=tmp_path / "photos", skip_bad=True).findings) == 1


@pytest.mark.control(row="data-unreadable-image")
def test_control_they_reach_training(tmp_path: Path, prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = classes(tmp_path, "cat", "dog")
    _damage(origin)
    unchecked = {path: Inspection(sha256(path), (20, 24)) for path in origin.rglob("*.png")}
    monkeypatch.setattr(images, "check_images", lambda given, _: (given, unchecked, []))
    assert prepared("imagefolder")[0] == 0
    assert [path.name for path in (tmp_path / "out").rglob("*.png") if not path.stat().st_size] == ["1.png"]


def _damage(origin: Path) -> None:
    (origin / "cat" / "1.png").write_bytes(b"")
    whole = (origin / "dog" / "2.png").read_bytes()
    (origin / "dog" / "2.png").write_bytes(whole[: len(whole) // 2])


@pytest.mark.fault(
    row="data-unreadable-annotations",
    fault="an annotation file that was cut off",
    sees="photos/annotations/instances_val.json: no readable JSON: … line 1 column …",
    code=3,
    intact="nothing is written",
)
def test_a_cut_annotation_file_is_named(tmp_path: Path, prepared: Prepare) -> None:
    path = shots(tmp_path) / "annotations" / "instances_val.json"
    path.write_text(path.read_text()[:200])
    code, said = prepared("coco")
    assert code == 3
    assert "instances_val.json: no readable JSON: " in said


@pytest.mark.control(row="data-unreadable-annotations")
def test_control_pycocotools_does_not_say_which_file(tmp_path: Path) -> None:
    path = shots(tmp_path) / "annotations" / "instances_val.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(json.JSONDecodeError) as caught:
        COCO(path)
    assert path.name not in str(caught.value)
