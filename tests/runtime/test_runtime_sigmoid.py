"""Comparing a logit with `highest_outside` decides as torch's sigmoid does."""

import numpy as np
import pytest
import torch

from slipway_runtime.sigmoid import highest_outside


def around(threshold: float) -> np.ndarray:
    """Every float32 within 2000 steps of the cutoff, and many further away."""
    cutoff = highest_outside(threshold)
    near = (np.array(cutoff).view(np.int32) + np.arange(-2000, 2001, dtype=np.int32)).view(np.float32)
    return np.concatenate([near, np.linspace(-100, 100, 100_001, dtype=np.float32)])


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.05, 0.9])
def test_decides_as_torch(threshold: float) -> None:
    logits = around(threshold)
    expected = torch.sigmoid(torch.from_numpy(logits)).numpy() > np.float32(threshold)
    differ = logits[(logits > highest_outside(threshold)) != expected]
    # Torch's own exponential is rounded to within one unit in the last place: a step or two at the cutoff itself.
    assert len(differ) <= 2
    assert expected.any()
    assert not expected.all()


def test_control_a_float32_exponential_decides_otherwise() -> None:
    logits = around(0.5)
    numpys = 1 / (1 + np.exp(-np.clip(logits, -80, 80))) > np.float32(0.5)
    assert (numpys != (logits > highest_outside(0.5))).sum() > 100


@pytest.mark.parametrize(("threshold", "cutoff"), [(-1, -np.inf), (1, np.inf), (2, np.inf)])
def test_thresholds_that_no_probability_crosses(threshold: float, cutoff: float) -> None:
    assert highest_outside(threshold) == cutoff
