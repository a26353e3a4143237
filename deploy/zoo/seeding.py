"""Random weights that show errors: what is exported where no trained weights are.

With the weights that a model begins with, batch norms do nothing, layer scales are 1e-6, position embeddings are zeros and a
detector finds nothing: a fault would not show.
"""

import math
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from deploy import export, tasks
from deploy.reference import Reference
from train import checkpoint
from train.runner import build_model

#: Last layers that score by sigmoid: as logits, the threshold is this far above the mean, and the largest is this. Scores that
#: reach 1 would be equal, and which of them come first is nobody's promise.
SCORES = ("retina_cls", "conv_cls", "rtm_cls", "atss_cls", "vfnet_cls", "gfl_cls", "reppoints_cls_out")
ABOVE, LARGEST = 3.0, 2.0
#: Other last layers of heads, by name after its owner's class (a regular expression) → mean and deviation of what they give:
#: boxes of some size, masks with both signs.
LAST = {
    "FoveaHead.bbox_head.conv_reg": (0.0, 0.3),
    "retina_reg": (0.0, 0.3),
    "conv_reg": (3.3, 0.4),
    "conv_centerness": (0.0, 1.0),
    "rpn_cls": (-4.0, 1.5),  # of two that overlap and are as sure, either may go: far from 1 hardly any are
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
    "atss_reg": (0.0, 0.3),
    "atss_centerness": (0.0, 1.0),
    "vfnet_reg": (-1.5, 0.4),
    "vfnet_reg_refine": (0.0, 0.3),
    "gfl_reg": (0.0, 1.5),
    "reppoints_pts_(init|refine)_out": (0.0, 1.5),
    r"cls_convs\.\d\.0$": (0.0, 1.5),  # SSD's
    r"reg_convs\.\d\.0$": (0.0, 0.5),
    "convs_pred": (-2.0, 1.5),
    r"heatmap_head\.2": (-3.0, 1.5),
    r"wh_head\.2": (8.0, 3.0),
    r"offset_head\.2": (0.5, 0.2),
}
#: What keeps the maps of a deep network from fading.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def seeded(
    config: Config,
    weights: Path,
    classes: Sequence[str],
    batch: Tensor,
    *,
    statistics: bool = True,
    varied: bool = False,
) -> Reference:
    """A bound config's model with seeded random weights that give results on images, N×3×H×W, of this kind.

    Args:
        config: of any task.
        weights: a file that they are left in.
        classes: names of the classes.
        batch: several images.
        statistics: of these images, for batch norms; else they keep those that they begin with.
        varied: whether parameters that begin as one number are varied (`vary`).
    """
    torch.manual_seed(0)
    model = build_model(config).eval()
    task = tasks.find(config)
    postprocess = task.postprocess(config, export.read_deploy_config("dynamic"), classes)
    if varied:
        vary(model)
    if statistics:
        lively(model, lambda: task.forward(model, batch, postprocess))
    threshold = (config.model.get("test_cfg") or {}).get("score_thr") or 0.05
    mean = math.log(threshold / (1 - threshold)) - ABOVE
    last = {**LAST, **dict.fromkeys(SCORES, (mean, None))} if "Detection" in task.CODEBASE["task"] else {}
    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            owned = f"{type(model.get_submodule(name.rpartition('.')[0])).__name__}.{name}"
            key = next((each for each in last if re.search(rf"(^|\.){each}(\.|$)", owned)), None)
            if key and isinstance(module, nn.Conv2d | nn.Linear):
                hooks.callback(module.register_forward_hook(_Spread(*last[key])).remove)
        if last:
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


def vary(model: nn.Module) -> None:
    """Spread parameters that are one number all over: embeddings of zeros, layer scales, layer norms that do nothing."""
    with torch.no_grad():
        if not any(isinstance(each, _NORMS) for each in model.modules()):
            for each in model.modules():  # else its maps fade from layer to layer
                if isinstance(each, nn.Conv2d):
                    nn.init.kaiming_normal_(each.weight, nonlinearity="relu")
        for name, parameter in model.named_parameters():
            if "init_proposal_bboxes" in name:  # centres and sizes: random ones may be none
                nn.init.uniform_(parameter, 0.2, 0.8)
            if "l2_norm" in name:  # SSD's begins as whatever its memory holds
                nn.init.uniform_(parameter, 10, 20)
            if parameter.numel() == 1 and not parameter:
                parameter.fill_(0.5)  # it opens a branch that begins shut
            if parameter.numel() == 1 or parameter.min() < parameter.max():
                continue
            if parameter.dim() > 1 and parameter.shape[0] > 1:  # the weights of a layer
                nn.init.kaiming_normal_(parameter)
            elif parameter.flatten()[0]:
                nn.init.uniform_(parameter, 0.3, 0.7)
            else:
                nn.init.normal_(parameter, 0, 0.1)


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
        assert norm.running_var is not None
        norm.running_var.clamp_(min=0.1 * float(norm.running_var.mean()))
    model.eval()


def images(shape: tuple[int, ...]) -> Tensor:
    """Smooth normalised images, N×3×H×W; the same for the same shape."""
    generator = torch.Generator().manual_seed(sum(shape))
    small = torch.randn(shape[0], 3, 7, 9, generator=generator)
    fine = torch.randn(shape, generator=generator)
    return nn.functional.interpolate(small, shape[2:], mode="bicubic") + 0.2 * fine
