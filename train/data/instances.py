"""COCO instances, as `OUT/annotations/instances_{train,val}.json`: https://cocodataset.org/#format-data.

The images lie in `OUT/{train,val}`. A class' label is its place among the file's `categories`, which is mmdet's rule.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data import SPLITS, label_maps
from train.data.label_maps import Class
from train.errors import InputError
from train.files import write_json

FOLDER = "annotations"
#: What pycocotools calls a compressed run-length encoding: {"size": [H, W], "counts": bytes}.
Rle = dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """An object of an image.

    Attributes:
        label: index of its class.
        bbox: x, y of the upper left corner, width, height; pixels.
        area: of its mask, in pixels.
        iscrowd: whether it stands for many, which count neither as found nor as missed.
        segmentation: COCO's polygons or run lengths; None where there are only boxes.
    """

    label: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: bool
    segmentation: Any


@dataclass(frozen=True)
class Labelled:
    """What is true of an image: its size and its objects; there may be none."""

    height: int
    width: int
    instances: tuple[Instance, ...]


def file_of(split: str) -> str:
    """Where a split's annotations lie in a set."""
    return f"{FOLDER}/instances_{split}.json"


def read_classes(root: Path) -> tuple[Class, ...]:
    """The classes of a prepared set's instances; index = label. The colours are VOC's, without black.

    Raises:
        InputError: the set has no instances, or its file is damaged.
    """
    split = next((split for split in SPLITS if (root / file_of(split)).is_file()), "val")
    names = [str(each["name"]) for each in _read(root, split)["categories"]]
    colours = label_maps.palette()[1:].tolist()
    return tuple(Class(name, label_maps.rgb(colours[i % len(colours)])) for i, name in enumerate(names))


def read_split(root: Path, split: str) -> list[tuple[Path, Labelled]]:
    """Each image of a split, also those without objects, by its id: absolute path and what is true of it.

    pycocotools evaluates in that order, whatever the file's: among equal scores, the first image's detection comes first.

    Raises:
        InputError: the set has no such split, or no instances.
    """
    content = _read(root, split)
    labels = {each["id"]: label for label, each in enumerate(content["categories"])}
    members: dict[int, list[Instance]] = {image["id"]: [] for image in content["images"]}
    try:
        for each in content["annotations"]:
            members[each["image_id"]].append(_instance(each, labels))
        folder = (root / split).absolute()
        return [
            (folder / image["file_name"], Labelled(image["height"], image["width"], tuple(members[image["id"]])))
            for image in sorted(content["images"], key=lambda image: image["id"])
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{root / file_of(split)}: no COCO instances ({error!r}); prepare the set again")


def encode(mask: NDArray[np.bool_]) -> Rle:
    """The run-length encoding of a mask, H×W."""
    from pycocotools import mask as coco_mask

    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def run_lengths(segmentation: Any, height: int, width: int) -> Rle:
    """COCO's polygons or run lengths, compressed or not, as one compressed run-length encoding."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str | bytes):
        return segmentation
    made = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.merge(made) if isinstance(made, list) else made


def instance(rle: Rle, image: int, category: int, polygons: Sequence[Sequence[float]] = ()) -> dict[str, Any]:
    """An annotation without its `id`: box and area of the mask, and the polygons it was drawn from if there are some."""
    from pycocotools import mask as coco_mask

    return {
        "image_id": image,
        "category_id": category,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(coco_mask.area(rle)),
        "iscrowd": 0,
        "segmentation": list(polygons) or {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
    }


def write_instances(
    folder: Path,
    split: str,
    what: str,
    classes: Sequence[str],
    images: list[dict[str, Any]],
    found: list[dict[str, Any]],
) -> None:
    """Write a split's file. The classes' numbers are from 1, as in label maps with a background; so are the `id`s."""
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    write_coco(folder, split, what, categories, images, found)


def write_coco(
    folder: Path,
    split: str,
    what: str,
    categories: list[dict[str, Any]],
    images: list[dict[str, Any]],
    found: list[dict[str, Any]],
) -> None:
    """Write a split's file; annotations that have no `id` are numbered from 1."""
    coco = {
        "info": {"description": f"{what}, {split}"},
        "images": images,
        "annotations": [{"id": i, **each} for i, each in enumerate(found, start=1)],
        "categories": categories,
    }
    write_json(folder / file_of(split), coco)


def _instance(entry: dict[str, Any], labels: dict[int, int]) -> Instance:
    x, y, width, height = map(float, entry["bbox"])
    return Instance(
        label=labels[entry["category_id"]],
        bbox=(x, y, width, height),
        area=float(entry["area"]),
        iscrowd=bool(entry.get("iscrowd", 0)),
        segmentation=entry.get("segmentation") or None,
    )


def _read(root: Path, split: str) -> dict[str, Any]:
    path = root / file_of(split)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in ("images", "annotations", "categories")}
    except FileNotFoundError:
        found = ", ".join(s for s in SPLITS if (root / file_of(s)).is_file()) or "none"
        raise InputError(f"{path}: missing; expected a set with instances and this split, found splits: {found}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no COCO instances ({error!r}); prepare the set again")
