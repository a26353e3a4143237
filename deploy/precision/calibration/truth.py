"""The float model's own predictions as what is true of images without labels. A task is one function here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway_runtime import Model
from train.data import instances, label_maps
from train.data.instances import Instance, Labelled
from train.data.label_maps import Class

#: A classifier that gives its best class less than this does not know what it sees.
SURE = 0.5


def of(model: Model, image: Path, scratch: Path) -> Any:
    """What the model sees in an image, as its task's metric takes the truth; None where it is not sure.

    Args:
        model: the float one.
        image: a file.
        scratch: an existing folder, for label maps.
    """
    (result,) = model(image)
    return _TASKS[model.manifest.task](model, result, scratch)


def _classification(model: Model, result: Any, scratch: Path) -> int | None:
    # Between classes that are equally likely, any rounding decides: that says nothing of a precision.
    return int(result.labels[0]) if result.scores[0] >= SURE else None


def _segmentation(model: Model, result: Any, scratch: Path) -> Path:
    palette = model.manifest.palette or ()
    classes = [Class(name, colour) for name, colour in zip(model.manifest.classes, palette, strict=True)]
    path = scratch / f"{sum(1 for _ in scratch.iterdir())}.png"
    label_maps.save(path, result.label_map, classes)
    return path


def _detection(model: Model, result: Any, scratch: Path) -> Labelled:
    """Those that a person would be shown."""
    found = []
    for index in result.shown():
        x1, y1, x2, y2 = result.boxes[index].tolist()
        mask = None if result.masks is None else result.masks[index]
        area = (x2 - x1) * (y2 - y1) if mask is None else float(mask.sum())
        outline = None if mask is None else instances.encode(mask)
        found.append(Instance(int(result.labels[index]), (x1, y1, x2 - x1, y2 - y1), area, False, outline))
    height, width = result.size
    return Labelled(height, width, tuple(found))


_TASKS: dict[str, Callable[[Model, Any, Path], Any]] = {
    "classification": _classification,
    "segmentation": _segmentation,
    "detection": _detection,
}
