"""Export each segmentation experiment, untrained, and compare it with the unpatched model at sizes of one's choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from mmengine.registry import init_default_scope
from numpy.typing import NDArray

from deploy import export, graph, trace
from deploy.outputs import Output
from deploy.reference import Reference
from deploy.zoo.seeding import images, seeded
from train import config as configs
from train.errors import InputError

CLASSES = ("background", *"0123456789")
MODELS = (
    "pspnet-r18",
    "pspnet-r50",
    "deeplabv3plus-r18",
    "deeplabv3plus-r50",
    "fcn-unet",
    "fast-scnn",
    "upernet-r18",
    "bisenetv2",
    "segformer-b0",
    "vit-fpn",
)


@dataclass(frozen=True)
class Compared:
    """One model's graph against the unpatched model.

    Attributes:
        model: the experiment, without its data set.
        nodes: of the graph.
        megabytes: of the graph's file.
        outputs: (height, width) of the input → how far the logits are apart.
    """

    model: str
    nodes: int
    megabytes: float
    outputs: dict[tuple[int, int], Output]


def compare(model: str, folder: Path, sizes: Sequence[tuple[int, int]]) -> Compared:
    """Export one graph with dynamic sizes, traced at none of `sizes`, and run it at each of them."""
    reference = untrained(model, folder)
    image = images((1, 3, 128, 160))[0]
    traced = trace.trace(export.read_deploy_config("dynamic"), reference, image)
    graph.check(traced)
    path = folder / "model.onnx"
    onnx.save(traced, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = {}
    for size in (taken(reference, size) for size in sizes):
        batch = images((1, 3, *size))
        output = outputs[size] = Output()
        found = session.run(None, {"input": batch.numpy()})[0]
        wanted = reference.predict(batch)["output"].numpy()
        output.update(found, wanted, lambda _: rounding(reference, batch, wanted))  # noqa: B023
    return Compared(model, len(traced.graph.node), path.stat().st_size / 2**20, outputs)


def rounding(reference: Reference, images: torch.Tensor, wanted: NDArray[np.float32]) -> float:
    """How far PyTorch itself is from float64."""
    return float(np.abs(wanted - reference.exact(images)["output"].numpy()).max())


def untrained(model: str, folder: Path) -> Reference:
    """The experiment's model with seeded random weights, and batch norms whose statistics are those of data."""
    path = configs.CONFIGS / "seg" / f"{model}_digits.py"
    config = configs.read(path)
    configs.activate(config, path)
    configs.bind(config, folder, CLASSES)
    init_default_scope("mmseg")
    return seeded(config, folder / "weights.pth", CLASSES, images((4, 3, 128, 160)))


def taken(reference: Reference, size: tuple[int, int]) -> tuple[int, int]:
    """The size itself, or what the data preprocessor pads it to where the model takes no other."""
    try:
        reference.predict(images((1, 3, *size)))
        return size
    except InputError:
        divisor = reference.config.model.data_preprocessor.test_cfg.size_divisor
        height, width = (-(-edge // divisor) * divisor for edge in size)
        return height, width
