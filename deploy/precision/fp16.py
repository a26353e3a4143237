"""fp16: float16 weights and arithmetic, inputs and outputs float32, by ONNX Runtime's converter.

Float32 stay: what follows the last layers and the arithmetic on sizes (`deploy.precision.calibration.layers`), and every
node that reads or writes values of more than a quarter of float16's range, on calibration images or in its weights.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from deploy.precision import Task, Variant
from deploy.precision.calibration import layers, ranges, search
from train.cli import say
from train.errors import UsageError

#: Percent of the float graph's score.
GATE = 99.9
#: Magnitudes up to here may be float16: other images may give four times as much.
LIMIT = float(np.finfo(np.float16).max) / 4
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: What chooses places or computes them stays float32: in float16, a coordinate of 2048 pixels or more skips pixels.
_PLACES = (
    *("NonMaxSuppression", "TopK", "RoiAlign", "GridSample", "DeformConv", "ArgMax", "Range", "CumSum", "NonZero"),
    *(
        "GatherElements",
        "GatherND",
        "ScatterElements",
        "ScatterND",
        "Floor",
        "Ceil",
        "Round",
        "Mod",
        "Loop",
        "If",
        "Scan",
    ),
)


def make(task: Task) -> Variant:
    """Find what must stay float32 by its range; then, should the gate not hold, by its cost.

    Raises:
        UsageError: a graph without a layer that could become float16.
        VerificationError: the gate does not hold with most of the layers in float32.
    """
    between = {node.op_type for node in task.model.graph.node} - set(_PLACES)
    part = layers.find(task.model, WEIGHTED, between)
    if not part.layers:
        raise UsageError(f"the graph has no {', '.join(WEIGHTED)} with constant weights: there is nothing to convert")
    say(f"fp16: ranges of {len(part.tensors)} tensors on {len(task.images.calibration)} images")
    histograms = ranges.measure(task.model, part.tensors, task.feeds(task.images.calibration))
    kept = too_large(task.model, part.nodes, {name: each.peak for name, each in histograms.items()})
    say(f"  {len(kept)} of {len(part.nodes)} nodes stay float32 for their range")

    def change(model: ModelProto, nodes: Collection[str]) -> ModelProto:
        return convert(model, set(nodes) - kept.keys())

    def judged(model: ModelProto, nodes: Collection[str]) -> ModelProto:
        return rounded(model, set(nodes) - kept.keys())

    found = search.until_it_holds(task, part, change, judged=judged)
    return Variant(
        found.graph,
        found.scores,
        {
            "calibration": task.images.to_dict(),
            "scored": "in float32, rounded to float16 after every node: ONNX Runtime's CPU kernels would not round",
            "limit": LIMIT,
            "float_nodes": kept,
            "float_layers": [layer.name for layer in found.floats],
            "cost": search.COST,
            "layers": found.described(part, "float16"),
            "weights": weights(task.model, part.nodes - kept.keys()),
        },
    )


def too_large(model: ModelProto, nodes: Collection[str], peaks: Mapping[str, float]) -> dict[str, str]:
    """The nodes whose values or weights are too large, and which.

    Args:
        model: the float graph.
        nodes: names of those to look at.
        peaks: the largest magnitude seen, by tensor.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    known = {**peaks, **{name: _peak(array) for name, array in weights.items() if array.dtype == np.float32}}
    found: dict[str, str] = {}
    for node in model.graph.node:
        if node.name in nodes:
            name = max((*node.input, *node.output), key=lambda each: known.get(each, 0.0))
            if known.get(name, 0.0) > LIMIT:
                found[node.name] = f"{name} reaches {known[name]:.3g}"
    return found


def convert(model: ModelProto, nodes: Collection[str]) -> ModelProto:
    """A copy of a graph with these nodes in float16, and casts where values go in and out.

    They are converted as a graph of their own: the converter would put float16 between two nodes that it keeps in float32,
    and would round the constants that both kinds of nodes use.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    if not nodes:
        return made
    part = convert_float_to_float16(
        layers.cut(model, nodes), keep_io_types=True, disable_shape_infer=True, op_block_list=[]
    )
    for tensor in part.graph.initializer:
        _rename(part, tensor, f"{tensor.name}.fp16")
    outputs = {value.name for value in part.graph.output}
    inside = {name for node in model.graph.node if node.name in nodes for name in node.output} - outputs
    kept = [node for node in made.graph.node if node.name not in nodes]
    infos = [info for info in made.graph.value_info if info.name not in inside]
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in made.graph.initializer if tensor.name in used]
    for field, values in (
        (made.graph.node, [*kept, *part.graph.node]),
        (made.graph.value_info, infos),
        (made.graph.initializer, [*constants, *part.graph.initializer]),
    ):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    ONNXModel(made).topological_sort()
    return made


def rounded(model: ModelProto, nodes: Collection[str]) -> ModelProto:
    """A copy of a graph that computes in float32 and rounds what these nodes read, write and weigh with to float16.

    It tells what a device with float16 arithmetic gives. ONNX Runtime has none on most CPUs: it widens the whole of a
    float16 graph to float32, leaves out the rounding between nodes, and so would never see a value overflow.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in made.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    floats = {
        value.name for value in (*model.graph.input, *model.graph.value_info, *model.graph.output) if _is_float(value)
    }
    halves: dict[str, None] = {}
    inside = {name for node in made.graph.node if node.name in nodes for name in node.output}
    for node in [node for node in made.graph.node if node.name in nodes]:
        for place, name in enumerate(node.input):
            if name in constants:
                with np.errstate(over="ignore"):
                    values = numpy_helper.to_array(constants[name]).astype(np.float16).astype(np.float32)
                node.input[place] = f"{name}.half"
                if name not in halves:
                    made.graph.initializer.append(numpy_helper.from_array(values, f"{name}.half"))
                halves[name] = None
            elif name in floats and name not in inside:
                node.input[place] = f"{name}.rounded"
                if name not in halves:
                    made.graph.node.extend(_round(name, f"{name}.rounded"))
                halves[name] = None
        for place, name in enumerate(node.output):
            node.output[place] = f"{name}.exact"
            made.graph.node.extend(_round(f"{name}.exact", name))
    ONNXModel(made).topological_sort()
    return made


def weights(model: ModelProto, nodes: Collection[str]) -> dict[str, int]:
    """How float16 takes the weights of these nodes.

    Returns:
        How many there are; how many are subnormal in float16, which a device may take for 0; and how many are nearer to 0
        than its least number: those become that number, not 0.
    """
    used = {name for node in model.graph.node if node.name in nodes for name in node.input}
    chosen = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in used]
    sizes = [np.abs(array) for array in chosen if array.dtype == np.float32]
    info = np.finfo(np.float16)
    return {
        "count": sum(array.size for array in sizes),
        "subnormal": sum(int(((array > 0) & (array < info.smallest_normal)).sum()) for array in sizes),
        "raised_to_the_least": sum(int(((array > 0) & (array < info.smallest_subnormal)).sum()) for array in sizes),
    }


def _round(source: str, target: str) -> list[onnx.NodeProto]:
    half = f"{target}.half"
    return [
        onnx.helper.make_node("Cast", [source], [half], name=f"{target}.narrow", to=TensorProto.FLOAT16),
        onnx.helper.make_node("Cast", [half], [target], name=f"{target}.widen", to=TensorProto.FLOAT),
    ]


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def _rename(model: ModelProto, tensor: TensorProto, name: str) -> None:
    for node in model.graph.node:
        for place, read in enumerate(node.input):
            if read == tensor.name:
                node.input[place] = name
    tensor.name = name


def _peak(array: NDArray) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
