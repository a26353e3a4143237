"""Masks of every row of detections, whether it holds one or not, in place of those of the rows that do.

The standard graph computes masks where there is a detection only, so that their number depends on the image, and may be none.
TensorRT's `RoiAlign` learns the number of regions when shapes are set (see `regions`). Here all rows are computed, and what an
empty one gives is replaced by what the standard graph has there. Between the two, every operator computes row by row.
"""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from deploy.engines.graphs.editing import Editor, producers
from deploy.engines.graphs.target import Target

#: Operators that compute a row's result from that row alone, as the masks' branch uses them.
_BY_ROW = {
    *(
        "Add",
        "And",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Div",
        "Equal",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
    ),
    *(
        "GatherElements",
        "Greater",
        "Log",
        "Mul",
        "Relu",
        "Reshape",
        "Resize",
        "RoiAlign",
        "Shape",
        "Sigmoid",
        "Slice",
        "Sqrt",
    ),
    *(
        "Sub",
        "Unsqueeze",
        "Where",
        "Constant",
        "Max",
        "ConstantOfShape",
        "QuantizeLinear",
        "DequantizeLinear",
        "NonZero",
    ),
    *("Transpose", "ScatterElements", "Range", "Size"),
}


def rewrite(model: ModelProto, target: Target) -> int:
    """Rewrite the masks' branch, in place.

    Returns:
        1, or 0 where there is none.
    """
    made = producers(model)
    for scatter in [node for node in model.graph.node if node.op_type == "ScatterElements"]:
        rows = _rows(made, scatter)
        if rows is not None and _row_by_row(model, rows.output[0], scatter):
            _widen(model, made, rows, scatter)
            return 1
    return 0


def _rows(made: dict[str, NodeProto], scatter: NodeProto) -> NodeProto | None:
    """The node that gives the rows with a detection, picked by `NonZero`, to which masks are put back."""
    expand = made.get(scatter.input[1])
    unsqueeze = made.get(expand.input[0]) if expand is not None and expand.op_type == "Expand" else None
    rows = made.get(unsqueeze.input[0]) if unsqueeze is not None and unsqueeze.op_type == "Unsqueeze" else None
    transpose = made.get(rows.input[0]) if rows is not None and rows.op_type == "Gather" else None
    found = made.get(transpose.input[0]) if transpose is not None and transpose.op_type == "Transpose" else None
    return rows if found is not None and found.op_type == "NonZero" else None


def _row_by_row(model: ModelProto, rows: str, scatter: NodeProto) -> bool:
    """Whether what the rows pick goes nowhere but to the masks, through operators that compute row by row."""
    touched = {rows}
    for node in model.graph.node:
        if touched.intersection(node.input):
            if node.name == scatter.name:
                continue
            if node.op_type not in _BY_ROW:
                return False
            touched.update(node.output)
    return not touched.intersection(value.name for value in model.graph.output)


def _widen(model: ModelProto, made: dict[str, NodeProto], rows: NodeProto, scatter: NodeProto) -> None:
    found = made[made[rows.input[0]].input[0]]
    present = found.input[0]
    edit = Editor(model, rows.name)
    start, step = edit.constant(0, np.int64), edit.constant(1, np.int64)
    count = edit.add("Gather", [edit.add("Shape", [present]), start], axis=0)
    edit.add("Range", [start, count, step], gives=rows.output[0])
    edit.replace(rows)
    _keep_labels(model, rows.output[0])
    edit = Editor(model, scatter.name)
    scattered = edit.add("ScatterElements", scatter.input, axis=0)
    shown = edit.add("Unsqueeze", [present, edit.constant([1], np.int64)])
    edit.add("Where", [shown, scattered, scatter.input[0]], gives=scatter.output[0])
    edit.replace(scatter)


def _keep_labels(model: ModelProto, rows: str) -> None:
    """Where no row holds a detection its label is -1, which must not be an index: any class's mask does there."""
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    for node in [node for node in model.graph.node if node.op_type == "Gather" and node.input[1] == rows]:
        if types.get(node.output[0]) == TensorProto.INT64:
            edit = Editor(model, node.name)
            picked = edit.add("Gather", node.input, axis=0)
            edit.add("Max", [picked, edit.constant(0, np.int64)], gives=node.output[0])
            edit.replace(node)
