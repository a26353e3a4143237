"""Semantic segmentation with mmsegmentation: each pixel has one class."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from train.data import Prepared, label_maps
from train.errors import InputError, UsageError
from train.tasks import Palette, set_class_count

SCOPE = "mmseg"
METRIC = "mIoU"
ALSO: tuple[str, ...] = ()
METRIC_LABEL = "mIoU"
PERCENT = 1.0


def classes(prepared: Prepared) -> tuple[tuple[str, ...], Palette]:
    """The classes of the label maps, which a set with instances has besides theirs."""
    found = label_maps.read_classes(prepared.root)
    return tuple(each.name for each in found), tuple(each.color for each in found)


def samples(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Images with their label maps."""
    return label_maps.read_split(root, split)


def bind(config: Any, classes: Sequence[str]) -> None:
    """Every head counts classes.

    Raises:
        InputError: fewer than two classes.
        UsageError: a loss that weighs another number of classes.
    """
    if len(classes) < 2:
        raise InputError(f"{len(classes)} class in the data; a segmenter needs at least two, background included")
    set_class_count(config.model, len(classes))
    for weights in _class_weights(config.model):
        if len(weights) != len(classes):
            raise UsageError(
                f"a loss has class_weight for {len(weights)} classes, the data has {len(classes)}: "
                f"{', '.join(classes)}; give one weight each, or class_weight=None"
            )


def _class_weights(node: Any) -> Iterator[Sequence[float]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "class_weight" and isinstance(value, list | tuple):
                yield value
            else:
                yield from _class_weights(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _class_weights(value)
