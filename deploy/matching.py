"""Detections of the graph against the model's: matched one to one, as there is no order that rounding cannot change."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

IOU = 0.99
SCORE = 1e-4
MASK = 1e-3  # of a mask's largest probability or logit, or of 1
MASK_IOU = 0.98


@dataclass
class Detections:
    """Detections of one image.

    Attributes:
        boxes: N×4, x1, y1, x2, y2.
        scores: N.
        labels: N.
        masks: N×h×w, or None.
    """

    boxes: NDArray
    scores: NDArray
    labels: NDArray
    masks: NDArray | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass
class Pairs:
    """Which detections belong together: `found[i]` and `wanted[i]` are indices; `scores` and `ious` say how well."""

    found: NDArray[np.int64]
    wanted: NDArray[np.int64]
    scores: NDArray
    ious: NDArray


def pair(found: Detections, wanted: Detections) -> Pairs:
    """Match detections one to one: same label, IoU ≥ 0.99, |Δscore| ≤ 1e-4; the best overlap first."""
    ious = overlaps(found.boxes, wanted.boxes)
    apart = np.abs(found.scores[:, None] - wanted.scores[None])
    fits = (found.labels[:, None] == wanted.labels[None]) & (ious >= IOU) & (apart <= SCORE)
    rows, columns = np.nonzero(fits)
    order = np.lexsort((apart[rows, columns], -ious[rows, columns]))
    chosen, taken_rows, taken_columns = [], set[int](), set[int]()
    for place in order:
        row, column = int(rows[place]), int(columns[place])
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            chosen.append((row, column))
    first, second = (np.array([each[axis] for each in chosen], np.int64) for axis in (0, 1))
    return Pairs(first, second, apart[first, second], ious[first, second])


def overlaps(first: NDArray, second: NDArray) -> NDArray:
    """Intersection over union of N×4 boxes with M×4, N×M. Boxes without an area overlap where they are the same."""
    a, b = first[:, None].astype(np.float64), second[None].astype(np.float64)
    edges = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = edges.clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    same = np.abs(a - b).max(-1) < 1e-2
    # Below a hundredth of a pixel, rounding alone moves the ratio.
    return np.where(same, 1.0, both / np.where(union > 0, union, 1.0))


def mask_ious(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> NDArray:
    """IoU of each of N masks with its counterpart, N×H×W; 1 where both are empty."""
    axes = tuple(range(1, found.ndim))
    union = (found | wanted).sum(axes)
    return np.where(union > 0, (found & wanted).sum(axes) / np.maximum(union, 1), 1.0)


def split(outputs: Mapping[str, NDArray]) -> tuple[list[Detections], int]:
    """A graph's outputs → the detections of each image, and how many rows there are room for."""
    images = []
    for image, labels in enumerate(outputs["labels"]):
        real = labels >= 0
        dets = outputs["dets"][image][real]
        masks = outputs["masks"][image][real] if "masks" in outputs else None
        images.append(Detections(dets[:, :4], dets[:, 4], labels[real], masks))
    return images, outputs["labels"].shape[1]


