"""COCO's annotation files: read, checked entry by entry, and what they say of one image.

What would mislead training or its measure in silence is refused: mmdet leaves out annotations of unknown categories, takes
a box of NaN, and pycocotools lets the last of two equal numbers win.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from train.data.detected import Objects
from train.data.image_files import some
from train.data.instances import run_lengths
from train.data.shapes import FARTHEST
from train.errors import InputError

PARTS = ("images", "annotations", "categories")
Entry = dict[str, Any]


@dataclass(frozen=True)
class Annotations:
    """A file: its path, its name in messages, its entries, and the annotations of each image."""

    path: Path
    name: str
    images: list[Entry]
    categories: list[Entry]
    of_image: dict[int, list[Entry]]


def read_annotations(path: Path, origin: Path) -> Annotations:
    """Read and check a file.

    Raises:
        InputError: all that is wrong with it, the first faults with the numbers of their entries.
    """
    name = path.relative_to(origin).as_posix()
    content = _read(path, name)
    images, annotations, categories = (content[part] for part in PARTS)
    faults = [*_twice(images, "image"), *_twice(categories, "category"), *_twice(annotations, "annotation")]
    faults += [fault for each in categories for fault in _category(each)]
    named = Counter(str(each["name"]) for each in categories if each.get("name") is not None)
    faults += [f"{n} categories are called '{called}'" for called, n in named.items() if n > 1]
    faults += [fault for each in images for fault in _image(each)]
    sizes = {each.get("id"): (each.get("height"), each.get("width")) for each in images if _is_id(each.get("id"))}
    known = {each["id"] for each in categories if _is_id(each.get("id"))}
    faults += [
        f"annotation {each.get('id')}: {fault}" for each in annotations for fault in _annotation(each, sizes, known)
    ]
    if faults:
        raise InputError(f"{path}: {len(faults)} faults: {some(faults, ' | ')}; mend the file or export it again")
    of_image: dict[int, list[Entry]] = {}
    for each in annotations:
        of_image.setdefault(each["image_id"], []).append(each)
    return Annotations(path, name, images, [{**each, "name": str(each["name"])} for each in categories], of_image)


def objects(annotations: Sequence[Entry], height: int, width: int) -> Objects:
    """What is in an image of this size: boxes cut to it, those without an area left out.

    A box may reach a pixel beyond the image, as rounded ones do, and stays as it is.
    """
    kept = []
    findings: dict[str, list[str]] = {"outside": [], "flat": []}
    for each in annotations:
        left, top, across, down = each["bbox"]
        right, bottom = left + across, top + down
        if left < -1 or top < -1 or right > width + 1 or bottom > height + 1:
            findings["outside"].append(f"annotation {each['id']}")
            left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
            each = {**each, "bbox": [left, top, right - left, bottom - top]}
        if right <= left or bottom <= top:
            findings["flat"].append(f"annotation {each['id']}")
            continue
        kept.append({**each, "area": _area(each, height, width), "iscrowd": int(each.get("iscrowd", 0))})
    return Objects(kept, findings)


def _read(path: Path, name: str) -> dict[str, list[Entry]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no readable JSON: {error}") from None
    if not isinstance(content, dict) or not set(PARTS) <= content.keys():
        raise InputError(f"{path}: no COCO annotations; expected an object with {', '.join(PARTS)}")
    for part in PARTS:
        if not isinstance(content[part], list) or not all(isinstance(each, dict) for each in content[part]):
            raise InputError(f"{path}: '{part}' is no list of objects; export {name} again")
        if not content[part]:
            raise InputError(f"{path}: '{part}' is empty; nothing can be learned or measured on it")
    return content


def _twice(entries: Sequence[Entry], what: str) -> Iterator[str]:
    numbers = [each.get("id") for each in entries]
    odd = [number for number in numbers if not _is_id(number)]
    if odd:
        yield f"{len(odd)} entries: {what} id {odd[0]!r} is no whole number"
    for number, times in Counter(number for number in numbers if _is_id(number)).items():
        if times > 1:
            yield f"{what} id {number} is there {times} times"


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _category(entry: Entry) -> Iterator[str]:
    if not str(entry.get("name") or "").strip():
        yield f"category {entry.get('id')} has no name"


def _image(entry: Entry) -> Iterator[str]:
    if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
        yield f"image {entry.get('id')} has no file_name"
    for side in ("height", "width"):
        if side in entry and not (_is_id(entry[side]) and entry[side] > 0):
            yield f"image {entry.get('id')}: {side} {entry[side]!r}, expected pixels"


def _annotation(entry: Entry, sizes: dict[Any, Any], categories: set[int]) -> Iterator[str]:
    image, category = entry.get("image_id"), entry.get("category_id")
    if not _is_id(image) or image not in sizes:
        yield f"image {image!r} is not among the file's images"
    if not _is_id(category) or category not in categories:
        yield f"category {category!r} is not among the file's categories"
    box = entry.get("bbox")
    if not _numbers(box) or len(box) != 4:
        yield f"bbox {box}, expected four finite numbers: x, y, width, height"
    elif box[2] < 0 or box[3] < 0:
        yield f"bbox {box} has a negative size"
    if "area" in entry and not (_numbers([entry["area"]]) and entry["area"] >= 0):
        yield f"area {entry['area']!r}, expected pixels"
    if entry.get("iscrowd", 0) not in (0, 1):
        yield f"iscrowd {entry['iscrowd']!r}, expected 0 or 1"
    if entry.get("segmentation"):
        yield from _segmentation(entry["segmentation"], sizes.get(image) if _is_id(image) else None)


def _segmentation(value: Any, size: Any) -> Iterator[str]:
    if isinstance(value, dict):
        stated = value.get("size")
        if not isinstance(value.get("counts"), str | list) or not _numbers(stated) or len(stated) != 2:
            yield "run lengths without counts and size"
        elif size is not None and None not in size and tuple(stated) != tuple(size):
            yield f"run lengths of {stated[1]}×{stated[0]} pixels in an image of {size[1]}×{size[0]}"
        elif not _fills(value["counts"], stated):
            yield f"run lengths that do not fill {stated[1]}×{stated[0]} pixels"
    elif not isinstance(value, list):
        yield f"segmentation is {type(value).__name__}, expected polygons or run lengths"
    else:
        for polygon in value:
            if not _numbers(polygon) or len(polygon) % 2:
                yield "a polygon is no list of finite numbers x, y, x, y, …"
            elif len(polygon) < 6:
                yield f"a polygon of {len(polygon) // 2} points, expected 3 or more"
            elif not all(abs(each) < FARTHEST for each in polygon):
                yield f"a polygon's coordinate is no number below {FARTHEST:.0e}"


def _numbers(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and all(
        isinstance(each, int | float) and not isinstance(each, bool) and abs(each) <= sys.float_info.max
        for each in value
    )


def _fills(counts: str | list[Any], size: Sequence[float]) -> bool:
    """Whether run lengths are as many pixels as the mask has; pycocotools reads on beyond those that are not."""
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    return all(_is_id(run) and run >= 0 for run in runs) and all(map(_is_id, size)) and sum(runs) == size[0] * size[1]


def _decompressed(text: str) -> list[int]:
    """The numbers of a compressed text, 5 bits a character; from the third on, what they exceed the last but one by.

    As `rleFrString` of pycocotools' `maskApi.c`. [-1] where the text is none.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if not shift else [-1]


def _area(entry: Entry, height: int, width: int) -> float:
    """The stated area, else the mask's, else the box's."""
    if "area" in entry:
        return float(entry["area"])
    if not entry.get("segmentation"):
        return float(entry["bbox"][2] * entry["bbox"][3])
    from pycocotools import mask as coco_mask

    return float(coco_mask.area(run_lengths(entry["segmentation"], height, width)))
