"""Bilinear resizing of float planes with the arithmetic of torch's `F.interpolate(mode="bilinear")` on the CPU.

OpenCV's own float resize differs between its versions by 4e-3, so the sums are written out here; the native runtime
repeats them. In float32, along each axis (`area_pixel_compute_source_index` in ATen/native/UpSample.h):

    scale  = (source − 1) / (target − 1) with align_corners (0 for a target of 1), else source / target
    x      = scale · i with align_corners, else max(0, fma(scale, i + 0.5, −0.5))
    lower  = min(⌊x⌋, source − 1),  upper = min(lower + 1, source − 1),  weight = x − lower
    result = value[lower] · (1 − weight) + value[upper] · weight

first along the columns, then along the rows. A fused multiply-add (C's `fmaf`) is what torch's kernels are compiled to;
without it the positions, and so the values of a wide image, differ by 1e-5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Taps:
    """Along one axis of T positions: which two source positions each is mixed from, and how much of the upper one.

    Attributes:
        lower, upper: int64 (T,).
        weight: float32 (T,), between 0 and 1.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    weight: NDArray[np.float32]

    @classmethod
    def between(cls, source: int, target: int, align_corners: bool) -> "Taps":
        """The taps from `source` positions to `target` positions."""
        at = np.arange(target, dtype=np.float64)
        if align_corners:
            scale = np.float32(source - 1) / np.float32(target - 1) if target > 1 else np.float32(0)
            x = scale * at.astype(np.float32)
        else:
            # The product of two float32 is exact in float64: one rounding, as in a fused multiply-add.
            x = np.maximum(np.float64(np.float32(source) / np.float32(target)) * (at + 0.5) - 0.5, 0).astype(np.float32)
        lower = np.minimum(np.floor(x).astype(np.int64), source - 1)
        weight = np.clip(x - lower.astype(np.float32), 0, 1)
        return cls(lower, np.minimum(lower + 1, source - 1), weight)

    def __getitem__(self, part: slice) -> "Taps":
        return Taps(self.lower[part], self.upper[part], self.weight[part])

    def mix(self, values: Plane, axis: int) -> Plane:
        """The values at the target's positions along `axis`."""
        weight = self.weight if axis == values.ndim - 1 else self.weight[:, None]
        mixed = np.take(values, self.lower, axis)
        mixed *= 1 - weight
        upper = np.take(values, self.upper, axis)
        upper *= weight
        mixed += upper
        return mixed


class Resize:
    """A bilinear resize of planes from `source` to `target`, both (height, width); any rows of it on their own."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int], align_corners: bool) -> None:
        self.source, self.target = source, target
        self._rows = Taps.between(source[0], target[0], align_corners)
        self._columns = Taps.between(source[1], target[1], align_corners)

    def __call__(self, plane: Plane) -> Plane:
        """The whole resized plane: (height, width) → target."""
        return rows(plane, [self], 0, self.target[0])

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The source's rows that the target's rows from `start` to `stop` are mixed from."""
        return int(self._rows.lower[start]), int(self._rows.upper[stop - 1]) + 1

    def rows(self, plane: Plane, first: int, start: int, stop: int) -> Plane:
        """The target's rows from `start` to `stop`, of a plane that holds the source's rows from `first` on."""
        if self.source[1] != self.target[1]:
            plane = self._columns.mix(plane, 1)
        if self.source[0] == self.target[0]:
            return plane[start - first : stop - first]
        taps = self._rows[start:stop]
        return Taps(taps.lower - first, taps.upper - first, taps.weight).mix(plane, 0)


def rows(plane: Plane, steps: Sequence[Resize], start: int, stop: int) -> Plane:
    """Rows `start` to `stop` of a plane that goes through several resizes; no more than these needs is computed.

    A step may take fewer rows and columns than the step before gives: what is too much is cut off at the right and bottom.
    """
    if not steps:
        return plane[start:stop]
    *earlier, last = steps
    first, end = last.needs(start, stop)
    return last.rows(rows(plane, earlier, first, end)[:, : last.source[1]], first, start, stop)
