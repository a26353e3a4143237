"""Label maps: images whose every pixel has a class. A set that holds them has, beside its other files:

    OUT/{train,val}/NAME             the images, names unique up to the suffix
    OUT/labels/{train,val}/STEM.png  indexed PNG of the image's size: 0..C-1 = class, 255 = ignore
    OUT/labels/{train,val}.txt       one image a line, relative to OUT/{train,val}
    OUT/labels/classes.json          [{"name": "background", "color": [0, 0, 0]}, …], RGB; index = class; at most 255

The image's size is the one after its EXIF orientation, as OpenCV and mmcv decode it.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.data import SPLITS
from train.errors import InputError

FOLDER = "labels"
CLASSES = "classes.json"
IGNORE = 255
MAX_CLASSES = 255  # 0..254


@dataclass(frozen=True)
class Class:
    """A class of label maps: its name and its colour, RGB."""

    name: str
    color: tuple[int, int, int]


def read_classes(root: Path) -> tuple[Class, ...]:
    """The classes of a prepared set's label maps; index = label.

    Raises:
        InputError: the set has no label maps, or its list of classes is damaged.
    """
    path = root / FOLDER / CLASSES
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(Class(str(entry["name"]), rgb(entry["color"])) for entry in entries)
    except FileNotFoundError:
        raise InputError(
            f"{path}: missing; expected a set with label maps, such as the sources voc, masks, labelme make"
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path}: expected [{{"name": …, "color": [r, g, b]}}, …] ({error}); prepare the set again')


def read_split(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Image and label map of each line of a split's list: absolute paths, in the list's order.

    Raises:
        InputError: the set has no such split, or no label maps.
    """
    path = root / FOLDER / f"{split}.txt"
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        found = ", ".join(s for s in SPLITS if path.with_name(f"{s}.txt").is_file()) or "none"
        raise InputError(f"{path}: missing; expected a set with label maps and this split, found splits: {found}")
    images, maps = (root / split).absolute(), path.with_suffix("").absolute()
    return [(images / name, maps / Path(name).with_suffix(".png").name) for name in names]


def load(path: Path) -> NDArray[np.uint8]:
    """A label map, uint8 H×W: the indices of an indexed PNG or the values of a grey one.

    Raises:
        InputError: no image, or one of colours.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise InputError(f"{path}: expected an indexed or grey 8-bit image, found mode {image.mode}")
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: no readable label map ({error}); prepare the set again")


def save(path: Path, labels: NDArray[np.uint8], classes: Sequence[Class]) -> bytes:
    """Write a label map (uint8 H×W) as an indexed PNG in the classes' colours; returns its content."""
    from PIL import Image

    colours = palette()
    colours[: len(classes)] = [each.color for each in classes]
    indexed = Image.fromarray(labels)
    indexed.putpalette(colours.ravel().tolist())  # turns a grey image into an indexed one
    buffer = io.BytesIO()
    indexed.save(buffer, format="png")
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def write_lists(root: Path, classes: Sequence[Class], names: dict[str, list[str]]) -> None:
    """Write `labels/classes.json`, and a list for each split that has images (split → file names)."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / CLASSES).write_text(json.dumps([asdict(each) for each in classes], ensure_ascii=False), encoding="utf-8")
    for split, listed in names.items():
        if listed:
            (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")


def palette() -> NDArray[np.uint8]:
    """PASCAL VOC's colours, 256×3 RGB: the bits of an index are dealt out to the channels' high bits in turn."""
    colours = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            colours[index, bit % 3] |= np.uint8((index >> bit & 1) << (7 - bit // 3))
    return colours


def coloured(names: Sequence[str]) -> tuple[Class, ...]:
    """Classes of these names in PASCAL VOC's colours."""
    return tuple(Class(name, rgb(colour)) for name, colour in zip(names, palette().tolist(), strict=False))


def rgb(values: Sequence[int]) -> tuple[int, int, int]:
    """A colour.

    Raises:
        ValueError: not three whole numbers from 0 to 255.
    """
    if len(values) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in values):
        raise ValueError(f"expected three numbers from 0 to 255, found {list(values)}")
    red, green, blue = values
    return red, green, blue
