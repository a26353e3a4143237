"""The images that ranges are measured on, and others that scores are measured on: never those of validation."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_runtime.files import find
from train import tasks
from train.errors import InputError, UsageError
from train.experiment import Record
from train.files import sha256, sha256_json

#: How many images ranges are measured on, where there are as many.
CALIBRATION = 64
#: How many others a score is measured on, at the most.
SEARCH = 200
#: The shuffle's, so that the same images are chosen again.
SEED = 0


@dataclass(frozen=True)
class Images:
    """Two lists without a common image.

    Attributes:
        source: where they come from, for reports.
        calibration: for ranges.
        search: for scores, each with what is true of it, as the task's metric takes it; None in place of that where the
            float model's own predictions have to stand for it.
        labelled: whether it is known what is true of them.
    """

    source: str
    calibration: tuple[Path, ...]
    search: tuple[tuple[Path, Any], ...]
    labelled: bool

    def fingerprint(self) -> str:
        """SHA-256 over the images' names and contents, in order."""
        paths = (*self.calibration, *(path for path, _ in self.search))
        return sha256_json([self.labelled, len(self.calibration), [(path.name, sha256(path)) for path in paths]])

    def to_dict(self) -> dict[str, Any]:
        """How the images were chosen, for reports."""
        return {
            "source": self.source,
            "seed": SEED,
            "calibration_images": len(self.calibration),
            "search_images": len(self.search),
            "truth": "labels" if self.labelled else "the float model's own predictions",
        }


def choose(record: Record, folder: Path | None = None, count: int = CALIBRATION) -> Images:
    """Choose among the training images, or among a folder's.

    Args:
        record: of the training.
        folder: images to take instead; there are no labels for them.
        count: how many images for ranges; at least as many are left for scores, so a small set gives fewer.

    Raises:
        InputError: the data set is gone, or there are fewer than two images.
        ImageError: a folder without images.
        UsageError: no such folder; a model whose data has no training images, without a folder.
    """
    if folder is not None:
        return _split(str(folder), [(path, None) for path in _below(folder)], count, labelled=False)
    root = Path(record.data["root"])
    if not record.data["images"].get("train"):
        raise UsageError(
            f"{record.experiment}: its data set has no training images, and validation images must not decide; "
            "name a folder of other images with --calibration DIR (make: CALIBRATION=)"
        )
    if not root.is_dir():
        raise InputError(
            f"{root}: the data set that the model was trained on is gone; prepare it again, or --calibration DIR"
        )
    samples = tasks.named(record.data["task"]).samples(root, "train")
    return _split(f"{root}, train", samples, count, labelled=True)


def _below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder (--calibration)")
    return [source.path for source in find([folder], videos=False)]


def _split(source: str, samples: Sequence[tuple[Path, Any]], count: int, *, labelled: bool) -> Images:
    if len(samples) < 2:
        raise InputError(f"{source}: {len(samples)} images, at least two are needed, for ranges and for scores")
    shuffled = random.Random(SEED).sample(list(samples), len(samples))
    count = min(count, len(shuffled) // 2)
    calibration = tuple(path for path, _ in shuffled[:count])
    # Without labels, only those count that the float model is sure of: there must be more to choose from.
    most = SEARCH if labelled else len(shuffled)
    return Images(source, calibration, tuple(shuffled[count : count + most]), labelled)
