"""Shapes that people draw over images: which pixels they cover, and the COCO instances they make.

Coordinates are pixels from the image's upper left corner, so that a pixel's middle lies at +0.5. Polygons are filled as
pycocotools fills COCO's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.instances import Rle, encode, instance

#: Shapes that cover no area.
FLAT = ("point", "points", "line", "linestrip")
FARTHEST = 1e6  # pixels; a coordinate beyond is a mistake
Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """A labelled shape.

    Attributes:
        number: its place in the file, from 1.
        kind: polygon, rectangle, circle, mask, or one of `FLAT`.
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


def instances(
    shapes: Sequence[Shape], category: Mapping[str, int], image: int, height: int, width: int
) -> list[dict[str, Any]]:
    """The COCO annotations, without their `id`s, of the shapes whose label is a category; flat and empty ones give none."""
    from pycocotools import mask as coco_mask

    members: dict[tuple[str, bool, int], list[Shape]] = {}
    for shape in shapes:
        if shape.kind not in FLAT and shape.label in category:
            alone = shape.group is None
            number = shape.number if shape.group is None else shape.group
            members.setdefault((shape.label, alone, number), []).append(shape)
    found = []
    for (label, _, _), parts in members.items():
        rle = coco_mask.merge([cover(shape, height, width) for shape in parts])
        if coco_mask.area(rle):
            drawn = all(shape.kind in ("polygon", "rectangle") for shape in parts)
            outlines = [outline(shape, height, width) for shape in parts] if drawn else []
            found.append(instance(rle, image, category[label], [points for points in outlines if points]))
    return found


def odd(shapes: Sequence[Shape], height: int, width: int) -> dict[str, list[Shape]]:
    """The shapes that a person should look at again, by kind of finding."""
    from pycocotools import mask as coco_mask

    solid = [shape for shape in shapes if shape.kind not in FLAT]
    empty = [shape for shape in solid if not coco_mask.area(cover(shape, height, width))]
    return {
        "outside": [shape for shape in solid if reaches_beyond(shape, height, width)],
        "flat": [*(shape for shape in shapes if shape.kind in FLAT), *empty],
    }


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
