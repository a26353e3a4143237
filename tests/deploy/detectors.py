"""Detectors with random weights that detect: what tests export when there are no pretrained weights."""

import copy
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from mmengine.config import Config
from models_table import images, lively
from torch import Tensor, nn

from deploy import export, graph, tasks, trace
from deploy.outputs import Output
from deploy.reference import Reference
from deploy.tasks import detection
from train import checkpoint
from train.runner import build_model

#: Last layers that score by sigmoid: as logits, the threshold is this far above the mean, and the largest is this. Scores that
#: reach 1 would be equal, and which of them come first is nobody's promise.
SCORES = ("retina_cls", "conv_cls", "rtm_cls")
ABOVE, LARGEST = 3.0, 2.0
#: Other last layers of heads, by name → mean and deviation of what they give: boxes of some size, masks with both signs.
LAST = {
    "retina_reg": (0.0, 0.3),
    "conv_reg": (3.3, 0.4),
    "conv_centerness": (0.0, 1.0),
    "rpn_cls": (0.0, 2.0),
    "rpn_reg": (0.0, 0.3),
    "fc_cls": (0.0, 1.0),
    "fc_reg": (0.0, 0.5),
    "conv_logits": (0.0, 3.0),
    "rtm_reg": (2.7, 0.5),  # not 2: boxes of four strides overlap their neighbours by 0.6, the threshold
    "rtm_kernel": (0.0, 0.5),
    "multi_level_conv_cls": (-4.0, 1.0),
    "multi_level_conv_obj": (-5.0, 1.5),
    "multi_level_conv_reg": (0.5, 0.2),
    "cls_branches": (-3.0, 1.5),
}


def seeded(
    config: Config, weights: Path, classes: Sequence[str], batch: Tensor, *, statistics: bool = True
) -> Reference:
    """A bound config's model with seeded random weights that give detections on images, N×3×H×W, of this kind.

    The weights are left in a file. Without `statistics`, batch norms keep those that they begin with.
    """
    torch.manual_seed(0)
    model = build_model(config).eval()
    task = tasks.find(config)
    postprocess = task.postprocess(config, export.read_deploy_config("dynamic"), classes)
    if statistics:
        lively(model, lambda: task.forward(model, batch, postprocess))
    threshold = (config.model.get("test_cfg") or {}).get("score_thr") or 0.05
    mean = math.log(threshold / (1 - threshold)) - ABOVE
    last = {**LAST, **dict.fromkeys(SCORES, (mean, None))}
    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            key = next((part for part in name.split(".") if part in last), None)
            if key and isinstance(module, nn.Conv2d | nn.Linear) and "cls_convs" not in name:
                hooks.callback(module.register_forward_hook(_Spread(*last[key])).remove)
        task.forward(model, batch, postprocess)
    checkpoint.save(model, weights, {})
    return Reference(config, weights, postprocess)


class _Spread:
    """Gives a layer's outputs a mean and a deviation, or `LARGEST` in its place, by the first batch that it sees."""

    def __init__(self, mean: float, deviation: float | None) -> None:
        self.mean, self.deviation, self.done = mean, deviation, False

    def __call__(self, module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.done:
            return None
        self.done = True
        found = output.mean()
        if self.deviation is None:
            factor = (LARGEST - self.mean) / (output.max() - found).clamp(min=1e-6)
        else:
            factor = self.deviation / output.std().clamp(min=1e-6)
        module.weight.mul_(factor)
        assert module.bias is not None
        module.bias.sub_(found).mul_(factor).add_(self.mean)
        return (output - found) * factor + self.mean


class RawHeads:
    """A task whose outputs are the maps that a detector's first head gives, before anything is selected."""

    CODEBASE = detection.CODEBASE

    @staticmethod
    def outputs(postprocess: object) -> dict[str, dict[int, str]]:
        """A name for each map of at most five levels; which there are is known once the model ran."""
        return {name: {2: f"{name}_height", 3: f"{name}_width"} for name in RawHeads.names}

    names: tuple[str, ...] = ()

    @staticmethod
    def trace(model: Any, images: Tensor, postprocess: object) -> list[Tensor]:
        """The same function: nothing in it is frozen."""
        return list(RawHeads.forward(model, images, postprocess).values())

    @staticmethod
    def forward(model: Any, images: Tensor, postprocess: object) -> dict[str, Tensor]:
        """Classification, regression and whatever else, level by level; of a transformer, what its last layer says."""
        features = model.extract_feat(images)
        if hasattr(model, "forward_transformer"):
            states = model.forward_transformer(features, detection._samples(images))
            maps = [each[-1] for each in model.bbox_head(*states.values())]
        else:
            head = model.rpn_head if hasattr(model, "rpn_head") else model.bbox_head
            maps = [level for kind in head(features) for level in (kind if isinstance(kind, list | tuple) else [kind])]
        return {f"map{number}": each for number, each in enumerate(maps)}


def compare_heads(reference: Reference, sizes: Sequence[tuple[int, int]], path: Path) -> Output:
    """The raw maps of one graph for every size against the unpatched model's, at sizes that it was not traced at."""
    raw = copy.copy(reference)
    raw.task = RawHeads
    RawHeads.names = tuple(raw(images((1, 3, 128, 160))))
    traced = trace.trace(export.read_deploy_config("dynamic"), raw, images((1, 3, 128, 160))[0])
    graph.check(traced)
    onnx.save(traced, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    output = Output()
    for size in sizes:
        batch = images((2, 3, *size))
        wanted, exact = raw(batch), raw.exact(batch)
        for name, found in zip(RawHeads.names, session.run(None, {"input": batch.numpy()}), strict=True):
            rounding = float((wanted[name] - exact[name]).abs().max())
            output.update(found, wanted[name].numpy(), lambda _, rounding=rounding: rounding)  # type: ignore[misc]
    return output
