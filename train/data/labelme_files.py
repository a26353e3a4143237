"""labelme's JSON files: what they say, and which pixels their shapes cover.

The format is labelme's own (https://github.com/wkentaro/labelme); coordinates are pixels from the image's top left
corner, so that a pixel's middle lies at +0.5. Polygons are filled as pycocotools fills COCO's.
"""

import base64
import binascii
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.instances import Rle, encode

#: Shapes that cover no area.
FLAT = ("point", "points", "line", "linestrip")
#: How many points a shape has: fewest and most.
POINTS = {"polygon": (3, math.inf), "rectangle": (2, 2), "circle": (2, 2), "mask": (2, 2)}
FARTHEST = 1e6  # pixels
Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """A labelled shape.

    Attributes:
        number: its place in the file, from 1.
        kind: labelme's `shape_type`.
        points: x, y; of a circle its middle and a point on its edge; of a rectangle or mask two opposite corners.
        group: shapes of one label and group are one instance; None stands alone.
        mask: of a `mask`: bool, from its upper left corner on.
    """

    number: int
    label: str
    kind: str
    points: tuple[Point, ...]
    group: int | None = None
    mask: NDArray[np.bool_] | None = None

    def __str__(self) -> str:
        return f"shape {self.number}, {self.kind} '{self.label}'"


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
    if kind not in POINTS and kind not in FLAT:
        raise ValueError(f"type '{kind}' is not known; expected one of {', '.join((*POINTS, *FLAT))}")
    try:
        points = tuple((float(x), float(y)) for x, y in entry["points"])
    except (KeyError, TypeError, ValueError):
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


def outline(shape: Shape, height: int, width: int) -> list[float]:
    """A polygon or rectangle as COCO's x0, y0, x1, y1, …, cut to the image; empty where nothing of it is inside.

    The cut is Sutherland and Hodgman's (Communications of the ACM 17(1), 1974).
    """
    points: Sequence[Point] = shape.points
    if shape.kind == "rectangle":
        (left, top), (right, bottom) = points
        points = ((left, top), (right, top), (right, bottom), (left, bottom))
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        points = _cut(points, axis, limit, sign)
    return [value for point in points for value in point] if len(points) > 2 else []


def reaches_beyond(shape: Shape, height: int, width: int) -> bool:
    """Whether a shape's points are more than a pixel outside the image."""
    points = shape.points
    if shape.kind == "circle":
        (x, y), radius = points[0], math.dist(*points)
        points = ((x - radius, y - radius), (x + radius, y + radius))
    return any(not (-1 <= x <= width + 1 and -1 <= y <= height + 1) for x, y in points)


def cover(shape: Shape, height: int, width: int) -> Rle:
    """The pixels of an image that a shape covers."""
    from pycocotools import mask as coco_mask

    if shape.kind == "circle":
        return encode(_disc(*shape.points[0], math.dist(*shape.points), height, width))
    if shape.mask is not None:
        return encode(_pasted(shape.mask, shape.points, height, width))
    polygon = outline(shape, height, width)
    if not polygon:
        return encode(np.zeros((height, width), bool))
    return coco_mask.frPyObjects([polygon], height, width)[0]


def _cut(points: Sequence[Point], axis: int, limit: float, sign: int) -> list[Point]:
    """The part of a polygon where sign · (coordinate - limit) ≥ 0."""
    kept: list[Point] = []
    for a, b in zip([*points[-1:], *points[:-1]], points, strict=True):
        before, after = sign * (a[axis] - limit), sign * (b[axis] - limit)
        if (before < 0) != (after < 0):
            part = before / (before - after)
            crossing = [a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])]
            crossing[axis] = limit
            kept.append((crossing[0], crossing[1]))
        if after >= 0:
            kept.append(b)
    return kept


def _disc(x: float, y: float, radius: float, height: int, width: int) -> NDArray[np.bool_]:
    across, down = np.arange(width) + 0.5 - x, np.arange(height) + 0.5 - y
    return across**2 + down[:, None] ** 2 <= radius**2


def _pasted(mask: NDArray[np.bool_], points: Sequence[Point], height: int, width: int) -> NDArray[np.bool_]:
    whole = np.zeros((height, width), bool)
    left, top = (round(min(point[axis] for point in points)) for axis in (0, 1))
    inside = mask[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    rows, columns = inside.shape
    whole[max(top, 0) : max(top, 0) + rows, max(left, 0) : max(left, 0) + columns] = inside
    return whole