@dataclass
class Matched:
    """How many detections have a counterpart, over all comparisons.

    Attributes:
        images: compared.
        detections: of both sides, the longer list of each image.
        matched: pairs with the same label, IoU ≥ 0.99, |Δscore| ≤ 1e-4 and equal masks.
        excused: without a counterpart, where PyTorch's own float32 and float64 differ in as many, or at the score where a
            full list is cut off.
        max_score: largest |Δscore| of a pair.
        min_iou: smallest IoU of a pair.
        max_mask: largest |Δ| of a pair's masks, as a part of the mask's largest value or of 1.
    """

    images: int = 0
    detections: int = 0
    matched: int = 0
    excused: int = 0
    max_score: float = 0.0
    min_iou: float = 1.0
    max_mask: float = 0.0
    fault: str | None = None

    def update(
        self,
        found: Mapping[str, NDArray],
        wanted: Mapping[str, NDArray],
        rounding: Callable[[int], float] | None = None,
    ) -> None:
        """Add one batch of outputs, `dets`, `labels` and perhaps `masks`.

        `rounding` tells how many detections of an image of the batch PyTorch in float64 gives otherwise than PyTorch.
        """
        if any(array.dtype != wanted[name].dtype for name, array in found.items()):
            self.fault = f"types { ({name: str(array.dtype) for name, array in found.items()}) }"
            return
        if not all(np.isfinite(array).all() for side in (found, wanted) for array in side.values()):
            self.fault = "not finite"
            return
        (ours, rows), (theirs, _) = split(found), split(wanted)
        for image, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            self._add(a, b, rows, partial(rounding, image) if rounding else None)

    def _add(self, found: Detections, wanted: Detections, rows: int, rounding: Callable[[], float] | None) -> None:
        pairs = pair(found, wanted)
        apart = _masks_apart(found, wanted, pairs)
        total, good = max(len(found), len(wanted)), int((apart <= MASK).sum())
        self.images += 1
        self.detections += total
        self.matched += good
        self.max_score = max(self.max_score, float(pairs.scores.max(initial=0)))
        self.min_iou = min(self.min_iou, float(pairs.ious.min(initial=1)))
        self.max_mask = max(self.max_mask, float(apart.max(initial=0)))
        missing = total - good - _cut_off(found, wanted, pairs, rows)
        if missing > 0 and rounding:
            missing -= int(2 * rounding())
        self.excused += total - good - max(missing, 0)

    @staticmethod
    def distance(found: Mapping[str, NDArray], wanted: Mapping[str, NDArray]) -> float:
        """How many detections have no counterpart."""
        (ours, _), (theirs, _) = split(found), split(wanted)
        return float(
            sum(
                max(len(a), len(b)) - int((_masks_apart(a, b, pair(a, b)) <= MASK).sum())
                for a, b in zip(ours, theirs, strict=True)
            )
        )

    @property
    def max_abs(self) -> float:
        """Largest |Δscore|, for the summary."""
        return self.max_score

    @property
    def passed(self) -> bool:
        """Whether every detection is accounted for; no detection at all is a failure."""
        return self.fault is None and self.matched > 0 and self.matched + self.excused == self.detections

    def reason(self) -> str:
        """Why it did not pass."""
        if not self.detections:
            return (
                f"no detection in {self.images} images: nothing was compared; train longer or lower test_cfg.score_thr"
            )
        return (
            f"{self.detections - self.matched - self.excused} of {self.detections} detections have no counterpart "
            f"(IoU ≥ {IOU}, |Δscore| ≤ {SCORE:g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the verdict."""
        return {**asdict(self), "max_abs": self.max_abs, "passed": self.passed}


def _masks_apart(found: Detections, wanted: Detections, pairs: Pairs) -> NDArray:
    """Largest |Δ| of each pair's masks, as a part of the mask's largest value or of 1; zeros without masks."""
    if found.masks is None or wanted.masks is None or not len(pairs.found):
        return np.zeros(len(pairs.found))
    a, b = (masks.reshape(len(masks), -1) for masks in (found.masks[pairs.found], wanted.masks[pairs.wanted]))
    apart: NDArray = np.abs(a - b).max(1) / np.abs(b).max(1).clip(1)
    return apart


def _cut_off(found: Detections, wanted: Detections, pairs: Pairs, rows: int) -> int:
    """How many of two full lists are at the score where the other one is cut off, where either of two may be the last.

    What is better than the other list's last one would be in it, and is not excused by what it pushed out.
    """
    if len(found) < rows or len(wanted) < rows or not rows:
        return 0
    sides = ((found, pairs.found, wanted), (wanted, pairs.wanted, found))
    return min(
        int((np.delete(own.scores, matched) <= other.scores.min() + SCORE).sum()) for own, matched, other in sides
    )
