"""Training images for a small budget: squares around labelled objects, laid out as mosaics.

Where most of an image is background, a network sees few objects an hour. A mosaic of objects is seen as quickly as one
image and holds many of them, on as many backgrounds.
"""

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

IGNORE = 255


@TRANSFORMS.register_module()
class CropObject(BaseTransform):
    """Cut a square that holds a random object, anywhere in it: a connected region of one class that is not label 0.

    An image smaller than the square is filled up with black that is ignored; one without objects gives any square.

    Args:
        size: edge of the square, in pixels.
        jitter: how far, in pixels, an object that fills the square may be off its middle.
        anywhere: share of squares that are cut anywhere, so that backgrounds are seen as well.
    """

    def __init__(self, size: int, jitter: int = 4, anywhere: float = 0.0) -> None:
        self.size = size
        self.jitter = jitter
        self.anywhere = anywhere

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `img`, H×W×3, and `gt_seg_map`, H×W."""
        image, labels = results["img"], results["gt_seg_map"]
        edge = max(self.size, *labels.shape)
        below, right = edge - labels.shape[0], edge - labels.shape[1]
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=0)
        labels = cv2.copyMakeBorder(labels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=IGNORE)
        spans = _anything(labels) if np.random.uniform() < self.anywhere else _object(labels)
        top, left = (self._start(*span, edge) for span, edge in zip(spans, labels.shape, strict=True))
        cut = np.s_[top : top + self.size, left : left + self.size]
        results["img"], results["gt_seg_map"] = image[cut], labels[cut]
        results["img_shape"] = results["img"].shape[:2]
        return results

    def _start(self, first: int, length: int, limit: int) -> int:
        """Where the square begins along an axis, for an object of this extent."""
        reach = max(self.jitter, (self.size - length) / 2)
        middle = first + length / 2 + np.random.uniform(-reach, reach)
        return int(np.clip(middle - self.size / 2, 0, max(limit - self.size, 0)))


@TRANSFORMS.register_module()
class Mosaic(BaseTransform):
    """Lay the image and random others out in rows; for mmseg's `MultiImageMixDataset`. All have one size.

    Args:
        grid: images along each edge.
    """

    def __init__(self, grid: int) -> None:
        self.grid = grid

    def get_indices(self, dataset: Any) -> list[int]:
        """Which others."""
        return [int(index) for index in np.random.randint(len(dataset), size=self.grid**2 - 1)]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `img` and `gt_seg_map`."""
        tiles = [results, *results.pop("mix_results")]
        rows = [tiles[start : start + self.grid] for start in range(0, len(tiles), self.grid)]
        for key in ("img", "gt_seg_map"):
            results[key] = np.concatenate([np.concatenate([tile[key] for tile in row], 1) for row in rows])
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results


def _object(labels: np.ndarray) -> list[tuple[int, int]]:
    """First pixel and extent, vertically and horizontally, of a random object; of a random pixel where there is none."""
    rows, columns = np.nonzero((labels > 0) & (labels != IGNORE))
    if not len(rows):
        return _anything(labels)
    chosen = np.random.randint(len(rows))
    same = (labels == labels[rows[chosen], columns[chosen]]).astype(np.uint8)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(same)
    left, top, width, height, _ = stats[regions[rows[chosen], columns[chosen]]]
    return [(int(top), int(height)), (int(left), int(width))]


def _anything(labels: np.ndarray) -> list[tuple[int, int]]:
    return [(int(np.random.randint(edge)), 1) for edge in labels.shape]
