"""Graphs that compute the same in float32, and are hard to write with fewer bits."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from slipway_runtime import manifest

_STAGE = "/model/backbone/layer4/layer4"
#: All convolutions that write the last stage's maps in the tiny ResNet-18, and all layers that read them.
WRITERS = (f"{_STAGE}.0/conv2/Conv", f"{_STAGE}.0/downsample/downsample.0/Conv", f"{_STAGE}.1/conv2/Conv")
READERS = (f"{_STAGE}.1/conv1/Conv", "/model/head/fc/Gemm")


def unbalance(bundle: Path, factor: float) -> None:
    """Multiply one channel of the last stage's maps by `factor`, and divide the weights that read it by that.

    What lies between, ReLU, sums and the average, commutes with it. Changes the graph and its hash in the manifest.
    """
    model = onnx.load(bundle / manifest.GRAPH_NAME)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    changes = [(name, (0,), factor) for node in WRITERS for name in nodes[node].input[1:]]
    changes += [(nodes[node].input[1], (slice(None), 0), 1 / factor) for node in READERS]
    for name, index, by in changes:
        values = numpy_helper.to_array(tensors[name]).copy()
        values[index] *= np.float32(by)
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, bundle / manifest.GRAPH_NAME)
    described = manifest.read(bundle)
    files = {**described.files, manifest.GRAPH_NAME: manifest.sha256(bundle / manifest.GRAPH_NAME)}
    (bundle / manifest.FILE_NAME).write_text(described.model_copy(update={"files": files}).to_json())
