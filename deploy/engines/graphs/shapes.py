"""A graph for one shape: its input's axes fixed, and all that follows from them computed beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from deploy import graph
from deploy.engines.graphs.editing import constants
from train.errors import InputError


def fix(model: ModelProto, shape: Sequence[int], *, verified: bool = True) -> ModelProto:
    """The graph for one shape of its input, N×C×H×W.

    Args:
        model: with an input of any sizes, or of this one.
        shape: what its input will have.
        verified: run both graphs on noise; without, nothing is run and the graph serves for looking at only.

    Raises:
        InputError: an input of other fixed sizes.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    given = made.graph.input[0]
    axes = given.type.tensor_type.shape.dim
    if len(axes) != len(shape) or any(axis.dim_value not in (0, size) for axis, size in zip(axes, shape, strict=True)):
        own = tuple(axis.dim_value or axis.dim_param for axis in axes)
        raise InputError(f"the graph takes {given.name} {own}, not {tuple(shape)}; choose a shape that it takes")
    for axis, size in zip(axes, shape, strict=True):
        axis.dim_value = size
    for value in made.graph.output:
        for axis in value.type.tensor_type.shape.dim:
            axis.Clear()
    del made.graph.value_info[:]
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return graph.simplify(made, [{given.name: noise}] if verified else [])[0]


@dataclass(frozen=True)
class Seen:
    """What a graph is at one shape, by the names of its nodes and tensors.

    Attributes:
        nodes: those that are left.
        values: constants, computed ones among them.
        shapes: of tensors, None for an axis that is not known.
    """

    nodes: Mapping[str, onnx.NodeProto]
    values: Mapping[str, NDArray]
    shapes: Mapping[str, tuple[int | None, ...]]

    def number(self, node: str, place: int) -> int | None:
        """The integer that a node reads there, where it is one that is known."""
        found = self.nodes.get(node)
        value = self.values.get(found.input[place]) if found is not None else None
        return int(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def axis(self, node: str, place: int, number: int) -> int | None:
        """The size of an axis of what a node reads there, where it is known."""
        found = self.nodes.get(node)
        shape = self.shapes.get(found.input[place], ()) if found is not None else ()
        return shape[number] if number < len(shape) else None


def look(model: ModelProto, shape: Sequence[int] | None) -> Seen:
    """See a graph at one shape, or, without one, as it is."""
    seen = model if shape is None else fix(model, shape, verified=False)
    infos = (*seen.graph.input, *seen.graph.value_info, *seen.graph.output)
    return Seen(
        {node.name: node for node in seen.graph.node},
        constants(seen),
        {info.name: _sizes(info) for info in infos},
    )


def _sizes(info: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(axis.dim_value or None for axis in info.type.tensor_type.shape.dim)
