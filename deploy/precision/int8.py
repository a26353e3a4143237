"""int8: `QuantizeLinear`/`DequantizeLinear` pairs around layers, ranges from calibration, by ONNX Runtime's quantiser.

Weights are int8, a scale a channel, of 7 bits: ONNX Runtime's kernels for AVX2 and AVX-512 without VNNI add two products of
8 bits in 16, which overflow with more, so the numbers would depend on the machine
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "when to use reduce-range").
Activations are symmetric and written as uint8 with zero point 128, which are the numbers of int8 with zero point 0 moved by
128: ONNX Runtime computes the first fast on x86 and the second as float32 or slower. `signed` moves them back, for
TensorRT, which takes zero point 0 only. Biases stay float32; both engines scale them for themselves.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper
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
#: A tensor that was 0 on every image still needs a scale.
_LEAST = 1e-5


def make(task: Task) -> Variant:
    """Calibrate, choose the method, and search which layers to leave in float32.

    Raises:
        UsageError: a graph without a layer that could be quantised.
        VerificationError: the gate does not hold with half of the layers in float32.
    """
    part = layers.find(task.model, WEIGHTED, BETWEEN)
    if not part.layers:
        raise UsageError(f"the graph has no {', '.join(WEIGHTED)} with constant weights: there is nothing to quantise")
    say(f"int8: ranges of {len(part.tensors)} tensors on {len(task.images.calibration)} images")
    histograms = ranges.measure(task.model, part.tensors, task.feeds(task.images.calibration))
    spans = {name: {key: way(each) for key, each in histograms.items()} for name, way in ranges.METHODS.items()}
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
            "weights": "int8, symmetric, a scale a channel, 7 bits",
            "activations": "uint8 with zero point 128, which is int8, symmetric, moved by 128",
            "float_layers": [layer.name for layer in found.floats],
            "cost": search.COST,
            "layers": found.described(part, "int8"),
            "ranges": spans[method],
        },
    )


def quantise(model: ModelProto, nodes: Collection[str], thresholds: Mapping[str, float]) -> ModelProto:
    """A copy of a graph, or of a part of it, with these nodes between pairs of Q and DQ.

    Args:
        model: with inferred shapes.
        nodes: names of nodes.
        thresholds: the largest magnitude to tell apart, by tensor.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    add_infer_metadata(copy)
    spans = {name: np.float32(max(value, _LEAST)) for name, value in thresholds.items()}
    chosen = [node for node in copy.graph.node if node.name in nodes]
    quantiser = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, {name: (-span, span) for name, span in spans.items()}),
        nodes_to_quantize=[node.name for node in chosen],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({node.op_type for node in chosen}),
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    made = ONNXModel(quantiser.quantize_model())
    made.topological_sort()
    _restore_metadata(made.model, model)
    return made.model


def signed(model: ModelProto) -> ModelProto:
    """A copy whose activations are int8 with zero point 0: the same numbers, as TensorRT takes them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    points = {node.input[2] for node in copy.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in copy.graph.initializer:
        if tensor.name in points and tensor.data_type == TensorProto.UINT8:
            values = numpy_helper.to_array(tensor).astype(np.int16) - 128
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.int8), tensor.name))
    kept = [info for info in copy.graph.value_info if info.type.tensor_type.elem_type != TensorProto.UINT8]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(kept)
    return copy


def _restore_metadata(made: ModelProto, original: ModelProto) -> None:
    """What the file says about itself is the bundle's, not the quantiser's."""
    del made.metadata_props[:]
    made.metadata_props.extend(original.metadata_props)
    made.producer_name, made.producer_version = original.producer_name, original.producer_version
