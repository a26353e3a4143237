"""When a logit's sigmoid is above a threshold, as torch decides it in float32."""

from functools import cache

import numpy as np


@cache
def highest_outside(threshold: float) -> np.float32:
    """The highest float32 logit x with 1 / (1 + e^−x) ≤ threshold, each operation rounded to float32.

    Comparing with it spares an exponential a pixel, and numpy's float32 exponential, which is off by a few units in the last
    place: at a threshold of 0.5 it takes logits of 1e-7 for ones that are not above.
    """
    outside, inside = np.float32(-128), np.float32(128)  # e^128 is infinite in float32
    if _above(outside, threshold):
        return np.float32(-np.inf)
    if not _above(inside, threshold):
        return np.float32(np.inf)
    while True:
        middle = outside + (inside - outside) / np.float32(2)
        if middle in (outside, inside):
            return outside
        outside, inside = (outside, middle) if _above(middle, threshold) else (middle, inside)


def _above(logit: np.float32, threshold: float) -> bool:
    with np.errstate(over="ignore"):
        exponential = np.exp(-np.float64(logit)).astype(np.float32)
    return bool(np.float32(1) / (np.float32(1) + exponential) > np.float32(threshold))
