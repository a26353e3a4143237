"""int8: `QuantizeLinear`/`DequantizeLinear` pairs around layers, ranges from calibration, by ONNX Runtime's quantiser.

Weights are int8, symmetric, a scale a channel. Those of 8 bits would give other numbers on other machines: ONNX Runtime's kernels
for AVX2 and AVX-512 without VNNI add two products of 8 bits in 16, which overflow
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "when to use reduce-range"). So they have 7;
those of depthwise convolutions, which lose most by it and whose kernels add in 32 bits, have 8. Activations are uint8 with a
zero point of their own: of what is never negative, after a ReLU, a symmetric range would leave half of the 256 steps unused,
and ONNX Runtime computes int8 activations on x86 as float32 or slower. Biases stay float32; the engine scales them for itself.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata

from deploy.precision import Task, Variant
from deploy.precision.calibration import layers, ranges, search
from train.cli import say
from train.errors import UsageError

#: Percent of the float graph's score.
GATE = 99.0
#: Layers that ONNX Runtime has integer kernels for.
WEIGHTED = ("Conv", "Gemm", "MatMul")
#: What may lie between them in 8 bits, so that no conversion to float32 and back does.
BETWEEN = (
    *("Relu", "Clip", "LeakyRelu", "Sigmoid", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Resize", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Pad", *WEIGHTED),
)
#: Operators whose float weights ONNX Runtime would make int8 (see `keep_float`).
_COMPLETED = ("Conv", "ConvTranspose", "Gemm")
_DEPTHWISE = {"quant_type": QuantType.QInt8, "symmetric": True, "reduce_range": False, "axis": 0}
#: A tensor that was 0 on every image still needs a scale.
_LEAST = 1e-5


def make(task: Task) -> Variant:
    """Calibrate, choose the method, and search which layers to leave in float32.

    Raises:
        UsageError: a graph without a layer that could be quantised.
        VerificationError: the gate does not hold with most of the layers in float32.
    """
    part = layers.find(task.model, WEIGHTED, BETWEEN)
    if not part.layers:
        raise UsageError(f"the graph has no {', '.join(WEIGHTED)} with constant weights: there is nothing to quantise")
    say(f"int8: ranges of {len(part.tensors)} tensors on {len(task.images.calibration)} images")
    histograms = ranges.measure(task.model, part.tensors, task.feeds(task.images.calibration))
    spans = {
        name: {key: ranges.span(each, way(each)) for key, each in histograms.items()}
        for name, way in ranges.METHODS.items()
    }
    tried = {name: task.scores.of(quantise(task.model, part.nodes, found)) for name, found in spans.items()}
    for name, scores in tried.items():
        say(f"  range by {name}: {task.scores.share(scores):.2f} % of float32's score")
    method = max(tried, key=lambda name: task.scores.share(tried[name]))

    def change(model: ModelProto, nodes: Collection[str]) -> ModelProto:
        return quantise(model, nodes, spans[method])

    found = search.until_it_holds(task, part, change, first=tried[method], explain=True)
    return Variant(
        found.graph,
        found.scores,
        {
            "calibration": {**task.images.to_dict(), "method": method, "percentile": ranges.PERCENTILE, "tried": tried},
            "weights": "int8, symmetric, a scale a channel, 7 bits; of depthwise convolutions 8",
            "activations": "uint8, a zero point a tensor",
            "float_layers": [layer.name for layer in found.floats],
            "cost": search.COST,
            "layers": found.described(part, "int8"),
            "ranges": {name: list(each) for name, each in spans[method].items()},
        },
    )


def quantise(model: ModelProto, nodes: Collection[str], spans: Mapping[str, tuple[float, float]]) -> ModelProto:
    """A copy of a graph, or of a part of it, with these nodes between pairs of Q and DQ.

    Args:
        model: with inferred shapes.
        nodes: names of nodes.
        spans: the least and the greatest value to tell apart, by tensor.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    add_infer_metadata(copy)
    known = {name: (np.float32(low), np.float32(max(high, low + _LEAST))) for name, (low, high) in spans.items()}
    chosen = [node for node in copy.graph.node if node.name in nodes]
    overrides = {node.input[1]: [_DEPTHWISE] for node in chosen if _is_depthwise(node, copy)}
    quantiser = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, known),
        nodes_to_quantize=[node.name for node in chosen],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({node.op_type for node in chosen}),
        extra_options={"WeightSymmetric": True, "QuantizeBias": False, "TensorQuantOverrides": overrides},
    )
    made = ONNXModel(quantiser.quantize_model())
    keep_float(made.model)
    made.topological_sort()
    _restore_metadata(made.model, model)
    return made.model


def keep_float(model: ModelProto) -> None:
    """Put a `Clip` without bounds, which changes nothing, before each layer with float weights whose input was in 8 bits.

    ONNX Runtime takes such a layer for one whose weights were forgotten, and gives them 8 bits and one scale for all
    channels (`WeightBiasQuantization`, onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc, which asks
    whether a `DequantizeLinear` comes right before it). A MobileNetV2 with its depthwise layers in float32 answers at random then.
    """
    weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type in _COMPLETED and node.input[0] in dequantised and node.input[1] in weights:
            kept = onnx.helper.make_node(
                "Clip", [node.input[0]], [f"{node.name}/float"], name=f"{node.name}/stays_float"
            )
            nodes.append(kept)
            node.input[0] = kept.output[0]
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _is_depthwise(node: onnx.NodeProto, model: ModelProto) -> bool:
    """Whether each output channel of a convolution reads one input channel."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return node.op_type == "Conv" and len(dims := shapes.get(node.input[1], ())) > 1 and dims[1] == 1


def _restore_metadata(made: ModelProto, original: ModelProto) -> None:
    """What the file says about itself is the bundle's, not the quantiser's."""
    del made.metadata_props[:]
    made.metadata_props.extend(original.metadata_props)
    made.producer_name, made.producer_version = original.producer_name, original.producer_version
