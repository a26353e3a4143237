"""`python -m train.data.look`: a contact sheet of a prepared set, its labels drawn over the images."""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from train.cli import finish, run
from train.data import instances, label_maps, load, read_split
from train.data.instances import Labelled
from train.data.label_maps import IGNORE, Class
from train.data.progress import track
from train.errors import InputError, UsageError
from train.files import write_atomic

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Item = TypeVar("Item")
WHITE = (255, 255, 255)  # of ignored pixels
SIDE = 320  # pixels of an image's longer side on the sheet
TEXT = 14  # pixels
LINE = 20  # pixels from one line of text to the next
GAP = 8  # pixels
OPACITY = 0.5


@dataclass(frozen=True)
class Cell:
    """An image of the sheet, RGB, with the line below it; and the pixels of each label, 256, at its full size."""

    image: "Image.Image"
    caption: str
    pixels: NDArray[np.int64]


def sheet(root: Path, split: str, count: int) -> tuple["Image.Image", int]:
    """Draw up to `count` images of a split, evenly spread over it; returns the sheet and how many there are in all.

    Label maps lie over the images in the classes' colours, but for black ones, and white over ignored pixels. The legend gives each
    class' share of the pixels shown. Without label maps objects are drawn, boxes and masks, and the legend counts them. Images
    of a classification set bear their class' name.

    Raises:
        InputError: no prepared set, or one without this split.
    """
    prepared = load(root)
    if (root / label_maps.FOLDER / label_maps.CLASSES).is_file():
        classes = label_maps.read_classes(root)
        pairs = label_maps.read_split(root, split)
        shown = _spread(pairs, count)
        cells = [_overlaid(image, labels, classes) for image, labels in track(shown, len(shown), "drawing")]
        return _draw(cells, _legend(cells, classes)), len(pairs)
    if (root / instances.FOLDER).is_dir():
        classes = instances.read_classes(root)
        labelled = instances.read_split(root, split)
        chosen = _spread(labelled, count)
        cells = [_marked(image, objects, classes) for image, objects in track(chosen, len(chosen), "drawing")]
        return _draw(cells, _tally([objects for _, objects in chosen], classes)), len(labelled)
    named = [(path, prepared.classes[label]) for path, label in read_split(root, split)]
    cells = [Cell(_open(path), f"{name}  {path.name}", np.zeros(256, int)) for path, name in _spread(named, count)]
    return _draw(cells, []), len(named)


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def _open(path: Path) -> "Image.Image":
    """An image as training sees it: upright, RGB; of the size it has on the sheet."""
    import cv2
    from PIL import Image

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise InputError(f"{path}: no readable image; prepare the set again")
    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def _overlaid(path: Path, map_path: Path, classes: Sequence[Class]) -> Cell:
    from PIL import Image

    labels = label_maps.load(map_path)
    image = _open(path)
    small = np.asarray(Image.fromarray(labels).resize(image.size, Image.Resampling.NEAREST))
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(classes)] = [each.color for each in classes]
    colours[IGNORE] = WHITE
    colour = colours[small]
    opacity = np.where(colour.any(axis=-1, keepdims=True), OPACITY, 0)
    blended = np.asarray(image) * (1 - opacity) + colour * opacity
    return Cell(
        Image.fromarray(blended.round().astype(np.uint8)), path.name, np.bincount(labels.ravel(), minlength=256)
    )


def _marked(path: Path, labelled: Labelled, classes: Sequence[Class]) -> Cell:
    """An image with its objects' masks, boxes and names."""
    from PIL import Image, ImageDraw, ImageFont
    from pycocotools import mask as coco_mask

    image = _open(path)
    pixels = np.asarray(image).astype(float)
    for each in labelled.instances:
        if each.segmentation is not None:
            rle = instances.run_lengths(each.segmentation, labelled.height, labelled.width)
            mask = Image.fromarray(coco_mask.decode(rle)).resize(image.size, Image.Resampling.NEAREST)
            inside = np.asarray(mask) > 0
            pixels[inside] = pixels[inside] * (1 - OPACITY) + np.array(classes[each.label].color) * OPACITY
    image = Image.fromarray(pixels.round().astype(np.uint8))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT)
    scale = image.width / labelled.width
    for each in labelled.instances:
        x, y, width, height = (value * scale for value in each.bbox)
        draw.rectangle((x, y, x + width, y + height), outline=classes[each.label].color, width=2)
        draw.text((x + 3, y + 1), classes[each.label].name, "white", font, stroke_width=1, stroke_fill="black")
    return Cell(image, path.name, np.zeros(256, int))


