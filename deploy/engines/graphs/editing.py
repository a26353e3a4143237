"""Changing graphs in place: new nodes and constants with names of their own, and what nothing reads any more removed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper


class Editor:
    """Collects nodes that take the place of one.

    Args:
        prefix: begins every new name.
    """

    def __init__(self, model: ModelProto, prefix: str) -> None:
        self.nodes: list[NodeProto] = []
        self._model, self._prefix, self._count = model, prefix, 0

    def constant(self, values: Any, dtype: Any) -> str:
        """The name of a new constant."""
        name = self._name("constant")
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], *, gives: str | None = None, **attributes: Any) -> str:
        """A new node of one output; the output's name, a new one or `gives`."""
        return self.add_all(operator, inputs, [gives], **attributes)[0]

    def add_all(
        self, operator: str, inputs: Sequence[str], gives: Sequence[str | None], **attributes: Any
    ) -> list[str]:
        """A new node; the names of its outputs, new ones where none is given."""
        name = self._name(operator)
        outputs = [given or f"{name}/{place}" for place, given in enumerate(gives)]
        self.nodes.append(onnx.helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs

    def replace(self, *old: NodeProto) -> None:
        """Put the new nodes where the first of the old ones was, then remove the others."""
        nodes = self._model.graph.node
        place = next(index for index, node in enumerate(nodes) if node.name == old[0].name)
        names = {node.name for node in old}
        before = [node for node in nodes[:place] if node.name not in names]
        after = [node for node in nodes[place:] if node.name not in names]
        set_nodes(self._model, [*before, *self.nodes, *after])

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}/{kind}_{self._count}"


def set_nodes(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    """Give a graph these nodes."""
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def prune(model: ModelProto) -> None:
    """Remove nodes and constants that nothing reads."""
    wanted = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    set_nodes(model, kept[::-1])
    constants = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    shapes = [info for info in model.graph.value_info if info.name in wanted]
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(constants)
    model.graph.value_info.extend(shapes)


def producers(model: ModelProto) -> dict[str, NodeProto]:
    """The node that gives each tensor."""
    return {name: node for node in model.graph.node for name in node.output}


def constants(model: ModelProto) -> dict[str, NDArray]:
    """The graph's constants."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
