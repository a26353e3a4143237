"""Image classification with mmpretrain: an image has one class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.data import Prepared, read_split
from train.errors import InputError
from train.tasks import set_class_count

SCOPE = "mmpretrain"
METRIC = "accuracy/top1"
ALSO: tuple[str, ...] = ()
METRIC_LABEL = "top-1"
PERCENT = 1.0


def classes(prepared: Prepared) -> tuple[tuple[str, ...], None]:
    """The names of the class folders or lists."""
    return prepared.classes, None


def samples(root: Path, split: str) -> list[tuple[Path, int]]:
    """Images with their class index."""
    return read_split(root, split)


def bind(config: Any, classes: Sequence[str]) -> None:
    """The model, the metric and the preprocessor count classes; a top-k of more than there are is refused by mmpretrain.

    Raises:
        InputError: fewer than two classes.
    """
    if len(classes) < 2:
        raise InputError(f"{len(classes)} class in the data; a classifier needs at least two")
    for part in ("model", "val_evaluator", "test_evaluator"):
        set_class_count(config.get(part), len(classes))
        _limit_topk(config.get(part), len(classes))
    if "data_preprocessor" in config:
        config.data_preprocessor.num_classes = len(classes)


def _limit_topk(node: Any, count: int) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "topk" and isinstance(value, list | tuple):
                node[key] = tuple(k for k in value if k <= count)
            else:
                _limit_topk(value, count)
    elif isinstance(node, list | tuple):
        for value in node:
            _limit_topk(value, count)
