"""Detection and instance segmentation with mmdetection: an image has objects, each with a box, a class, perhaps a mask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train import config as configs
from train.data import Prepared, instances
from train.errors import InputError
from train.tasks import Palette, set_class_count

SCOPE = "mmdet"
METRIC = "coco/bbox_mAP"
ALSO: tuple[str, ...] = ("coco/bbox_mAP_50", "coco/segm_mAP", "coco/segm_mAP_50")
METRIC_LABEL = "bbox mAP"
PERCENT = 100.0  # mmdet logs shares


def classes(prepared: Prepared) -> tuple[tuple[str, ...], Palette]:
    """The categories of the annotation files.

    Raises:
        InputError: a split without an object.
    """
    bare = [split for split, count in prepared.images.items() if count and not _has_object(prepared.root, split)]
    if bare:
        raise InputError(
            f"{prepared.root}: no object in {' and '.join(bare)}; nothing can be learned or measured there: label some"
        )
    found = instances.read_classes(prepared.root)
    return tuple(each.name for each in found), tuple(each.color for each in found)


def _has_object(root: Path, split: str) -> bool:
    return any(not each.iscrowd for _, labelled in instances.read_split(root, split) for each in labelled.instances)


def samples(root: Path, split: str) -> list[tuple[Path, instances.Labelled]]:
    """Images with their objects."""
    return instances.read_split(root, split)


def bind(config: Any, classes: Sequence[str]) -> None:
    """Every head counts classes; data sets and metrics read the prepared set's files, whatever COCO calls its own.

    Raises:
        InputError: no class, or objects without masks for a model that learns them.
    """
    if not classes:
        raise InputError("no class in the data; a detector needs at least one: label some objects")
    set_class_count(config.model, len(classes))
    for split, dataset in configs.datasets(config):
        side = "train" if split == "train" else "val"
        dataset.ann_file = instances.file_of(side)
        dataset.data_prefix = dict(img=f"{side}/")
        if side == "val":
            dataset.test_mode = True  # keeps the images without objects, in which a find is a mistake
        for evaluator in configs.evaluators(config, split):
            evaluator.ann_file = str(Path(dataset.data_root, dataset.ann_file))
        if any(step.get("with_mask") for step in dataset.get("pipeline", ())):
            _check_masks(Path(dataset.data_root), side)


def _check_masks(root: Path, split: str) -> None:
    if not (root / instances.file_of(split)).is_file():
        return  # a set without training images, or none yet
    objects = [each for _, labelled in instances.read_split(root, split) for each in labelled.instances]
    bare = sum(each.segmentation is None for each in objects)
    if bare:
        raise InputError(
            f"{bare} of {len(objects)} objects in {instances.file_of(split)} are boxes without a mask, which this model "
            "learns: add polygons or run lengths, or choose a model of boxes"
        )
