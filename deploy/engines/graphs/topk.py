"""`TopK` of more than 3840 elements, which TensorRT refuses, as several of no more.

Limit: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/operators/TopK.html ("k<=d, k<=3840").

Each round takes the best 3840 of what is left and puts -∞ in their places. ONNX gives the lower index to the first of two equal
elements, so the rounds give the same elements in the same order as one `TopK`, if the elements are finite.
"""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from deploy.engines.graphs.editing import Editor, constants
from deploy.engines.graphs.shapes import look
from deploy.engines.graphs.target import Target
from train.errors import InputError

LIMIT = 3840


def rewrite(model: ModelProto, target: Target) -> int:
    """Split them, in place.

    Returns:
        how many there were.

    Raises:
        InputError: one that this does not split: of the least elements, unsorted, or not float32.
    """
    found = [node for node in model.graph.node if node.op_type == "TopK"]
    if not found:
        return 0
    seen = look(model, target.largest)
    large = [(node, count) for node in found if (count := seen.number(node.name, 1) or 0) > LIMIT]
    types = {info.name: info.type.tensor_type for info in (*model.graph.input, *model.graph.value_info)}
    for node, count in large:
        attributes = {each.name: each.i for each in node.attribute}
        tensor = types[node.input[0]]
        best = attributes.get("largest", 1) and attributes.get("sorted", 1)
        if not best or tensor.elem_type != TensorProto.FLOAT:
            raise InputError(
                f"{node.name}: TopK of {count} elements, TensorRT takes {LIMIT}; only the greatest of float32, sorted, can be "
                "taken in rounds: choose a smaller largest shape"
            )
        _split(model, node, count, attributes.get("axis", -1) % len(tensor.shape.dim), len(tensor.shape.dim))
    return len(large)


def _split(model: ModelProto, node: NodeProto, count: int, axis: int, rank: int) -> None:
    edit = Editor(model, node.name)
    rest, wanted = node.input
    rounds = -(-count // LIMIT)
    lowest = edit.constant(-np.inf, np.float32)
    if wanted not in constants(model):
        # A smaller image has fewer elements than the rounds take: behind its own come others, which are never wanted.
        pads = [0] * 2 * rank
        pads[rank + axis] = rounds * LIMIT
        rest = edit.add("Pad", [rest, edit.constant(pads, np.int64), lowest], mode="constant")
    limit = edit.constant([LIMIT], np.int64)
    last = edit.constant([count - (rounds - 1) * LIMIT], np.int64) if wanted in constants(model) else limit
    values, places = [], []
    for number in range(rounds):
        final = number == rounds - 1
        best, place = edit.add_all("TopK", [rest, last if final else limit], [None, None], axis=axis)
        values.append(best)
        places.append(place)
        if not final:
            gone = helper.make_tensor("value", TensorProto.FLOAT, [1], [-np.inf])
            taken = edit.add("ConstantOfShape", [edit.add("Shape", [place])], value=gone)
            rest = edit.add("ScatterElements", [rest, place, taken], axis=axis)
    start, axes = edit.constant([0], np.int64), edit.constant([axis], np.int64)
    for parts, name in zip((values, places), node.output, strict=True):
        together = edit.add("Concat", parts, axis=axis)
        edit.add("Slice", [together, start, wanted, axes], gives=name)
    edit.replace(node)
