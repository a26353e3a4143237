"""Intersection over union, accuracy and Dice, by class and averaged, as mmseg's `IoUMetric` counts them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.metrics import Arrays, pack
from slipway_runtime.manifest import Manifest
from train.data import label_maps
from train.errors import InputError

TITLES = {
    "miou_percent": "mIoU %",
    "macc_percent": "mAcc %",
    "aacc_percent": "aAcc %",
    "mdice_percent": "mDice %",
    "iou_percent": "IoU %",
    "acc_percent": "Acc %",
    "dice_percent": "Dice %",
}


class Labelled(Protocol):
    """A prediction whose `label_map`, uint8 H×W at the image's own size, holds class indices."""

    @property
    def label_map(self) -> NDArray[np.uint8]: ...  # noqa: D102


class IoU:
    """Areas over the whole data set, then ratios of them; pixels labelled 255 do not count.

    A class that is nowhere, neither predicted nor true, has no ratio and is left out of the averages; so is the accuracy
    of one that is never true. Source: mmseg/evaluation/metrics/iou_metric.py, without its rounding to two digits.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.classes = manifest.classes
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self.images = 0
        #: Pixels by true class (rows) and predicted class (columns).
        self.confusion = np.zeros((len(self.classes), len(self.classes)), np.int64)
        #: By image: pixels of each class that are true, predicted, and both.
        self._areas: list[NDArray[np.int64]] = []

    def update(self, results: Sequence[Labelled], targets: Sequence[Path]) -> None:
        """Count predictions against label maps.

        Raises:
            InputError: not one label map a result; a label map of another size, or with a label that is no class.
        """
        if len(results) != len(targets):
            raise InputError(f"{len(results)} predictions for {len(targets)} label maps; there must be one each")
        for result, target in zip(results, targets, strict=True):
            counted = self._count(result.label_map, target)
            self.confusion += counted
            self._areas.append(np.stack([counted.sum(1), counted.sum(0), counted.diagonal()]))
        self.images += len(results)

    def _count(self, predicted: NDArray[np.uint8], target: Path) -> NDArray[np.int64]:
        labels = label_maps.load(target)
        if labels.shape != predicted.shape:
            (height, width), (expected_height, expected_width) = labels.shape, predicted.shape
            raise InputError(
                f"{target}: the label map is {width}×{height}, its image {expected_width}×{expected_height}; "
                "prepare the set again"
            )
        pairs = np.bincount(np.left_shift(labels, 8, dtype=np.uint16).ravel() | predicted.ravel(), minlength=1 << 16)
        pairs = pairs.reshape(256, 256)
        n = len(self.classes)
        unknown = np.flatnonzero(pairs[n : label_maps.IGNORE].sum(1))
        if unknown.size:
            raise InputError(f"{target}: label {n + unknown[0]} is none of the bundle's {n} classes")
        return pairs[:n, :n]

    def compute(self) -> dict[str, float]:
        """`{"miou_percent": …, "macc_percent": …, "aacc_percent": …, "mdice_percent": …, "iou_percent/<class>": …, …}`.

        Raises:
            InputError: nothing was counted, or no pixel of it is labelled.
        """
        if not self.images:
            raise InputError("accuracy over no images: the validation set is empty")
        if not self.confusion.any():
            raise InputError(f"every pixel of {self.images} label maps is 255, ignored; there is nothing to count")
        true, predicted, both = self.confusion.sum(1), self.confusion.sum(0), self.confusion.diagonal()
        with np.errstate(invalid="ignore"):  # 0 / 0: no such pixel
            ratios = {
                "iou": _iou(true, predicted, both),
                "acc": 100 * both / true,
                "dice": 100 * 2 * both / (true + predicted),
            }
        each = {
            f"{name}_percent/{which}": float(value)
            for name, values in ratios.items()
            for which, value in zip(self.classes, values, strict=True)
            if not np.isnan(value)
        }
        mean = {name: float(np.nanmean(values)) for name, values in ratios.items()}
        overall = float(100 * both.sum() / true.sum())
        return {
            "miou_percent": mean["iou"],
            "macc_percent": mean["acc"],
            "aacc_percent": overall,
            "mdice_percent": mean["dice"],
            **each,
        }

    def packed(self) -> str:
        """Each image's pixels by class: true, predicted, and both.

        Raises:
            InputError: nothing was counted, or no pixel of it is labelled.
        """
        self.compute()
        true, predicted, both = np.stack(self._areas, 1)
        return pack(truth=true, predicted=predicted, both=both)


def resampled(arrays: Arrays, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """mIoU in percent of each of B×N weights."""
    # Counts of pixels are whole numbers far below 2^53: exact in float64, whose product is the fast one.
    often = weights.astype(np.float64)
    areas = [often @ arrays[name].astype(np.float64) for name in ("truth", "predicted", "both")]
    with np.errstate(invalid="ignore"):  # 0 / 0: no such pixel
        ratios = _iou(*areas)
    counted = ~np.isnan(ratios)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = np.where(counted, ratios, 0).sum(1) / counted.sum(1)
    return means


def _iou(true: NDArray, predicted: NDArray, both: NDArray) -> NDArray[np.float64]:
    ratios: NDArray[np.float64] = 100 * both / (true + predicted - both)
    return ratios


METRIC = IoU
