"""Folders of images in every form, good and bad."""

import errno
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data import Prepared, prepare, read_split
from train.errors import InputError

Photo = Callable[[Path], Path]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Prepared]:
    """Prepare a folder into `tmp_path/out`."""

    def call(origin: Path, *, skip_bad: bool = False, seed: int = 0) -> Prepared:
        return prepare("imagefolder", tmp_path / "out", origin=origin, skip_bad=skip_bad, seed=seed)

    return call


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Prepare a folder that must be refused and leave nothing behind; returns the message."""

    def call(origin: Path, *, skip_bad: bool = False) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError) as caught:
            prepare("imagefolder", tmp_path / "out", origin=origin, skip_bad=skip_bad)
        assert sorted(tmp_path.rglob("*")) == before
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call


def flat(folder: Path, photo: Photo, lists: dict[str, str]) -> Path:
    """Form 3: a.jpg … f.jpg and the lists."""
    for name in "abcdef":
        photo(folder / "images" / f"{name}.jpg")
    for name, text in lists.items():
        (folder / name).write_text(text)
    return folder


def test_class_folders_are_split(class_folders: Path, made: Callable[..., Prepared]) -> None:
    result = made(class_folders)
    assert (result.classes, result.images, result.findings) == (("cat", "dog"), {"train": 16, "val": 4}, {})
    assert Counter(label for _, label in read_split(result.root, "val")) == {0: 2, 1: 2}
    names = [path.relative_to(result.root / s) for s in ("train", "val") for path, _ in read_split(result.root, s)]
    assert sorted(names) == sorted(path.relative_to(class_folders) for path in class_folders.rglob("*.jpg"))
    record = json.loads((result.root / "dataset.json").read_text())
    assert record["labels"] == {"train": {"cat": 8, "dog": 8}, "val": {"cat": 2, "dog": 2}}


def test_the_split_depends_on_the_seed_only(class_folders: Path, tmp_path: Path) -> None:
    def val(name: str, seed: int) -> list[str]:
        root = prepare("imagefolder", tmp_path / name, origin=class_folders, seed=seed).root
        return (root / "val.txt").read_text().splitlines()

    assert val("a", 0) == val("b", 0)
    assert any(val("a", 0) != val(f"c{seed}", seed) for seed in (1, 2, 3))


def test_split_folders_are_taken_as_they_are(split_folders: Path, made: Callable[..., Prepared]) -> None:
    result = made(split_folders)
    assert result.images == {"train": 6, "val": 4}
    for split in ("train", "val"):
        listed = [str(path.relative_to(result.root)) for path, _ in read_split(result.root, split)]
        assert listed == [
            f"{split}/{name}/{i}.png" for name in ("cat", "dog") for i in range(3 if split == "train" else 2)
        ]


def test_images_are_linked_not_copied(class_folders: Path, made: Callable[..., Prepared]) -> None:
    result = made(class_folders)
    path, _ = read_split(result.root, "val")[0]
    assert path.samefile(class_folders / path.relative_to(result.root / "val"))
    assert not path.is_symlink()


def test_a_symbolic_link_takes_the_place_of_a_hard_one(
    class_folders: Path, made: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cross_device(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", cross_device)
    result = made(class_folders)
    path, _ = read_split(result.root, "val")[0]
    assert path.is_symlink()
    assert path.readlink().is_absolute()
    assert path.samefile(class_folders / path.relative_to(result.root / "val"))
    shutil.rmtree(class_folders / "cat")
    (class_folders / "cat").mkdir()
    with pytest.raises(InputError, match="cat"):  # dangling links are no current set
        made(class_folders)


def test_every_extension_in_any_case_and_below_subfolders(
    tmp_path: Path, photo: Photo, made: Callable[..., Prepared]
) -> None:
    folder = tmp_path / "photos"
    for name in ("1.jpg", "2.JPEG", "3.Png", "4.BMP", "sub/5.webp", "sub/1.jpg"):
        photo(folder / "cat" / name)
        photo(folder / "dog" / name)
    (folder / "cat" / "notes.txt").write_text("tabby")
    (folder / "cat" / ".DS_Store").write_bytes(b"\0")
    photo(folder / "cat" / ".ipynb_checkpoints" / "1.jpg")
    photo(folder / "__MACOSX" / "1.jpg")
    photo(folder / "stray.jpg")
    result = made(folder)
    assert result.classes == ("cat", "dog")
    assert sum(result.images.values()) == 12
    names = {path.name for split in ("train", "val") for path, label in read_split(result.root, split) if label == 0}
    assert names >= {"2.JPEG", "3.Png", "4.BMP", "5.webp", "1.jpg"}
    assert result.findings == {"ignored": ["stray.jpg", "cat/notes.txt"]}


def test_two_files_of_one_name_both_stay(tmp_path: Path, photo: Photo, made: Callable[..., Prepared]) -> None:
    for split in ("train", "val"):
        for name in ("a/1.jpg", "b/1.jpg"):
            photo(tmp_path / "photos" / split / "cat" / name)
    result = made(tmp_path / "photos")
    assert [path.name for path, _ in read_split(result.root, "train")] == ["1.jpg", "1-2.jpg"]


def test_classes_txt_gives_the_order(class_folders: Path, made: Callable[..., Prepared]) -> None:
    (class_folders / "classes.txt").write_text("dog\ncat\n")
    result = made(class_folders)
    assert result.classes == ("dog", "cat")
    assert {path.parent.name: label for path, label in read_split(result.root, "train")} == {"dog": 0, "cat": 1}


def test_lists_with_names_of_classes(tmp_path: Path, photo: Photo, made: Callable[..., Prepared]) -> None:
    lists = {
        "train.txt": "a.jpg 0\nb.jpg 1\nc.jpg 0\n",
        "val.txt": "d.jpg 1\n\n",
        "classes.txt": "n01, tench/Tinca\npug\n",
    }
    result = made(flat(tmp_path / "photos", photo, lists))
    assert result.classes == ("n01, tench/Tinca", "pug")
    assert (
        result.root / "train.txt"
    ).read_text() == "n01, tench_Tinca/a.jpg 0\npug/b.jpg 1\nn01, tench_Tinca/c.jpg 0\n"
    assert read_split(result.root, "val") == [(result.root / "val" / "pug" / "d.jpg", 1)]
    assert (result.root / "classes.txt").read_text() == lists["classes.txt"]


@pytest.mark.parametrize("name", ["ann.txt", "val.txt", "my list.txt"])
def test_one_list_is_val_and_labels_keep_their_numbers(
    name: str, tmp_path: Path, photo: Photo, made: Callable[..., Prepared]
) -> None:
    folder = flat(tmp_path / "photos", photo, {name: "a.jpg 0\nb.jpg 12\nin the sun.jpg\t24\n"})
    photo(folder / "in the sun.jpg")
    result = made(folder)
    assert result.images == {"train": 0, "val": 3}
    assert result.classes == tuple(map(str, range(25)))
    assert (result.root / "val.txt").read_text() == "0/a.jpg 0\n12/b.jpg 12\n24/in the sun.jpg 24\n"
    with pytest.raises(InputError, match="found splits: val"):
        read_split(result.root, "train")


def test_a_prepared_set_can_be_prepared(class_folders: Path, tmp_path: Path) -> None:
    first = prepare("imagefolder", tmp_path / "first", origin=class_folders)
    second = prepare("imagefolder", tmp_path / "second", origin=first.root)
    assert second.fingerprint == first.fingerprint


def spoil_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def spoil_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def spoil_by_text(path: Path) -> None:
    path.write_text("<html>404</html>")


def spoil_by_damage(path: Path) -> None:
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path, format="png")
    content = bytearray(path.read_bytes())
    content[45:60] = b"\xff" * 15
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_by_cutting, "truncated"),
        (spoil_by_emptying, "empty file"),
        (spoil_by_text, "not an image"),
        (spoil_by_damage, r"\(.+\)"),
    ],
)
def test_bad_images_are_named_or_left_out(
    spoil: Callable[[Path], None],
    reason: str,
    class_folders: Path,
    made: Callable[..., Prepared],
    refused: Callable[..., str],
) -> None:
    spoil(class_folders / "cat" / "3.jpg")
    message = refused(class_folders)
    assert "1 of 20 images cannot be read: cat/3.jpg (" in message
    assert "SKIP_BAD=1" in message
    result = made(class_folders, skip_bad=True)
    assert sum(result.images.values()) == 19
    (finding,) = result.findings["unreadable"]
    assert finding.startswith("cat/3.jpg (")
    assert list(result.findings) == ["unreadable"]
    assert re.search(reason, finding)


def test_many_bad_images_are_counted(class_folders: Path, refused: Callable[..., str]) -> None:
    for path in (class_folders / "cat").iterdir():
        path.write_text("x")
    for i in range(3):
        (class_folders / "dog" / f"{i}.jpg").write_text("x")
    message = refused(class_folders)
    assert "13 of 20" in message
    assert "and 3 more" in message
    assert "cat" in refused(class_folders, skip_bad=True)  # a class that is left empty


def test_nothing_but_bad_images(class_folders: Path, refused: Callable[..., str]) -> None:
    for path in class_folders.rglob("*.jpg"):
        path.write_text("x")
    assert "20 of 20" in refused(class_folders, skip_bad=True)


def test_an_empty_class(class_folders: Path, refused: Callable[..., str]) -> None:
    (class_folders / "owl").mkdir()
    assert "none in owl;" in refused(class_folders)


def test_a_class_of_one_image(class_folders: Path, photo: Photo, refused: Callable[..., str]) -> None:
    photo(class_folders / "owl" / "1.jpg")
    assert "none in val/owl;" in refused(class_folders)


def test_a_class_in_one_split_only(split_folders: Path, photo: Photo, refused: Callable[..., str]) -> None:
    photo(split_folders / "val" / "owl" / "1.jpg")
    photo(split_folders / "train" / "emu" / "1.jpg")
    message = refused(split_folders)
    assert "none in train/owl, val/emu;" in message


def test_a_missing_split(split_folders: Path, refused: Callable[..., str]) -> None:
    (split_folders / "val").rename(split_folders / "valid")
    assert "expected train/ and val/, found train/, valid/" in refused(split_folders)


def test_no_known_form(tmp_path: Path, photo: Photo, refused: Callable[..., str]) -> None:
    photo(tmp_path / "photos" / "1.jpg")
    assert "no class folders found; expected <class>/*.jpg" in refused(tmp_path / "photos")
    (tmp_path / "photos" / "cat").mkdir()
    assert "no images found" in refused(tmp_path / "photos")


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"train.txt": "a.jpg 0\n"}, r"found train.txt without val.txt"),
        ({"ann.txt": "a.jpg 0\nb.jpg\n"}, r"ann.txt:2: expected 'FILE LABEL'"),
        ({"ann.txt": "a.jpg cat\n"}, r"ann.txt:1: expected 'FILE LABEL'"),
        ({"ann.txt": "a.jpg -1\n"}, r"ann.txt:1: expected 'FILE LABEL'"),
        ({"ann.txt": "a.jpg 1000000000\n"}, r"ann.txt:1: label 1000000000; expected a class number below"),
        ({"ann.txt": "../a.jpg 0\n"}, r"leads out of the folder"),
        ({"ann.txt": "/a.jpg 0\n"}, r"leads out of the folder"),
        ({"ann.txt": "a.jpg 0\ngone.jpg 0\n"}, r"1 of 2 images cannot be read: gone.jpg \(No such file"),
        ({"ann.txt": ""}, r"no images found"),
        ({"ann.txt": "a.jpg 2\n", "classes.txt": "cat\ndog\n"}, r"label 2 has no name: classes.txt has 2 lines"),
        ({"ann.txt": "a.jpg 1\n", "classes.txt": "cat\ncat\n"}, r"class names must differ; twice: cat"),
        ({"ann.txt": "a.jpg 2\n", "classes.txt": "cat\n\ndog\n"}, r"class names must be one line of text"),
    ],
)
def test_bad_lists(
    lists: dict[str, str], expected: str, tmp_path: Path, photo: Photo, refused: Callable[..., str]
) -> None:
    assert re.search(expected, refused(flat(tmp_path / "photos", photo, lists)))


def test_a_list_that_is_not_utf8(tmp_path: Path, photo: Photo, refused: Callable[..., str]) -> None:
    folder = flat(tmp_path / "photos", photo, {})
    (folder / "ann.txt").write_bytes("Käse.jpg 0\n".encode("latin-1"))
    assert "expected UTF-8 text" in refused(folder)


def test_classes_txt_that_differs_from_the_folders(class_folders: Path, refused: Callable[..., str]) -> None:
    (class_folders / "classes.txt").write_text("cat\nemu\n")
    assert "they differ in: dog, emu" in refused(class_folders)


def test_a_copy_in_both_splits_is_reported(split_folders: Path, made: Callable[..., Prepared]) -> None:
    assert "leaks" not in made(split_folders).findings
    shutil.copy(split_folders / "train" / "cat" / "0.png", split_folders / "val" / "cat" / "copy.png")
    assert made(split_folders).findings == {"leaks": ["train/cat/0.png = val/cat/copy.png"]}


def test_own_split_never_parts_copies(class_folders: Path, tmp_path: Path) -> None:
    for i in range(10):
        shutil.copy(class_folders / "cat" / f"{i}.jpg", class_folders / "cat" / f"copy {i}.jpg")
    for seed in range(5):
        result = prepare("imagefolder", tmp_path / "out", origin=class_folders, seed=seed)
        assert "leaks" not in result.findings
        assert result.images == {"train": 24, "val": 6}


def test_one_image_under_two_labels_is_reported(class_folders: Path, made: Callable[..., Prepared]) -> None:
    shutil.copy(class_folders / "cat" / "0.jpg", class_folders / "dog" / "is it.jpg")
    assert made(class_folders).findings == {"conflicts": ["cat/0.jpg (cat) = dog/is it.jpg (dog)"]}


@pytest.mark.data
def test_real_flowers(real_data: Path, tmp_path: Path) -> None:
    result = prepare("flowers", tmp_path / "out", origin=real_data / "flowers5")
    assert result.images == {"train": 400, "val": 100}
    for split, expected in (("train", 80), ("val", 20)):
        assert Counter(label for _, label in read_split(result.root, split)) == dict.fromkeys(range(5), expected)


@pytest.mark.data
def test_real_flowers_split_here(real_data: Path, tmp_path: Path) -> None:
    result = prepare("imagefolder", tmp_path / "out", origin=real_data / "flowers5" / "train")
    assert result.images == {"train": 320, "val": 80}


@pytest.mark.data
def test_real_imagenet_list(real_data: Path, tmp_path: Path) -> None:
    result = prepare("imagefolder", tmp_path / "out", origin=real_data / "imagenet_sample")
    assert result.images == {"train": 0, "val": 84}
    listed = {path.name: label for path, label in read_split(result.root, "val")}
    lines = (real_data / "imagenet_sample" / "ann.txt").read_text().splitlines()
    assert listed == {name: int(label) for name, label in (line.rsplit(" ", 1) for line in lines)}
