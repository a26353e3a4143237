"""Top-1 and top-5 accuracy."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.metrics import Arrays, pack
from slipway_runtime.manifest import Manifest
from train.errors import InputError

TITLES = {"top1_percent": "top-1 %", "top5_percent": "top-5 %"}


class Ranked(Protocol):
    """A prediction whose `labels` are class indices, best first."""

    @property
    def labels(self) -> Sequence[int]: ...  # noqa: D102


class TopK:
    """The share of images whose class is among the best `k` predictions, in percent.

    With fewer than `k` classes, every class is among the best `k`.
    """

    def __init__(self, manifest: Manifest, k: Sequence[int] = (1, 5)) -> None:
        self.k = tuple(k)
        self.classes = len(manifest.classes)
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self.images = 0
        self.correct = dict.fromkeys(self.k, 0)
        self._targets: list[int] = []
        self._right: list[bool] = []

    def update(self, results: Sequence[Ranked], targets: Sequence[int]) -> None:
        """Count predictions against class indices.

        Raises:
            InputError: not one target a result, a target that is no class, or fewer ranked labels than `k`.
        """
        if len(results) != len(targets):
            raise InputError(f"{len(results)} predictions for {len(targets)} labels; there must be one each")
        for result, target in zip(results, targets, strict=True):
            labels = [int(label) for label in result.labels]
            need = min(max(self.k), self.classes)
            if len(labels) < need:
                raise InputError(
                    f"top-{max(self.k)} needs {need} ranked labels an image, the bundle gives {len(labels)}; "
                    f"export with topk >= {need}"
                )
            if not 0 <= target < self.classes:
                raise InputError(f"label {target} is none of the bundle's {self.classes} classes")
            for k in self.k:
                self.correct[k] += target in labels[:k]
            self._targets.append(target)
            self._right.append(target in labels[: self.k[0]])
        self.images += len(results)

    def compute(self) -> dict[str, float]:
        """`{"top1_percent": …, "top5_percent": …}`.

        Raises:
            InputError: nothing was counted.
        """
        if not self.images:
            raise InputError("accuracy over no images: the validation set is empty")
        return {f"top{k}_percent": 100 * self.correct[k] / self.images for k in self.k}

    def packed(self) -> str:
        """Which images are right (top-1), and the classes that they are of.

        Raises:
            InputError: nothing was counted.
        """
        self.compute()
        return pack(truth=np.array(self._targets, np.int32), right=np.array(self._right))


def right(arrays: Arrays) -> NDArray[np.bool_]:
    """Which of N images are right."""
    return arrays["right"]


def resampled(arrays: Arrays, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Top-1 in percent of each of B×N weights."""
    with np.errstate(invalid="ignore"):  # 0 / 0: no image
        shares: NDArray[np.float64] = 100 * (weights @ arrays["right"].astype(np.float64)) / weights.sum(1)
    return shares


METRIC = TopK
