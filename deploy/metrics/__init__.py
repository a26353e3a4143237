"""Accuracy metrics, one file a task; the file's name is the task's. Each defines `METRIC`, `TITLES` and `resampled`.

A metric follows `update / compute / reset`. The first entry of `compute()` is the headline, which the gate looks at; an
entry "name/class" is one class's. `TITLES` says how reports show each name, headline first.

`packed()` is what a metric keeps of each image: as much as gives the headline of any resample of the images, so that
intervals and paired comparisons need neither predictions nor labels. It is text: arrays in NumPy's compressed format, in
base64. Of its arrays, `truth` says by image what was true, so that two artifacts are compared over the same images only;
the others are the task's own. `resampled` gives the headline where images count more or less often than once. A task
whose headline is a share of images has `right` besides: which images are right.
"""

import base64
import binascii
import io
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import BundleError
from slipway_runtime.manifest import Manifest
from train.errors import InputError

#: The arrays of one packed text, by name.
Arrays = dict[str, NDArray]


class Metric(Protocol):
    """A metric over a data set.

    Attributes:
        images: how many images have been counted since the last reset.
    """

    images: int

    def __init__(self, manifest: Manifest) -> None: ...

    def update(self, results: Sequence[Any], targets: Sequence[Any]) -> None:
        """Count predictions (as `slipway_runtime` returns them) against what the data set says of the same images."""

    def compute(self) -> dict[str, float]:
        """The values, unit in the name, headline first. Raises InputError when nothing was counted."""

    def packed(self) -> str:
        """What `resampled` needs of each image that was counted, in their order. Raises InputError as `compute`."""

    def reset(self) -> None:
        """Forget what was counted."""


def for_task(manifest: Manifest) -> Metric:
    """A fresh metric for a bundle's task.

    Raises:
        BundleError: no metric for that task.
    """
    known = [module.name for module in iter_modules(__path__)]
    if manifest.task not in known:
        raise BundleError(f"no accuracy metric for task '{manifest.task}'; expected one of {', '.join(sorted(known))}")
    metric: Metric = _module(manifest.task).METRIC(manifest)
    return metric


def titles(task: str) -> dict[str, str]:
    """How reports show a task's metrics, headline first: {"miou_percent": "mIoU %", …}."""
    named: dict[str, str] = _module(task).TITLES
    return named


def resampled(task: str, packed: str, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """The headline in percent, one a row of `weights`; NaN where a row leaves nothing to count.

    Args:
        task: whose metric packed it.
        packed: see `Metric.packed`.
        weights: B×N, how often each of the N images counts. Ones give the headline of the set.

    Raises:
        InputError: packed by another task's metric, or damaged.
        ValueError: not one weight an image.
    """
    arrays = unpack(packed)
    if weights.ndim != 2 or weights.shape[1] != len(arrays["truth"]):
        raise ValueError(f"expected weights of B×{len(arrays['truth'])} images, got {weights.shape}")
    try:
        values: NDArray[np.float64] = _module(task).resampled(arrays, weights)
    except KeyError as missing:
        raise InputError(f"per-image data: no {missing}, expected those of {task}; measure again")
    return values


def right(task: str, packed: str) -> NDArray[np.bool_] | None:
    """Which images are right; None where the task's headline is no share of images."""
    module = _module(task)
    return module.right(unpack(packed)) if hasattr(module, "right") else None


def truth(packed: str) -> NDArray:
    """What is true of each image, images first: equal for packed texts of the same images in the same order."""
    return unpack(packed)["truth"]


def pack(**arrays: NDArray) -> str:
    """Arrays as text."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return base64.b64encode(file.getvalue()).decode()


def unpack(packed: str) -> Arrays:
    """The arrays of a text, `truth` among them.

    Raises:
        InputError: the text is damaged.
    """
    try:
        with np.load(io.BytesIO(base64.b64decode(packed, validate=True)), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except (binascii.Error, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"per-image data: expected packed arrays, found {error}; measure again")
    if "truth" not in arrays:
        raise InputError(f"per-image data: expected 'truth' among {sorted(arrays)}; measure again")
    return arrays


def _module(task: str) -> ModuleType:
    return import_module(f"{__name__}.{task}")
