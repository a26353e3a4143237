"""Small real bundles: a classifier of the mean colour, a segmenter that does the same pixel by pixel, and a detector that
finds the same things in every image that is not dark."""

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slipway_runtime import manifest as m

CLASSES = ("blue", "green", "red", "grey")
#: RGB of each class.
PALETTE = ((0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 128, 128))
#: Channels of the tensor are R, G, B: each of the first three classes likes one of them, "grey" likes all a little.
WEIGHT = np.array([[0, 0, 2, 1], [0, 2, 0, 1], [2, 0, 0, 1]], np.float32)


def build_graph(
    weight: np.ndarray = WEIGHT, shape: tuple[Any, ...] = ("batch", 3, "height", "width")
) -> onnx.ModelProto:
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (shape[0], weight.shape[1]))]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def build_manifest(shape: tuple[Any, ...] = ("batch", 3, "height", "width"), **fields: Any) -> m.Manifest:
    values: dict[str, Any] = {
        "name": "tiny",
        "classes": CLASSES,
        "inputs": (m.TensorSpec(name="image", dtype="float32", shape=shape),),
        "outputs": (m.TensorSpec(name="scores", dtype="float32", shape=(shape[0], 4)),),
        "preprocess": (
            m.Decode(),
            m.Resize(width=16, height=16),
            m.Normalize(mean=(127.5,), std=(127.5,), reverse_channels=True),
        ),
        "postprocess": m.ClassificationOutput(topk=2),
        "origin": m.Origin(checkpoint="x.pth", checkpoint_sha256="0" * 64, config="x.py", config_sha256="0" * 64),
        "tools": {"onnx": onnx.__version__},
    }
    return m.Manifest(**{**values, **fields})


def build_segmenter(weight: np.ndarray = WEIGHT, stride: int = 1) -> onnx.ModelProto:
    """Logits of each pixel, or of each `stride` × `stride` pixels' mean."""
    pool = helper.make_node(
        "AveragePool", ["image"], ["pooled"], kernel_shape=[stride] * 2, strides=[stride] * 2, ceil_mode=1
    )
    classify = helper.make_node("Conv", ["pooled", "weight"], ["logits"])
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3, "height", "width"))]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", weight.shape[1], "h", "w"))]
    kernel = numpy_helper.from_array(np.ascontiguousarray(weight.T)[..., None, None], "weight")
    graph = helper.make_graph([pool, classify], "tiny", inputs, outputs, [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def segmenter_manifest(**fields: Any) -> m.Manifest:
    values: dict[str, Any] = {
        "palette": PALETTE,
        "outputs": (m.TensorSpec(name="logits", dtype="float32", shape=("batch", 4, "h", "w")),),
        "preprocess": (m.Decode(), m.Normalize(mean=(127.5,), std=(127.5,), reverse_channels=True)),
        "postprocess": m.SegmentationOutput(align_corners=False),
    }
    return build_manifest(**{**values, **fields})


def build_detector(dets: np.ndarray, labels: np.ndarray, masks: np.ndarray | None = None) -> onnx.ModelProto:
    """These detections, K×5, K and K×h×w, for every image; in one whose mean is below 0 all labels are −1."""
    given = {"dets": dets, "labels": labels, "masks": masks}
    constants = {name: value for name, value in given.items() if value is not None}
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("ReduceMean", ["pooled"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Less", ["column", "zero"], ["dark"]),
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
    ]
    tensors = [numpy_helper.from_array(np.array([1]), "one"), numpy_helper.from_array(np.float32(0), "zero")]
    tensors.append(numpy_helper.from_array(np.int64(-1), "none"))
    outputs = []
    for name, value in constants.items():
        made = "lit" if name == "labels" else name
        nodes.append(helper.make_node("Concat", ["batch", f"{name}.shape"], [f"{name}.size"], axis=0))
        nodes.append(helper.make_node("Expand", [f"{name}.value", f"{name}.size"], [made]))
        tensors.append(numpy_helper.from_array(value, f"{name}.value"))
        tensors.append(numpy_helper.from_array(np.array(value.shape, np.int64), f"{name}.shape"))
        kind = TensorProto.INT64 if name == "labels" else TensorProto.FLOAT
        outputs.append(helper.make_tensor_value_info(name, kind, ("batch", "found", *value.shape[1:])))
    nodes.append(helper.make_node("Where", ["dark", "none", "lit"], ["labels"]))
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3, "height", "width"))]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def detector_manifest(mask_size: tuple[int, ...] | None = None, **fields: Any) -> m.Manifest:
    """Of a detector whose masks are h×w = `mask_size` over each box; None: of boxes only."""
    outputs = [("dets", "float32", (5,)), ("labels", "int64", ())]
    masks = None
    if mask_size:
        outputs.append(("masks", "float32", mask_size))
        masks = m.Masks(over="box", threshold=0.5)
    values: dict[str, Any] = {
        "palette": PALETTE,
        "outputs": tuple(
            m.TensorSpec(name=name, dtype=dtype, shape=("batch", "found", *rest)) for name, dtype, rest in outputs
        ),
        "preprocess": (
            m.Decode(),
            m.Resize(width=64, height=64, keep_ratio=True),
            m.Normalize(mean=(127.5,), std=(127.5,), reverse_channels=True),
            m.Pad(divisor=32),
        ),
        "postprocess": m.DetectionOutput(clip=True, masks=masks),
    }
    return build_manifest(**{**values, **fields})


def write_bundle(folder: Path, model: onnx.ModelProto, manifest: m.Manifest) -> Path:
    helper.set_model_props(model, {m.METADATA_KEY: manifest.to_json()})
    folder.mkdir()
    content = model.SerializeToString()
    (folder / m.GRAPH_NAME).write_bytes(content)
    files = {m.GRAPH_NAME: hashlib.sha256(content).hexdigest()}
    (folder / m.FILE_NAME).write_text(manifest.model_copy(update={"files": files}).to_json(), encoding="utf-8")
    return folder


def save(path: Path, image: np.ndarray) -> Path:
    """Write a BGR array; any file name, as OpenCV's own `imwrite` does not promise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path
