"""int8 as TensorRT wants it: symmetric ranges, zero point 0, weights of 8 bits with a scale a channel.

The bundle's `model.int8.onnx` is made for CPUs: its activations are uint8 with a zero point of their own, its weights have 7
bits, and layers in float32 stand behind a `Clip` (`deploy.precision.int8`). TensorRT's parser refuses a zero point that is
not 0 ("TensorRT only supports symmetric quantization", `QuantDequantLinearHelper`, onnx-tensorrt 8.6 to 10). So the pairs of
that graph, and their ranges, are put into the float32 graph anew, at the same places: what is int8 there is int8 here. What the
graph gives is not rounded.

The weights stay float32 and are quantised in the graph: every version folds that
(https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html, "Quantized
Weights").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from deploy.engines.graphs.editing import set_nodes
from train.errors import InputError

#: The greatest number of 8 bits; -128 is left out of ranges, so that they are symmetric.
_GREATEST = 127
_PAIR = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class _Read:
    """What a node's input holds in 8 bits: the tensor, and for weights the axis of the channels."""

    tensor: str
    axis: int | None


def quantise(model: ModelProto, quantised: ModelProto) -> ModelProto:
    """Put the pairs of Q and DQ of a quantised graph into the float32 graph that it was made from, symmetric.

    Args:
        model: the float32 graph.
        quantised: the same with pairs of any zero points; activations that its zero points made superfluous may lack.

    Raises:
        InputError: a quantised graph of another float32 graph.
    """
    _check(model, quantised)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    greatest = _ranges(quantised)
    weights = {tensor.name: tensor for tensor in made.graph.initializer}
    reads = dict(_reads(quantised))
    pairs: dict[_Read, list[NodeProto]] = {}
    for node in made.graph.node:
        for place, _ in enumerate(node.input):
            read = reads.get((node.name, place))
            if read is None:
                continue
            if read not in pairs:
                scale = _scales(weights[read.tensor], read.axis) if read.tensor in weights else greatest[read.tensor]
                pairs[read] = _pair(made, read, np.asarray(scale / _GREATEST, np.float32))
            node.input[place] = pairs[read][-1].output[0]
    _insert(made, pairs)
    return made


def _check(model: ModelProto, quantised: ModelProto) -> None:
    known = {name for node in model.graph.node for name in (node.name, *node.input, *node.output)}
    strangers = {read.tensor for _, read in _reads(quantised)} | {
        node.name for node in filter(_is_kept, quantised.graph.node)
    }
    if strangers - known:
        raise InputError(
            f"the int8 graph holds {', '.join(sorted(strangers - known)[:3])}, the float32 graph does not: they are of "
            "different exports; make int8 anew (PRECISION=int8 FORCE=1)"
        )


def _is_kept(node: NodeProto) -> bool:
    return node.op_type not in _PAIR and not node.name.endswith("/stays_float")


def _ranges(quantised: ModelProto) -> dict[str, NDArray]:
    """The greatest magnitude that each tensor's numbers of 8 bits can tell, by tensor."""
    constants = {tensor.name: tensor for tensor in quantised.graph.initializer}
    found = {}
    for tensor, node in _activations(quantised).values():
        scale, point = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
        info = np.iinfo(point.dtype)
        found[tensor] = scale * float(max(int(point) - info.min, info.max - int(point)))
    return found


def _activations(quantised: ModelProto) -> dict[str, tuple[str, NodeProto]]:
    """Each pair's tensor, as the float32 graph names it, and its `QuantizeLinear`, by what the pair gives."""
    outputs = {value.name for value in quantised.graph.output}
    quantisers = {node.output[0]: node for node in quantised.graph.node if node.op_type == "QuantizeLinear"}
    return {
        # The quantiser renames what comes before a pair whose result is an output of the graph.
        node.output[0]: (node.output[0] if node.output[0] in outputs else before.input[0], before)
        for node in quantised.graph.node
        if node.op_type == "DequantizeLinear" and (before := quantisers.get(node.input[0]))
    }


def _reads(quantised: ModelProto) -> Iterator[tuple[tuple[str, int], _Read]]:
    """Which inputs of which nodes, by name and place, are read through 8 bits."""
    producer = {name: node for node in quantised.graph.node for name in node.output}
    activations = _activations(quantised)
    for node in filter(_is_kept, quantised.graph.node):
        for place, name in enumerate(node.input):
            above = producer.get(name)
            while above is not None and above.op_type == "Clip" and not _is_kept(above):
                above = producer.get(above.input[0])
            if above is None or above.op_type != "DequantizeLinear":
                continue
            if above.output[0] in activations:
                yield (node.name, place), _Read(activations[above.output[0]][0], None)
            else:
                axis = next((each.i for each in above.attribute if each.name == "axis"), 0)
                yield (node.name, place), _Read(above.input[0].removesuffix("_quantized"), axis)


def _scales(weights: TensorProto, axis: int | None) -> NDArray:
    """The greatest magnitude of each channel; of one that is all 0, 1, for a scale must be above 0."""
    sizes = np.abs(numpy_helper.to_array(weights))
    greatest = sizes.max(tuple(other for other in range(sizes.ndim) if other != axis))
    return np.where(greatest > 0, greatest, np.ones_like(greatest))


def _pair(model: ModelProto, read: _Read, scale: NDArray) -> list[NodeProto]:
    """The two nodes, their constants put into the graph. Each has constants of its own: TensorRT 8.6 takes them by name."""
    names = {key: f"{read.tensor}/{key}" for key in ("scale", "zero", "int8", "float")}
    model.graph.initializer.append(numpy_helper.from_array(scale, names["scale"]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), names["zero"]))
    attributes: dict[str, Any] = {} if read.axis is None else {"axis": read.axis}
    return [
        onnx.helper.make_node(operator, [source, names["scale"], names["zero"]], [target], name=target, **attributes)
        for operator, source, target in (
            ("QuantizeLinear", read.tensor, names["int8"]),
            ("DequantizeLinear", names["int8"], names["float"]),
        )
    ]


def _insert(model: ModelProto, pairs: dict[_Read, list[NodeProto]]) -> None:
    """Each pair right behind what gives its tensor; those of weights and inputs first."""
    after: dict[str, list[NodeProto]] = {}
    for read, nodes in pairs.items():
        after.setdefault(read.tensor, []).extend(nodes)
    given = {name for node in model.graph.node for name in node.output}
    ordered = [each for name, nodes in after.items() if name not in given for each in nodes]
    for node in model.graph.node:
        ordered.append(node)
        ordered += [each for name in node.output for each in after.get(name, [])]
    set_nodes(model, ordered)
