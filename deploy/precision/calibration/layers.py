"""The part of a graph that may leave float32: its layers with weights, and what lies between them.

What follows the last layers (decoding and selecting boxes, resizing logits), and all arithmetic on shapes, stays float32:
box coordinates and bin borders need more digits than 8 or 16 bits have, and there is little time to win.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

#: What they give says something about sizes, not about the image.
_OF_SIZES = ("Shape", "Size")


@dataclass(frozen=True)
class Layer:
    """A node with weights, and the nodes after it up to the next such node: they change precision together.

    Attributes:
        name: of the node with weights.
        op: its operator.
        nodes: the names of all of them.
    """

    name: str
    op: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """The part of a graph that may change precision.

    Attributes:
        layers: in the graph's order.
        tensors: every float32 tensor that its nodes read or write, weights not counted.
    """

    layers: tuple[Layer, ...]
    tensors: tuple[str, ...]

    @property
    def nodes(self) -> set[str]:
        """The names of its nodes."""
        return {name for layer in self.layers for name in layer.nodes}


def find(model: ModelProto, weighted: Collection[str], between: Collection[str]) -> Part:
    """Find the layers and what lies between them.

    Args:
        model: with inferred shapes, every node named.
        weighted: operators that are layers where they have constant weights.
        between: operators that may lie between two layers, going back from a layer's input.
    """
    graph = model.graph
    floats = {info.name for info in (*graph.input, *graph.value_info, *graph.output) if _is_float(info)}
    data, weights = _data(graph, floats), {tensor.name for tensor in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    tops = [
        node
        for node in graph.node
        if node.op_type in weighted and node.input[0] in data and node.output[0] in data and node.input[1] in weights
    ]
    chosen: dict[str, NodeProto] = {}
    waiting = list(tops)
    while waiting:
        node = waiting.pop()
        if node.name in chosen:
            continue
        chosen[node.name] = node
        above = [producer[name] for name in node.input if name in data and name in producer]
        # What also reads numbers made of sizes, such as the bins of adaptive pooling, stays float32 with them.
        waiting += [
            other
            for other in above
            if other.op_type in between
            and set(other.output) <= data
            and floats.intersection(other.input) <= data | weights
        ]
    ordered = [node for node in graph.node if node.name in chosen]
    tensors = dict.fromkeys(name for node in ordered for name in (*node.input, *node.output) if name in data)
    return Part(_layers(ordered, {node.name for node in tops}), tuple(tensors))


def cut(model: ModelProto, names: Collection[str]) -> ModelProto:
    """These nodes as a graph of its own: what they read from others comes in, what others read of them goes out."""
    nodes = [node for node in model.graph.node if node.name in names]
    weights = {tensor.name for tensor in model.graph.initializer}
    inside = {name for node in nodes for name in node.output}
    read = dict.fromkeys(name for node in nodes for name in node.input if name)
    outside = {name for node in model.graph.node if node.name not in names for name in node.input}
    outside |= {value.name for value in model.graph.output}
    infos = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    known = {info.name: info for info in infos}

    def values(chosen: Iterable[str]) -> list[onnx.ValueInfoProto]:
        return [known[name] for name in chosen]

    graph = onnx.helper.make_graph(
        nodes,
        "part",
        values(name for name in read if name not in inside and name not in weights),
        values(name for node in nodes for name in node.output if name in outside),
        [tensor for tensor in model.graph.initializer if tensor.name in read],
        value_info=[info for info in model.graph.value_info if info.name in inside and info.name not in outside],
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _is_float(info: onnx.ValueInfoProto) -> bool:
    return bool(info.type.tensor_type.elem_type == TensorProto.FLOAT)


def _data(graph: GraphProto, floats: set[str]) -> set[str]:
    """The float32 tensors that depend on the image's values."""
    data = {info.name for info in graph.input if info.name in floats}
    for node in graph.node:
        if node.op_type not in _OF_SIZES and data.intersection(node.input):
            data.update(floats.intersection(node.output))
    return data


def _layers(ordered: list[NodeProto], tops: set[str]) -> tuple[Layer, ...]:
    """Give each node to the latest layer before it, or, where there is none, to the first after it."""
    owner: dict[str, int] = {}
    found = [node for node in ordered if node.name in tops]
    place = {node.name: index for index, node in enumerate(found)}
    by_tensor: dict[str, int] = {}
    for node in ordered:
        above = [by_tensor[name] for name in node.input if name in by_tensor]
        if node.name in place or above:
            owner[node.name] = place[node.name] if node.name in place else max(above)
            by_tensor |= dict.fromkeys(node.output, owner[node.name])
    readers = {name: [node for node in ordered if name in node.input] for node in ordered for name in node.output}
    for node in reversed(ordered):
        if node.name not in owner:
            owner[node.name] = min(owner[reader.name] for name in node.output for reader in readers[name])
    return tuple(
        Layer(node.name, node.op_type, tuple(each.name for each in ordered if owner[each.name] == index))
        for index, node in enumerate(found)
    )
