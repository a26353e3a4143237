"""Label maps as others store them: indexed or grey images whose values are the labels, or images in class colours."""

import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from train.data import walk
from train.data.image_files import some
from train.data.label_maps import IGNORE
from train.data.legend import Legend
from train.data.progress import track
from train.data.segmented import SKIP, LabelMapError
from train.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

LOSSLESS = {".png", ".bmp", ".tif", ".tiff"}
COLOURS = "give every class its colour: classes.txt with lines 'NAME R G B', '__ignore__ R G B' for pixels to ignore"
ORDER = (
    "put the classes into the order of the indices, or save the masks as RGB (read by colour) or grey (read by value)"
)


def reader(path: Path, legend: Legend) -> partial[NDArray[np.uint8]]:
    """What draws an image's label map from its mask file (see `Segmented.draw`)."""
    return partial(_draw, path, legend)


def read_mask(path: Path, legend: Legend) -> NDArray[np.uint8]:
    """Read a mask file as labels, uint8 H×W.

    An indexed image's indices are the labels; its own palette must not contradict the legend's colours. A grey image's
    values are the labels, unless all the legend's colours are grey. Other images are read by the legend's colours.

    Raises:
        LabelMapError: an unreadable file, a colour of no class, a value above 255, a palette that contradicts the legend.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return _labels(image, legend)
    except FileNotFoundError:
        raise LabelMapError("missing", "add the label map, or take its image away")
    except Image.UnidentifiedImageError:
        raise LabelMapError("not an image", SKIP, unreadable=True)
    # What Pillow's decoders raise on damaged content.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error, zlib.error) as error:
        raise LabelMapError(f"damaged: {error}", SKIP, unreadable=True)
    except Image.DecompressionBombError as error:
        raise LabelMapError(str(error), SKIP, unreadable=True)


def top_label(paths: Sequence[Path]) -> int:
    """The highest label below 255 in any of the masks that can be read by value; -1 without any."""

    def top(path: Path) -> int:
        try:
            labels = read_mask(path, Legend(()))
        except LabelMapError:
            return -1
        return int(labels[labels != IGNORE].max(initial=0))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return max(track(pool.map(top, paths), len(paths), "reading labels"), default=-1)


def by_stem(folder: Path, extensions: Set[str]) -> dict[str, Path]:
    """The files of a folder and those below it: path without folder and ending → path.

    Raises:
        InputError: two files that differ in their ending only.
    """
    found: dict[str, Path] = {}
    for path in walk(folder):
        if path.suffix.lower() in extensions:
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                raise InputError(
                    f"{folder}: {found[stem].name} and {path.name} differ in their ending only; rename one"
                )
            found[stem] = path
    return found


def incomplete(names: Iterable[str], images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[str]:
    """A line for each name that has no image or no mask."""
    lines = []
    for name in names:
        lacks = [kind for kind, files in (("image", images), ("label map", masks)) if name not in files]
        if lacks:
            lines.append(f"{name} (no {', no '.join(lacks)})")
    return lines


def _draw(path: Path, legend: Legend, height: int, width: int) -> NDArray[np.uint8]:
    return read_mask(path, legend)


def _labels(image: "Image.Image", legend: Legend) -> NDArray[np.uint8]:
    if image.mode == "P":
        indices = np.asarray(image)
        _check_palette(image.getpalette() or [], indices, legend)
        return indices
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in ("L", "I", "I;16", "I;16B"):
        values = np.asarray(image)
        if values.max(initial=0) > IGNORE or values.min(initial=0) < 0:
            raise LabelMapError(f"values from {values.min()} to {values.max()}", "labels are 0..254, 255 = ignore")
        grey = legend.coloured and all(len(set(colour)) == 1 for colour in legend.colours)
        return _by_colour(np.stack([values] * 3, axis=-1), legend) if grey else values.astype(np.uint8)
    pixels = np.asarray(image.convert("RGB"))
    if not legend.coloured and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0])
    return _by_colour(pixels, legend)


def _by_colour(pixels: NDArray[np.integer], legend: Legend) -> NDArray[np.uint8]:
    if not legend.coloured:
        raise LabelMapError("holds colours, and the classes have none", COLOURS)
    known = sorted((_code(np.array(colour)), label) for colour, label in legend.colours.items())
    codes, labels = np.array([code for code, _ in known]), np.array([label for _, label in known], np.uint8)
    found = _code(pixels.astype(np.int32))
    place = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
    strange = found[codes[place] != found]
    if strange.size:
        values, counts = np.unique(strange, return_counts=True)
        lines = [f"{_rgb(values[i])} in {counts[i]} pixels" for i in np.argsort(-counts, kind="stable")]
        raise LabelMapError(f"colour {some(lines)}, of no class", f"{COLOURS}; edges must not be smoothed")
    return labels[place]


def _check_palette(flat: list[int], indices: NDArray[np.uint8], legend: Legend) -> None:
    """An index drawn in another class' colour means that indices and classes are in different orders."""
    if not legend.coloured:
        return
    own = [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3)]
    present = [int(i) for i in np.unique(indices) if i < min(len(own), len(legend.classes))]
    wrong = [
        f"index {i} has the colour of '{legend.classes[other].name}', not of '{legend.classes[i].name}'"
        for i in present
        if (other := legend.colours.get(own[i], i)) not in (i, IGNORE)
    ]
    if wrong:
        raise LabelMapError(f"palette: {some(wrong)}", ORDER)


def _code(pixels: NDArray[np.integer]) -> NDArray[np.integer]:
    return pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]


def _rgb(code: int) -> tuple[int, int, int]:
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255
