"""Small real bundles: a classifier that averages each colour plane, multiplies and takes the softmax."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slipway_runtime import manifest as m

CLASSES = ("blue", "green", "red", "grey")
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


BundleMaker = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path) -> BundleMaker:
    """Call it to write a bundle; `weight` and `shape` change the graph, other arguments the manifest."""

    def make(name: str = "bundle", weight: np.ndarray = WEIGHT, **fields: Any) -> Path:
        shape = fields.get("shape", ("batch", 3, "height", "width"))
        manifest = build_manifest(**fields)
        model = build_graph(weight, shape)
        helper.set_model_props(model, {m.METADATA_KEY: manifest.to_json()})
        folder = tmp_path / name
        folder.mkdir()
        content = model.SerializeToString()
        (folder / m.GRAPH_NAME).write_bytes(content)
        files = {m.GRAPH_NAME: hashlib.sha256(content).hexdigest()}
        (folder / m.FILE_NAME).write_text(manifest.model_copy(update={"files": files}).to_json(), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def bundle(make_bundle: BundleMaker) -> Path:
    return make_bundle()


def save(path: Path, image: np.ndarray) -> Path:
    """Write a BGR array; any file name, as OpenCV's own `imwrite` does not promise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


@pytest.fixture
def colours(tmp_path: Path) -> dict[str, Path]:
    """An image a colour, named after the class it belongs to."""
    bgr = {"blue": (255, 0, 0), "green": (0, 255, 0), "red": (0, 0, 255), "grey": (255, 255, 255)}
    return {
        name: save(tmp_path / "images" / f"{name}.png", np.full((9, 7, 3), value, np.uint8))
        for name, value in bgr.items()
    }
