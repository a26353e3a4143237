"""A network in one layer a level: what tests of heads take for a backbone and a neck."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Pyramid(nn.Module):
    """Images → a map of every stride, and heads to go with them, by their names in mmdet's and mmseg's models.

    Args:
        strides: of the maps.
        channels: of each of them.
        heads: modules, or None.
    """

    def __init__(self, strides: Sequence[int], channels: int, **heads: nn.Module | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.levels = nn.ModuleList(nn.Conv2d(3, channels, 3, stride, 1) for stride in strides)
        for name, head in heads.items():
            setattr(self, name, head)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        self.eval().requires_grad_(False)

    def extract_feat(self, images: Tensor) -> list[Tensor]:
        """A map of each level."""
        return [level(images) for level in self.levels]


def shrunk(node: Any, sizes: dict[int, int]) -> Any:
    """A config with other numbers in the place of some, wherever they are."""
    if isinstance(node, dict):
        return {key: shrunk(value, sizes) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [shrunk(value, sizes) for value in node]
    return sizes.get(node, node) if type(node) is int else node
