"""Nodes that TensorRT's ONNX parser refuses, each by name, with what is missing."""

from typing import TYPE_CHECKING, Any

from deploy.engines.capabilities import Capabilities

if TYPE_CHECKING:
    import onnx

#: How many nodes a message names; the others are counted.
_NAMED = 5


def text(parser: Any, able: Capabilities, model: "onnx.ModelProto", version: str) -> str:
    """One line that names every refused node, or the first of very many."""
    nodes = list(model.graph.node)
    found: dict[str, str] = {}
    rest: list[str] = []
    for error in map(parser.get_error, range(parser.num_errors)):
        reason = " ".join(error.desc().split())[:160]
        index = error.node()
        if able.parser_node_names and error.node_operator():
            found.setdefault(f"{error.node_operator()} '{error.node_name()}'", reason)
        elif 0 <= index < len(nodes):
            found.setdefault(_name(nodes[index]), reason)
        else:
            rest.append(reason)
    # The parser of TensorRT 8 stops at the first one.
    for node in nodes:
        if not parser.supports_operator(node.op_type):
            found.setdefault(_name(node), "no importer for this operator")
    if not found:
        return f"TensorRT {version} refuses the graph: {'; '.join(rest) or 'it does not say why'}"
    named = ", ".join(f"{name} ({reason})" for name, reason in list(found.items())[:_NAMED])
    more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return (
        f"TensorRT {version} refuses {len(found)} node{'s' if len(found) > 1 else ''} of the graph: {named}{more}; each needs a "
        "rewrite in deploy/rewrites or deploy/engines/graphs, or a newer TensorRT"
    )


def types(model: "onnx.ModelProto") -> dict[str, int]:
    """The ONNX data type of each tensor that is known, by name."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _name(node: "onnx.NodeProto") -> str:
    return f"{node.op_type} '{node.name or node.output[0]}'"
