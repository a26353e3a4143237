"""COCO instances, as `OUT/annotations/instances_{train,val}.json`: https://cocodataset.org/#format-data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.files import write_json

#: What pycocotools calls a compressed run-length encoding: {"size": [H, W], "counts": bytes}.
Rle = dict[str, Any]


def encode(mask: NDArray[np.bool_]) -> Rle:
    """The run-length encoding of a mask, H×W."""
    from pycocotools import mask as coco_mask

    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


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
    coco = {
        "info": {"description": f"{what}, {split}"},
        "images": images,
        "annotations": [{"id": i, **each} for i, each in enumerate(found, start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, start=1)],
    }
    write_json(folder / "annotations" / f"instances_{split}.json", coco)
