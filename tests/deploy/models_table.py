"""Export each segmentation experiment, untrained, and compare it with the unpatched model at sizes of one's choice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from mmengine.registry import init_default_scope
from numpy.typing import NDArray
from torch import nn

from deploy import export, graph, tasks, trace
from deploy.outputs import Output
from deploy.reference import Reference
from train import checkpoint
from train import config as configs
from train.errors import InputError
from train.runner import build_model

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
    torch.manual_seed(0)
    built = build_model(config)
    lively(built, lambda: built(images((4, 3, 128, 160)), mode="tensor"))
    weights = folder / "weights.pth"
    checkpoint.save(built, weights, {})
    postprocess = tasks.find(config).postprocess(config, export.read_deploy_config("dynamic"), CLASSES)
    return Reference(config, weights, postprocess)


def lively(model: nn.Module, run: Callable[[], object]) -> None:
    """Give batch norms the statistics of a batch that `run` puts through: with mean 0 and deviation 1 a fault may not show."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the average over all batches seen
        nn.init.uniform_(norm.weight, 0.2, 0.5)
        nn.init.normal_(norm.bias, 0, 0.1)
        norm.train()
    with torch.no_grad():
        run()
    for norm in norms:
        # Channels that hardly vary in four images, as behind a global pooling, would multiply rounding errors.
        norm.running_var.clamp_(min=0.1 * float(norm.running_var.mean()))
    model.eval()


def images(shape: tuple[int, ...]) -> torch.Tensor:
    """Smooth normalised images."""
    generator = torch.Generator().manual_seed(sum(shape))
    small = torch.randn(shape[0], 3, 7, 9, generator=generator)
    fine = torch.randn(shape, generator=generator)
    return nn.functional.interpolate(small, shape[2:], mode="bicubic") + 0.2 * fine


def taken(reference: Reference, size: tuple[int, int]) -> tuple[int, int]:
    """The size itself, or what the data preprocessor pads it to where the model takes no other."""
    try:
        reference.predict(images((1, 3, *size)))
        return size
    except InputError:
        divisor = reference.config.model.data_preprocessor.test_cfg.size_divisor
        height, width = (-(-edge // divisor) * divisor for edge in size)
        return height, width
