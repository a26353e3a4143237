"""`NonMaxSuppression` of more boxes than TensorRT looks at: an answer that could be another one becomes no number.

TensorRT sorts the boxes above the score threshold and looks at the best 5000 of an image, no matter how many there are
(https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/operators/NMS.html, "limit"). Where it keeps as many as are asked
for, boxes further down would have changed nothing. Where it keeps fewer although there are more than 5000, they might have:
then the graph's first float output is NaN for that image, which the runtime refuses.
"""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from deploy.engines.graphs.editing import Editor, constants, set_nodes
from deploy.engines.graphs.shapes import look
from deploy.engines.graphs.target import Target
from train.errors import InputError

LIMIT = 5000


def rewrite(model: ModelProto, target: Target) -> int:
    """Watch those that may have more boxes, in place.

    Returns:
        how many there are.

    Raises:
        InputError: more than one group of boxes an image, which is not watched.
    """
    found = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    if not found:
        return 0
    seen = look(model, target.largest)
    counts = {node.name: seen.axis(node.name, 1, 2) for node in found}
    watched = [node for node in found if (count := counts[node.name]) is None or count > LIMIT]
    if watched:
        edit = Editor(model, "suppression")
        strange = [_is_strange(model, edit, node) for node in watched]
        doubtful = strange[0]
        for other in strange[1:]:
            doubtful = edit.add("Or", [doubtful, other])
        _spoil(model, edit, doubtful)
    return len(watched)


def _is_strange(model: ModelProto, edit: Editor, node: NodeProto) -> str:
    """The name of a tensor of N truth values: whether an image had more boxes and kept fewer than asked for."""
    infos = (*model.graph.input, *model.graph.value_info)
    shape = next(info.type.tensor_type.shape.dim for info in infos if info.name == node.input[1])
    groups = shape[1].dim_value
    if groups != 1 or len(node.input) < 5:
        raise InputError(
            f"{node.name}: one group of boxes an image and a score threshold are expected, found {groups} groups; export again"
        )
    scores, limit, above = node.input[1], node.input[2], node.input[4]
    zero, one = edit.constant(0, np.int64), edit.constant(1, np.int64)
    candidates = _count(edit, edit.add("Greater", [scores, above]), [1, 2])
    many = edit.add("Greater", [candidates, edit.constant(LIMIT, np.float32)])
    count = edit.add("Gather", [edit.add("Shape", [scores]), zero], axis=0)
    images = edit.add("Range", [zero, count, one])
    owner = edit.add("Gather", [node.output[0], edit.constant([0], np.int64)], axis=1)
    mine = edit.add("Equal", [owner, edit.add("Unsqueeze", [images, edit.constant([0], np.int64)])])
    kept = _count(edit, mine, [0])
    asked = float(constants(model)[limit].reshape(-1)[0])
    few = edit.add("Less", [kept, edit.constant(asked, np.float32)])
    return edit.add("And", [many, few])


def _count(edit: Editor, truths: str, axes: list[int]) -> str:
    numbers = edit.add("Cast", [truths], to=TensorProto.FLOAT)
    return edit.add("ReduceSum", [numbers, edit.constant(axes, np.int64)], keepdims=0)


def _spoil(model: ModelProto, edit: Editor, doubtful: str) -> None:
    output = next(value for value in model.graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT)
    rank = len(output.type.tensor_type.shape.dim)
    exact = f"{output.name}/exact"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == output.name:
                    names[place] = exact
    axes = edit.constant(list(range(1, rank)), np.int64)
    condition = edit.add("Unsqueeze", [doubtful, axes])
    edit.add("Where", [condition, edit.constant(np.nan, np.float32), exact], gives=output.name)
    set_nodes(model, [*model.graph.node, *edit.nodes])
