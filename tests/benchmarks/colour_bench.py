"""Real experiments small enough to measure in a second: three colours, told apart in images and in their pixels."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slipway_runtime import manifest as m
from train.data import label_maps
from train.experiment import Experiment, Record
from train.files import sha256

NAME = "cls/colours"
PIXELS = "seg/colours"
CLASSES = ("blue", "green", "red")
#: The cell that tests run: one short process.
BRIEF = [
    "backends=[onnxruntime]",
    "batch_sizes=[1]",
    "repetitions=1",
    "threads=1",
    "inputs=2",
    "scenarios=[stream]",
    "stages=false",
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
    _write_bundle(experiment, nodes, weights, batch, ("scores", 3), postprocess=m.ClassificationOutput(topk=5))


def write_segmenter(experiment: Experiment, batch: int | str = "batch", window: m.Window | None = None) -> None:
    """Write graph and manifest of a segmenter: a pixel has the class of its largest channel."""
    weights = [numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "weight")]
    nodes = [helper.make_node("Conv", ["image", "weight"], ["logits"])]
    output = m.SegmentationOutput(align_corners=False, window=window)
    palette = ((0, 0, 255), (0, 255, 0), (255, 0, 0))
    _write_bundle(
        experiment, nodes, weights, batch, ("logits", 3, "height", "width"), postprocess=output, palette=palette
    )


def _write_bundle(
    experiment: Experiment,
    nodes: list[Any],
    weights: list[Any],
    batch: int | str,
    output: tuple[Any, ...],
    **described: Any,
) -> None:
    """`output`: the name of the graph's output and its shape without the batch."""
    name, *rest = output
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, "height", "width"])
    made = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *rest])
    graph = helper.make_graph(nodes, "colours", [image], [made], weights)
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
        outputs=(m.TensorSpec(name=name, dtype="float32", shape=(batch, *rest)),),
        preprocess=(m.Decode(), m.Normalize(mean=(127.5,), std=(127.5,), reverse_channels=False)),
        files={m.GRAPH_NAME: sha256(bundle / m.GRAPH_NAME)},
        origin=m.Origin(
            checkpoint="checkpoint.pth",
            checkpoint_sha256=record.checkpoint_sha256,
            config="config.py",
            config_sha256=record.config_sha256,
        ),
        tools={"onnx": onnx.__version__},
        **described,
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
    _describe(root, fingerprint)


def write_scenes(root: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Write an image of three stripes, blue, green and red, for each (height, width), and its label map.

    The map says of the green stripe's first column that it is blue, and ignores the last column of the red one.
    """
    for i, (height, width) in enumerate(sizes):
        labels = np.repeat(np.arange(3, dtype=np.uint8), -(-width // 3))[:width] * np.ones((height, 1), np.uint8)
        image = np.full((height, width, 3), i, np.uint8)
        np.put_along_axis(image, labels[..., None].astype(np.int64), 200, axis=2)
        labels[:, -(-width // 3)] = 0
        labels[:, -1] = label_maps.IGNORE
        for folder in (root / "val", root / "labels" / "val"):
            folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "val" / f"{i}.png"), image)
        label_maps.save(root / "labels" / "val" / f"{i}.png", labels, label_maps.coloured(CLASSES))
    label_maps.write_lists(root, label_maps.coloured(CLASSES), {"val": [f"{i}.png" for i in range(len(sizes))]})
    _describe(root, "f" * 64)


def _describe(root: Path, fingerprint: str) -> None:
    described: dict[str, Any] = {"request": {"source": "imagefolder"}, "classes": CLASSES, "images": {"val": 9}}
    (root / "dataset.json").write_text(json.dumps({**described, "fingerprint": fingerprint, "findings": {}}))


def write_training(name: str, folder: Path) -> Experiment:
    """`folder/work/NAME`, trained as far as room 3 looks: there are files and a record of them; data in `folder/data`."""
    experiment = Experiment(name, folder / "work")
    experiment.train.mkdir(parents=True)
    experiment.config.write_text("# a config\n")
    experiment.checkpoint.write_bytes(b"weights")
    root = str(folder / "data")
    data = {"root": root, "source": "imagefolder", "fingerprint": "f" * 64, "classes": list(CLASSES)}
    experiment.write(
        Record(
            experiment=name,
            fingerprint="0" * 64,
            config_sha256=sha256(experiment.config),
            checkpoint_sha256=sha256(experiment.checkpoint),
            data=data,
        )
    )
    return experiment


#: `bench(experiment, *overrides, arguments=…)` → exit code, the experiment's part of the JSON.
Bench = Callable[..., tuple[int, dict[str, Any]]]
