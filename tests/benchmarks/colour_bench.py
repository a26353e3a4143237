"""A real experiment small enough to measure in a second: three colours, told apart by a graph of four nodes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slipway_runtime import manifest as m
from train.experiment import Experiment
from train.files import sha256

NAME = "cls/colours"
CLASSES = ("blue", "green", "red")
#: The cell that tests run: one short process.
BRIEF = [
    "backends=[onnxruntime]",
    "batch_sizes=[1]",
    "repetitions=1",
    "threads=1",
    "inputs=2",
    "timer={seconds: 0.02, window_ms: 2, settled_windows: 2, tolerance: 1000}",
]


def write_graph(
    experiment: Experiment, batch: int | str = "batch", only_batch: int | None = None, gain: float = 9
) -> None:
    """Write graph and manifest.

    Args:
        experiment: whose bundle.
        batch: the batch that the graph declares.
        only_batch: a batch that alone works, whatever the graph declares.
        gain: of the scores.
    """
    weights = [numpy_helper.from_array(np.eye(3, dtype=np.float32) * gain, "weight")]
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
    ]
    if only_batch is not None:
        # A side branch whose Gemm finds the wrong number of columns at any other batch.
        weights.append(numpy_helper.from_array(np.array([only_batch, -1], np.int64), "shape"))
        nodes += [
            helper.make_node("Reshape", ["pooled", "shape"], ["row"]),
            helper.make_node("Gemm", ["row", "weight"], ["branch"]),
            helper.make_node("Add", ["logits", "branch"], ["sum"]),
        ]
    nodes.append(helper.make_node("Softmax", [nodes[-1].output[0]], ["scores"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, "height", "width"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph(nodes, "colours", [image], [scores], weights)
    bundle = experiment.bundle
    bundle.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), bundle / m.GRAPH_NAME
    )
    record = experiment.read()
    manifest = m.Manifest(
        name=experiment.name,
        classes=CLASSES,
        inputs=(m.TensorSpec(name="image", dtype="float32", shape=(batch, 3, "height", "width")),),
        outputs=(m.TensorSpec(name="scores", dtype="float32", shape=(batch, 3)),),
        preprocess=(m.Decode(), m.Normalize(mean=(127.5,), std=(127.5,), reverse_channels=False)),
        postprocess=m.ClassificationOutput(topk=5),
        files={m.GRAPH_NAME: sha256(bundle / m.GRAPH_NAME)},
        origin=m.Origin(
            checkpoint="checkpoint.pth",
            checkpoint_sha256=record.checkpoint_sha256,
            config="config.py",
            config_sha256=record.config_sha256,
        ),
        tools={"onnx": onnx.__version__},
    )
    (bundle / m.FILE_NAME).write_text(manifest.to_json())


def write_data(root: Path, fingerprint: str = "f" * 64) -> None:
    """Write nine images of plain colours in the prepared layout, the last one under a wrong label."""
    labels = [i % 3 for i in range(9)]
    for i, label in enumerate(labels):
        path = root / "val" / CLASSES[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((8, 8, 3), 10 * i, np.uint8)
        image[..., label] = 200
        cv2.imwrite(str(path), image)
    shown = [*labels[:-1], 0]
    lines = [f"{CLASSES[label]}/{i}.png {said}" for i, (label, said) in enumerate(zip(labels, shown, strict=True))]
    (root / "val.txt").write_text("\n".join(lines) + "\n")
    described: dict[str, Any] = {"request": {"source": "imagefolder"}, "classes": CLASSES, "images": {"val": 9}}
    (root / "dataset.json").write_text(json.dumps({**described, "fingerprint": fingerprint, "findings": {}}))


#: `bench(experiment, *overrides, arguments=…)` → exit code, the experiment's part of the JSON.
Bench = Callable[..., tuple[int, dict[str, Any]]]
