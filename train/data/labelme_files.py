"""labelme's JSON files, in labelme's own format (https://github.com/wkentaro/labelme)."""

import base64
import binascii
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.shapes import FARTHEST, FLAT, Shape

#: How many points a shape has: fewest and most.
POINTS = {"polygon": (3, math.inf), "rectangle": (2, 2), "circle": (2, 2), "mask": (2, 2)}


@dataclass(frozen=True)
class Labelling:
    """A file: the path of its image as it stands there, the image itself where it is embedded, its size, its shapes."""

    image_path: str
    embedded: str | None
    size: tuple[int, int] | None  # height, width
    shapes: tuple[Shape, ...]


def read_labelling(path: Path) -> Labelling | None:
    """Read a file; None where it is JSON of something else.

    Raises:
        ValueError: what is wrong with it, one fault after the other.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"no readable JSON: {error}")
    if not isinstance(content, dict) or not {"shapes", "imagePath"} <= content.keys():
        return None
    if not isinstance(content["shapes"], list) or not isinstance(content["imagePath"], str):
        raise ValueError("expected 'shapes' to be a list and 'imagePath' a text")
    shapes, faults = [], []
    for number, entry in enumerate(content["shapes"], start=1):
        try:
            shapes.append(_shape(number, entry))
        except ValueError as error:
            faults.append(f"shape {number}: {error}")
    if faults:
        raise ValueError("; ".join(faults))
    size = (content.get("imageHeight"), content.get("imageWidth"))
    height, width = (side if isinstance(side, int) else 0 for side in size)
    return Labelling(
        content["imagePath"],
        content.get("imageData") or None,
        (height, width) if height > 0 and width > 0 else None,
        tuple(shapes),
    )


def _shape(number: int, entry: Any) -> Shape:
    if not isinstance(entry, dict) or not isinstance(entry.get("label"), str) or not entry["label"].strip():
        raise ValueError("has no label")
    kind = entry.get("shape_type") or "polygon"
    if not isinstance(kind, str) or (kind not in POINTS and kind not in FLAT):
        raise ValueError(f"type '{kind}' is not known; expected one of {', '.join((*POINTS, *FLAT))}")
    try:
        points = tuple((float(x), float(y)) for x, y in entry["points"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError("its points are no list of [x, y]")
    if not all(abs(value) < FARTHEST for point in points for value in point):
        raise ValueError(f"a coordinate is no number below {FARTHEST:.0e}")
    fewest, most = POINTS.get(kind, (0, math.inf))
    if not fewest <= len(points) <= most:
        raise ValueError(f"{kind} '{entry['label']}' has {len(points)} points; it needs {fewest}")
    group = entry.get("group_id")
    if group is not None and not isinstance(group, int):
        raise ValueError(f"group_id {group!r} is no number")
    return Shape(number, entry["label"], kind, points, group, _mask(entry) if kind == "mask" else None)


def _mask(entry: dict[str, Any]) -> NDArray[np.bool_]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(entry["mask"]))) as image:
            return np.asarray(image.convert("L")) > 0
    except (KeyError, TypeError, binascii.Error, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"its mask is no readable image ({error})")
