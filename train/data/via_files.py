"""VGG Image Annotator's JSON, versions 1 and 2 (https://www.robots.ox.ac.uk/~vgg/software/via): what it says.

Both the exported annotations and a saved project are read. Coordinates are pixels from the image's upper left corner.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.data.shapes import FARTHEST, Point, Shape

#: Attributes that name a region's class where there are several, in the order of preference.
NAMING = ("class", "label", "category", "name", "object", "object_name", "type")
ELLIPSE = 72  # corners of the polygon that an ellipse becomes
Attributes = dict[str, Any]


@dataclass(frozen=True)
class Marked:
    """An image of a file: its name there, and its regions, whose labels are still to be found, with their attributes."""

    filename: str
    regions: tuple[tuple[Shape, Attributes], ...]


def read_via(path: Path) -> list[Marked] | None:
    """Read a file; None where it is JSON of something else.

    Raises:
        ValueError: what is wrong with it, one fault after the other.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"no readable JSON: {error}")
    if isinstance(content, dict):
        if {"project", "config", "attribute", "metadata"} <= content.keys():
            raise ValueError("a project of VIA 3; expected VIA 1 or 2: export it as COCO and use the source coco")
        content = content.get("_via_img_metadata", content)
    entries = list(content.values()) if isinstance(content, dict) else []
    if not entries or not all(isinstance(each, dict) and {"filename", "regions"} <= each.keys() for each in entries):
        return None
    if not all(isinstance(each["regions"], dict | list) for each in entries):
        raise ValueError("expected the regions of each image to be a list or an object")
    marked, faults = [], []
    for entry in entries:
        name = str(entry["filename"])
        regions, shapes = entry["regions"], []
        for number, region in enumerate(regions.values() if isinstance(regions, dict) else regions, start=1):
            try:
                shapes.append((_shape(number, region), _attributes(region)))
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                faults.append(f"{name}, region {number}: {_told(error)}")
        marked.append(Marked(name, tuple(shapes)))
    if faults:
        raise ValueError("; ".join(faults))
    return marked


def naming_attribute(regions: Iterable[Attributes]) -> str | None:
    """The attribute that names a region's class; None where regions have none at all.

    Raises:
        ValueError: several, none of which is called as one would.
    """
    found = list(dict.fromkeys(name for attributes in regions for name in attributes))
    if len(found) < 2:
        return found[0] if found else None
    by_name = {name.lower(): name for name in found}
    chosen = next((by_name[name] for name in NAMING if name in by_name), None)
    if chosen is None:
        raise ValueError(f"regions have the attributes {', '.join(found)}; call the one that is the class 'class'")
    return chosen


def class_of(attributes: Attributes, naming: str) -> str:
    """A region's class.

    Raises:
        ValueError: it has none, or several.
    """
    value = attributes.get(naming)
    if isinstance(value, dict):  # a checkbox
        ticked = [name for name, on in value.items() if on]
        if len(ticked) != 1:
            raise ValueError(f"'{naming}' has {len(ticked)} values, expected one")
        return ticked[0]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{naming}' is empty")
    return value.strip()


def _attributes(region: dict[str, Any]) -> Attributes:
    found = region.get("region_attributes") or {}
    if not isinstance(found, dict):
        raise ValueError("its attributes are no object")
    return found


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"no region of VIA ({error!r})"


def _shape(number: int, region: dict[str, Any]) -> Shape:
    drawn = region["shape_attributes"]
    kind = drawn["name"]
    if kind in ("polygon", "polyline"):
        points = list(zip(drawn["all_points_x"], drawn["all_points_y"], strict=True))
        if kind == "polygon" and len(points) < 3:
            raise ValueError(f"polygon of {len(points)} points; it needs 3")
        return Shape(number, "", "polygon" if kind == "polygon" else "linestrip", _points(points))
    if kind == "rect":
        x, y, width, height = (drawn[key] for key in ("x", "y", "width", "height"))
        if width < 0 or height < 0:
            raise ValueError(f"rect of {width}×{height} pixels")
        return Shape(number, "", "rectangle", _points([(x, y), (x + width, y + height)]))
    if kind == "circle":
        x, y = drawn["cx"], drawn["cy"]
        return Shape(number, "", "circle", _points([(x, y), (x + drawn["r"], y)]))
    if kind == "ellipse":
        return Shape(number, "", "polygon", _points(_ellipse(drawn)))
    if kind == "point":
        return Shape(number, "", "point", _points([(drawn["cx"], drawn["cy"])]))
    raise ValueError(f"shape '{kind}' is not known; expected polygon, rect, circle, ellipse, polyline or point")


def _ellipse(drawn: dict[str, Any]) -> list[Point]:
    """Corners on an ellipse, as far out that the polygon has its area; VIA gives `theta` in radians."""
    turn = drawn.get("theta", 0.0)
    step = 2 * math.pi / ELLIPSE
    outward = math.sqrt(step / math.sin(step))
    corners = []
    for i in range(ELLIPSE):
        along, across = outward * drawn["rx"] * math.cos(i * step), outward * drawn["ry"] * math.sin(i * step)
        x = drawn["cx"] + along * math.cos(turn) - across * math.sin(turn)
        y = drawn["cy"] + along * math.sin(turn) + across * math.cos(turn)
        corners.append((x, y))
    return corners


def _points(points: Iterable[tuple[Any, Any]]) -> tuple[Point, ...]:
    made = tuple((float(x), float(y)) for x, y in points)
    if not all(abs(value) < FARTHEST for point in made for value in point):
        raise ValueError(f"a coordinate is no number below {FARTHEST:.0e}")
    return made
