"""`RoiAlign` of as many regions as there are, whichever level of a pyramid they belong to and however small they are.

The standard graph picks each level's regions with `NonZero`. TensorRT computes `RoiAlign` with the plugin ROIAlign_TRT of its own
plugin library, which learns the number of regions when shapes are set, not when it runs, and divides 0 by 0 for a region without
width or height (plugin/roiAlignPlugin of github.com/NVIDIA/TensorRT); ONNX Runtime gives zeros there. Here every level is asked
for all regions, those that are not its own replaced by one of a pixel, and all but its own results by zeros; the levels' sum
is each region's bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import get_attribute_value

from deploy.engines.graphs.editing import Editor, constants, producers
from deploy.engines.graphs.target import Target


@dataclass(frozen=True)
class _Level:
    """One level's `RoiAlign`, the R×5 regions that it picks from, and which of them, R truth values."""

    node: NodeProto
    regions: str
    own: str


def rewrite(model: ModelProto, target: Target) -> int:
    """Rewrite every `RoiAlign`, in place.

    Returns:
        how many there were.
    """
    found = {node.name for node in model.graph.node if node.op_type == "RoiAlign"}
    if not found:
        return 0
    single, made, known = set(found), producers(model), constants(model)
    for gathered in [node for node in model.graph.node if node.op_type == "Gather"]:
        levels = _levels(made, known, gathered)
        if levels:
            _sum(model, gathered, levels)
            single -= {level.node.name for level in levels}
    for node in [node for node in model.graph.node if node.name in single]:
        edit = Editor(model, node.name)
        _align(edit, node, node.input[1], node.input[2], None, gives=node.output[0])
        edit.replace(node)
    return len(found)


def _sum(model: ModelProto, gathered: NodeProto, levels: list[_Level]) -> None:
    edit = Editor(model, gathered.name)
    boxes, images = _boxes_and_images(edit, levels[0].regions)
    total = _align(edit, levels[0].node, boxes, images, levels[0].own)
    for level in levels[1:]:
        part = _align(edit, level.node, boxes, images, level.own)
        total = edit.add("Add", [total, part], gives=gathered.output[0] if level is levels[-1] else None)
    edit.replace(gathered, producers(model)[gathered.input[0]], *(level.node for level in levels))


def _levels(made: dict[str, NodeProto], known: dict[str, NDArray], gathered: NodeProto) -> list[_Level]:
    """The levels that a `Gather` puts back into the regions' order; none where it does something else."""
    joined = made.get(gathered.input[0])
    if joined is None or joined.op_type != "Concat" or len(joined.input) < 2:
        return []
    levels = [_level(made, made.get(name)) for name in joined.input]
    if any(level is None for level in levels):
        return []
    found = [level for level in levels if level is not None]
    equals = [made[level.own] for level in found]
    # Each region is of one level, for its number is one of 0 … L - 1.
    numbers = [int(known[node.input[1]]) if node.input[1] in known else -1 for node in equals]
    bounded = _clipped(made, known, equals[0].input[0], len(found) - 1)
    same = len({level.regions for level in found}) == 1 and len({node.input[0] for node in equals}) == 1
    return found if same and bounded and numbers == list(range(len(found))) else []


def _level(made: dict[str, NodeProto], node: NodeProto | None) -> _Level | None:
    picked = _climb(made, node, ("RoiAlign", 1), ("Slice", 0), ("Gather", 0))
    if node is None or picked is None:
        return None
    own = _climb(made, made.get(picked.input[1]), ("Gather", 0), ("Transpose", 0), ("NonZero", 0), ("Equal", 0))
    nonzero = _climb(made, made.get(picked.input[1]), ("Gather", 0), ("Transpose", 0), ("NonZero", 0))
    return _Level(node, picked.input[0], nonzero.input[0]) if own is not None and nonzero is not None else None


def _climb(made: dict[str, NodeProto], node: NodeProto | None, *steps: tuple[str, int]) -> NodeProto | None:
    """Go from a node to what gives its inputs; the last node, or None where an operator is another one."""
    for index, (operator, place) in enumerate(steps):
        if node is None or node.op_type != operator:
            return None
        if index < len(steps) - 1:
            node = made.get(node.input[place])
    return node


def _clipped(made: dict[str, NodeProto], known: dict[str, NDArray], name: str, last: int) -> bool:
    cast = made.get(name)
    clip = made.get(cast.input[0]) if cast is not None and cast.op_type == "Cast" else cast
    if clip is None or clip.op_type != "Clip" or len(clip.input) < 3:
        return False
    return [float(known[bound]) if bound in known else None for bound in clip.input[1:3]] == [0.0, float(last)]


def _boxes_and_images(edit: Editor, regions: str) -> tuple[str, str]:
    """R×5 regions, the image first → R×4 boxes and R indices."""
    one, five = edit.constant([1], np.int64), edit.constant([5], np.int64)
    boxes = edit.add("Slice", [regions, one, five, one])
    image = edit.add("Gather", [regions, edit.constant(0, np.int64)], axis=1)
    return boxes, edit.add("Cast", [image], to=TensorProto.INT64)


def _align(edit: Editor, node: NodeProto, boxes: str, images: str, own: str | None, gives: str | None = None) -> str:
    """One `RoiAlign` of all boxes; zeros for those without width or height and those that are not its own."""
    attributes = {each.name: get_attribute_value(each) for each in node.attribute}
    scale = edit.constant(attributes.get("spatial_scale", 1.0), np.float32)
    real = own
    if attributes.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel":
        half = edit.constant(0.5, np.float32)
        edges = edit.add("Sub", [edit.add("Mul", [boxes, scale]), half])
        x1, y1, x2, y2 = (edit.add("Gather", [edges, edit.constant(place, np.int64)], axis=1) for place in range(4))
        zero = edit.constant(0, np.float32)
        wide, high = (edit.add("Greater", [edit.add("Sub", pair), zero]) for pair in ([x2, x1], [y2, y1]))
        real = edit.add("And", [wide, high])
        real = real if own is None else edit.add("And", [real, own])
    if real is None:
        return edit.add("RoiAlign", [node.input[0], boxes, images], gives=gives, **attributes)
    pixel = edit.constant([[0, 0, 1, 1]], np.float32)
    chosen = edit.add("Where", [edit.add("Unsqueeze", [real, edit.constant([1], np.int64)]), boxes, pixel])
    bins = edit.add("RoiAlign", [node.input[0], chosen, images], **attributes)
    shown = edit.add("Unsqueeze", [real, edit.constant([1, 2, 3], np.int64)])
    return edit.add("Where", [shown, bins, edit.constant(0, np.float32)], gives=gives)
