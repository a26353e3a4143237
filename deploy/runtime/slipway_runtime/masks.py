"""Instance masks: what a graph gives for each detection → the pixels of the image that belong to it, as mmdet computes it.

Both kinds are sequences of boolean H×W masks that are computed when asked for: a hundred masks of a 1080×1920 image
would be 207 MB, and the numbers they are computed from are a hundredth of that.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from slipway_runtime.preprocess import Prepared
from slipway_runtime.resize import Resize, rows
from slipway_runtime.sigmoid import highest_outside

#: bool H×W, of the image's own size.
Mask: TypeAlias = NDArray[np.bool_]


class Masks(Sequence[Mask]):
    """The masks of an image's detections, in their order; each is computed anew when it is asked for."""

    @abstractmethod
    def _at(self, index: int) -> Mask:
        """The mask of one detection, 0 ≤ index < length."""

    @overload
    def __getitem__(self, index: int) -> Mask: ...
    @overload
    def __getitem__(self, index: slice) -> list[Mask]: ...
    def __getitem__(self, index: int | slice) -> Mask | list[Mask]:
        if isinstance(index, slice):
            return [self._at(one) for one in range(*index.indices(len(self)))]
        return self._at(range(len(self))[index])


@dataclass(frozen=True, eq=False)
class BoxMasks(Masks):
    """Probabilities on a grid over each detection's own box; a pixel belongs to it from `threshold` on.

    The pixel centres within a pixel of the box are looked up in the grid bilinearly, with zeros around it, as by
    `_do_paste_mask` of `mmdet/models/roi_heads/mask_heads/fcn_mask_head.py` on the CPU. A box outside the image has an
    empty mask; mmdet stops there.

    Attributes:
        probabilities: float32 N×h×w.
        boxes: float32 N×4, x1, y1, x2, y2 in pixels of the image.
        size: height and width of the image.
        threshold: between 0 and 1.
    """

    probabilities: NDArray[np.float32]
    boxes: NDArray[np.float32]
    size: tuple[int, int]
    threshold: float

    def __len__(self) -> int:
        return len(self.boxes)

    def _at(self, index: int) -> Mask:
        mask = np.zeros(self.size, bool)
        x1, y1, x2, y2 = self.boxes[index]
        left, right = _around(x1, x2, self.size[1])
        top, bottom = _around(y1, y2, self.size[0])
        if left < right and top < bottom:
            height, width = self.probabilities.shape[1:]
            down, across = _positions(y1, y2, top, bottom, height), _positions(x1, x2, left, right, width)
            sampled = _sample(self.probabilities[index], down, across)
            mask[top:bottom, left:right] = sampled >= np.float32(self.threshold)
        return mask


@dataclass(frozen=True, eq=False)
class ImageMasks(Masks):
    """Logits over the graph's whole input; a pixel belongs to the detection above `threshold`.

    Resized to the input's size, then by the image's scale, cut to the image, as by `_bbox_mask_post_process` of
    `mmdet/models/dense_heads/rtmdet_ins_head.py`. That scales the height by the width's factor and the width by the
    height's, and so does this. They differ by rounding only, but that may leave the last rows or columns without a value:
    in mmdet such masks are smaller than the image, here they are filled up with pixels that belong to nothing.

    Attributes:
        logits: float32 N×h×w.
        prepared: the image as the graph got it.
        threshold: between 0 and 1.
    """

    logits: NDArray[np.float32]
    prepared: Prepared
    threshold: float

    def __len__(self) -> int:
        return len(self.logits)

    def _at(self, index: int) -> Mask:
        height, width = self.prepared.array.shape[1:]
        by_width, by_height = (1 / factor for factor in self.prepared.scale_factor)
        scaled = math.ceil(height * by_width), math.ceil(width * by_height)
        steps = [Resize(self.logits.shape[1:], (height, width), False), Resize((height, width), scaled, False)]
        mask = np.zeros(self.prepared.original, bool)
        stop = min(scaled[0], mask.shape[0])
        values = rows(self.logits[index], steps, 0, stop)[:, : mask.shape[1]]
        mask[:stop, : values.shape[1]] = values > highest_outside(self.threshold)
        return mask


def run_lengths(mask: Mask) -> list[int]:
    """COCO's uncompressed run lengths: of pixels outside and inside by turns, column by column, outside first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(changes, prepend=0).tolist()


def _around(low: np.float32, high: np.float32, size: int) -> tuple[int, int]:
    """The pixels along one axis from one before the box to one after it, within the image."""
    start, stop = np.clip([np.floor(low) - 1, np.ceil(high) + 1], 0, size)  # infinite where a box is 1e38 wide
    return int(start), int(stop)


def _positions(low: np.float32, high: np.float32, start: int, stop: int, cells: int) -> NDArray[np.float32]:
    """Where the centres of the pixels from `start` to `stop` lie on a grid of `cells` between `low` and `high`.

    Torch's `grid_sample` without `align_corners`: cell i's centre is i, all in float32, its last step a fused multiply-add.
    """
    centres = np.arange(start, stop, dtype=np.float32) + np.float32(0.5)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        grid = (centres - low) / (high - low) * np.float32(2) - np.float32(1)
        grid[np.isinf(grid)] = 0  # as mmdet does: a box without extent takes the middle of its mask
        at = (grid + np.float32(1)).astype(np.float64) * (cells / 2) - 0.5
    # Further than a cell outside all is zero; and so it is where 0 / 0 gave no number.
    return np.clip(np.nan_to_num(at.astype(np.float32), nan=-2), -2, cells + 1)


def _sample(grid: NDArray[np.float32], down: NDArray[np.float32], across: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bilinear samples of a grid with zeros around it, at each pair of positions: float32, down × across.

    The four corners are added up in torch's order, with its fused multiply-adds (GridSamplerKernel.cpp in
    ATen/native/cpu): a product of float32 is exact in float64, and each sum is rounded to float32.
    """
    padded = np.pad(grid, 1)
    top, left = np.floor(down), np.floor(across)
    lower, right = down - top, across - left
    upper, left_ = 1 - lower, 1 - right
    rows_ = [np.clip(top.astype(np.int64) + step, 0, padded.shape[0] - 1) for step in (1, 2)]
    columns = [np.clip(left.astype(np.int64) + step, 0, padded.shape[1] - 1) for step in (1, 2)]
    total = np.zeros((len(down), len(across)), np.float32)
    for row, vertical in zip(rows_, (upper, lower), strict=True):
        for column, horizontal in zip(columns, (left_, right), strict=True):
            weight = (vertical[:, None] * horizontal).astype(np.float64)
            total = (padded[row][:, column] * weight + total).astype(np.float32)
    return total
