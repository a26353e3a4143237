"""Small image folders and label maps to prepare."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data import prepare
from train.errors import InputError


@pytest.fixture
def photo(tmp_path: Path) -> Callable[[Path], Path]:
    """Write a 24×20 image of noise; every path gives another image, the same in every run."""

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Splits follow from the images' bytes: the number that pytest gives to its folder must not count.
        seed = int.from_bytes(hashlib.sha256(os.path.relpath(path, tmp_path).encode()).digest()[:8], "big")
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def class_folders(tmp_path: Path, photo: Callable[[Path], Path]) -> Path:
    """Form 1: cat and dog, ten images each."""
    for name in ("cat", "dog"):
        for i in range(10):
            photo(tmp_path / "photos" / name / f"{i}.jpg")
    return tmp_path / "photos"


@pytest.fixture
def split_folders(tmp_path: Path, photo: Callable[[Path], Path]) -> Path:
    """Form 2: cat and dog, three images each in train, two in val."""
    for split, images in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            for i in range(images):
                photo(tmp_path / "photos" / split / name / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def mask() -> Callable[..., Path]:
    """Write a 24×20 mask whose upper half is the first value (or RGB colour) and whose lower half the second."""

    def write(path: Path, *halves: int | tuple[int, int, int], palette: list[int] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.repeat(np.array(halves or (0, 1), np.uint8), 20 // max(len(halves), 2), axis=0)
        image = Image.fromarray(np.stack([pixels] * 24, axis=1))
        if palette:
            image.putpalette(palette)
        image.save(path)
        return path

    return write


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Prepare a folder that must be refused and leave nothing behind; returns the message."""

    def call(source: str, origin: Path, **options: bool) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError) as caught:
            prepare(source, tmp_path / "out", origin=origin, **options)
        assert sorted(tmp_path.rglob("*")) == before
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Relative path → bytes of every file of a folder."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
