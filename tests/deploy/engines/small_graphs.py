"""Tiny graphs with what TensorRT cannot take as it is, and how they are compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from deploy.engines.capabilities import Capabilities
from deploy.engines.graphs.target import Target

#: What a TensorRT offers does not matter to the rewritings so far.
CAPABILITIES = Capabilities(True, False, False, False, False, True, True, (), True, True, True, ("none",))


def target(*largest: int) -> Target:
    return Target(CAPABILITIES, largest or None)


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, tuple[int, Sequence[Any]]],
    constants: Mapping[str, NDArray],
) -> ModelProto:
    """A graph of float32 inputs, with inferred shapes."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def run(graph: ModelProto, feeds: Mapping[str, NDArray]) -> list[NDArray]:
    """The outputs, each operator computed as it stands in the graph."""
    onnx.checker.check_model(graph, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray] = session.run(None, dict(feeds))
    return outputs


def copy(graph: ModelProto) -> ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    return made


def largest_elements(wanted: int | None) -> ModelProto:
    """The image's best numbers and their places: so many, or, where `None`, all of them."""
    count = [
        helper.make_node("Shape", ["flat"], ["shape"], name="shape"),
        helper.make_node("Slice", ["shape", "one", "two"], ["k"], name="length"),
    ]
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flatten"),
        *(count if wanted is None else []),
        helper.make_node("TopK", ["flat", "k"], ["values", "places"], name="top", axis=1),
    ]
    constants = {"one": np.array([1]), "two": np.array([2])} if wanted is None else {"k": np.array([wanted])}
    outputs = {"values": (TensorProto.FLOAT, ["n", "k"]), "places": (TensorProto.INT64, ["n", "k"])}
    return model(nodes, {"input": ["n", 3, "h", "w"]}, outputs, constants)


def suppression(asked: int) -> ModelProto:
    """Boxes N×M×4 and scores N×1×M → the places of those kept, and every score."""
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "asked", "iou", "above"], ["kept"], name="nms"),
        helper.make_node("Identity", ["scores"], ["dets"], name="dets"),
    ]
    constants = {
        "asked": np.array([asked]),
        "iou": np.array([0.5], np.float32),
        "above": np.array([0.1], np.float32),
    }
    inputs = {"boxes": ["n", "m", 4], "scores": ["n", 1, "m"]}
    outputs = {"kept": (TensorProto.INT64, ["s", 3]), "dets": (TensorProto.FLOAT, ["n", 1, "m"])}
    return model(nodes, inputs, outputs, constants)
