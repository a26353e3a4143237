"""Detectors with random weights that detect: what tests export when there are no pretrained weights."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from mmengine.config import Config
from models_table import lively
from torch import Tensor, nn

from deploy import export, tasks
from deploy.reference import Reference
from train import checkpoint
from train import config as configs
from train.runner import build_model

#: Last layers of heads, by name → mean and deviation of what they give: some candidates above the score thresholds, boxes
#: of some size, masks with both signs.
LAST = {
    "retina_cls": (-6.0, 1.5),
    "retina_reg": (0.0, 0.3),
    "conv_cls": (-5.0, 1.5),
    "conv_reg": (3.3, 0.4),
    "conv_centerness": (0.0, 1.0),
    "rpn_cls": (0.0, 2.0),
    "rpn_reg": (0.0, 0.3),
    "fc_cls": (0.0, 2.5),
    "fc_reg": (0.0, 1.0),
    "conv_logits": (0.0, 3.0),
    "rtm_cls": (-9.0, 1.5),
    "rtm_reg": (2.0, 0.5),
    "rtm_kernel": (0.0, 0.5),
    "multi_level_conv_cls": (-2.0, 1.5),
    "multi_level_conv_obj": (-2.0, 1.5),
    "multi_level_conv_reg": (0.5, 0.5),
    "cls_branches": (-3.0, 1.5),
}


def untrained(experiment: str, folder: Path, classes: Iterable[str], images: Tensor) -> Reference:
    """An experiment's model with seeded random weights that give detections on images, N×3×H×W, of this kind."""
    name, path = configs.locate(experiment)
    config = configs.read(path)
    configs.activate(config, path)
    configs.bind(config, folder, tuple(classes))
    return seeded(config, folder / f"{name.replace('/', '-')}.pth", tuple(classes), images)


def seeded(config: Config, weights: Path, classes: tuple[str, ...], images: Tensor) -> Reference:
    """The same of a bound config; its weights are left in a file."""
    torch.manual_seed(0)
    model = build_model(config).eval()
    task = tasks.find(config)
    postprocess = task.postprocess(config, export.read_deploy_config("dynamic"), classes)
    lively(model, lambda: task.forward(model, images, postprocess))
    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            key = next((part for part in name.split(".") if part in LAST), None)
            if key and isinstance(module, nn.Conv2d | nn.Linear) and "cls_convs" not in name:
                hooks.callback(module.register_forward_hook(_Spread(*LAST[key])).remove)
        task.forward(model, images, postprocess)
    checkpoint.save(model, weights, {})
    return Reference(config, weights, postprocess)


class _Spread:
    """Gives a layer's outputs a mean and a deviation, by the first batch that it sees."""

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation, self.done = mean, deviation, False

    def __call__(self, module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.done:
            return None
        self.done = True
        found, factor = output.mean(), self.deviation / output.std().clamp(min=1e-6)
        module.weight.mul_(factor)
        assert module.bias is not None
        module.bias.sub_(found).mul_(factor).add_(self.mean)
        return (output - found) * factor + self.mean
