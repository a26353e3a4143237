"""The embedded digits."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from train.data import prepare, read_split
from train.data.image_files import stratified_split


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare("digits", tmp_path_factory.mktemp("data") / "digits").root


def test_layout_and_counts(digits: Path) -> None:
    lists = {split: read_split(digits, split) for split in ("train", "val")}
    assert {split: len(pairs) for split, pairs in lists.items()} == {"train": 1438, "val": 359}
    assert (digits / "classes.txt").read_text().split() == list("0123456789")
    for split, pairs in lists.items():
        assert {path for path, _ in pairs} == set((digits / split).rglob("*.png"))
        assert all(path.parent.name == str(label) for path, label in pairs)


def test_a_fifth_of_each_class_is_val(digits: Path) -> None:
    expected = {label: round(0.2 * n) for label, n in Counter(load_digits().target.tolist()).items()}
    assert Counter(label for _, label in read_split(digits, "val")) == expected


def test_every_digit_is_in_one_split_under_its_label(digits: Path) -> None:
    named = {split: [int(path.stem) for path, _ in read_split(digits, split)] for split in ("train", "val")}
    assert sorted(named["train"] + named["val"]) == list(range(1797))
    target = load_digits().target
    assert all(target[int(path.stem)] == label for path, label in read_split(digits, "val"))


def test_images_show_the_digits(digits: Path) -> None:
    original = load_digits().images
    for path, _ in read_split(digits, "val")[:20]:
        image = Image.open(path)
        assert (image.size, image.mode) == ((32, 32), "L")
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX)) * (16 / 255)
        assert np.corrcoef(small.ravel(), original[int(path.stem)].ravel())[0, 1] > 0.95


def test_a_seed_gives_the_same_bytes_and_another_seed_another_split(
    digits: Path, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    again = prepare("digits", tmp_path / "again")
    assert contents(again.root) == contents(digits)
    other = prepare("digits", tmp_path / "other", seed=1)
    assert other.fingerprint != again.fingerprint
    assert other.images == again.images
    assert (other.root / "val.txt").read_text() != (digits / "val.txt").read_text()


def test_split_keeps_equal_images_together() -> None:
    keys = ["a", "a", "b", "c", "d", "e", "f", "g", "h", "a"]
    for seed in range(50):
        in_val = stratified_split(keys, [0] * 9 + [1], seed=seed)
        assert len({side for key, side in zip(keys, in_val, strict=True) if key == "a"}) == 1
        assert sum(in_val[:9]) >= 1


def test_split_does_not_depend_on_order() -> None:
    keys, labels = [str(i) for i in range(100)], [i % 3 for i in range(100)]
    forward = dict(zip(keys, stratified_split(keys, labels, seed=7), strict=True))
    backward = dict(zip(keys[::-1], stratified_split(keys[::-1], labels[::-1], seed=7), strict=True))
    assert forward == backward


@pytest.mark.parametrize(("images", "val"), [(1, 0), (2, 1), (3, 1), (5, 1), (10, 2), (178, 36)])
def test_split_sizes(images: int, val: int) -> None:
    assert sum(stratified_split([str(i) for i in range(images)], [0] * images, seed=0)) == val


def test_split_of_copies_only() -> None:
    assert sorted(stratified_split(["a", "a", "a", "b", "b"], [0] * 5, seed=0)) == [False] * 3 + [True] * 2