def _tally(shown: Sequence[Labelled], classes: Sequence[Class]) -> list[tuple[tuple[int, int, int], str]]:
    """Colour and number of each class that is shown."""
    counts = np.bincount([each.label for objects in shown for each in objects.instances], minlength=len(classes))
    return [(each.color, f"{each.name}  {n}") for each, n in zip(classes, counts, strict=True) if n]


def _legend(cells: Sequence[Cell], classes: Sequence[Class]) -> list[tuple[tuple[int, int, int], str]]:
    """Colour and text of each class, and of ignored pixels where there are some."""
    pixels = np.sum([cell.pixels for cell in cells], axis=0)
    shares = 100 * pixels / max(1, pixels.sum())
    lines = [(each.color, f"{each.name}  {share:.1f} %") for each, share in zip(classes, shares, strict=False)]
    return [*lines, (WHITE, f"ignored  {shares[IGNORE]:.1f} %")] if pixels[IGNORE] else lines


def _draw(cells: Sequence[Cell], legend: Sequence[tuple[tuple[int, int, int], str]]) -> "Image.Image":
    """The cells in rows, each as high as its highest image, and the legend in columns below them."""
    from PIL import Image, ImageDraw, ImageFont

    columns = max(1, math.ceil(math.sqrt(len(cells))))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.image.height for cell in row) + LINE + GAP for row in rows]
    legend_rows = math.ceil(len(legend) / columns)
    result = Image.new("RGB", (GAP + columns * (SIDE + GAP), GAP + sum(heights) + legend_rows * LINE), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(TEXT)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for i, cell in enumerate(row):
            left = GAP + i * (SIDE + GAP)
            result.paste(cell.image, (left, top))
            draw.text((left, top + cell.image.height), _cut(draw, cell.caption, SIDE, font), "black", font)
        top += height
    for i, (colour, text) in enumerate(legend):
        left, line = GAP + i // legend_rows * (SIDE + GAP), top + i % legend_rows * LINE
        draw.rectangle((left, line, left + TEXT, line + TEXT), fill=colour, outline="black")
        draw.text((left + LINE, line - 1), _cut(draw, text, SIDE - LINE, font), "black", font)
    return result


def _cut(draw: "ImageDraw.ImageDraw", text: str, width: int, font: object) -> str:
    while text and draw.textlength(text, font=font) > width:  # type: ignore[arg-type]
        text = text[:-2] + "…"
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m train.data.look", description="Draw a contact sheet of a prepared set with its labels."
    )
    result.add_argument("root", type=Path, metavar="ROOT", help="a prepared set, such as work/data/digits_scenes")
    result.add_argument("--split", default="train", help="train or val (default: train)")
    result.add_argument("--count", type=int, default=16, help="images on the sheet (default: 16)")
    result.add_argument("--out", type=Path, metavar="FILE", help="PNG to write (default: ROOT-look.png, beside ROOT)")
    result.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what the command line asks for."""
    import io

    arguments = parser().parse_args(argv)
    root = arguments.root
    out = arguments.out or root.with_name(f"{root.resolve().name}-look.png")
    if arguments.count < 1:
        raise UsageError(f"--count {arguments.count}: expected 1 or more")
    if root.resolve() in out.resolve().parents:
        raise UsageError(f"{out}: lies in the prepared set, which stays as it is; choose another --out")
    image, total = sheet(root, arguments.split, arguments.count)
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    write_atomic(out, buffer.getvalue())
    shown = min(arguments.count, total)
    return finish(
        {"out": str(out), "split": arguments.split, "shown": shown, "images": total},
        as_json=arguments.json,
        lines=[f"wrote: {out} ({shown} of {total} {arguments.split} images)"],
    )


if __name__ == "__main__":
    sys.exit(run(main))
