"""Intervals and differences from what metrics keep of each image."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from benchmarks import paired
from deploy import metrics
from train.errors import InputError

TASK = "classification"


def _packed(right: NDArray[np.bool_], truth: NDArray | None = None) -> str:
    return metrics.pack(truth=np.arange(len(right)) % 7 if truth is None else truth, right=right)


def _segmented(rng: np.random.Generator, truth: NDArray, quality: float) -> str:
    both = rng.binomial(truth, quality)
    wrong = (truth - both).sum(1, keepdims=True)
    return metrics.pack(truth=truth, predicted=both + wrong // truth.shape[1], both=both)


def test_the_interval_of_a_share_is_the_binomials() -> None:
    right = np.random.default_rng(0).random(400) < 0.8
    found = paired.interval(TASK, _packed(right))
    assert found.value == pytest.approx(100 * right.mean())
    half = 1.96 * 100 * np.sqrt(right.mean() * (1 - right.mean()) / len(right))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.6)
    assert found == paired.interval(TASK, _packed(right))
    assert found != paired.interval(TASK, _packed(right), seed=1)


def test_equal_predictions_differ_by_nothing() -> None:
    right = np.random.default_rng(0).random(100) < 0.8
    found = paired.compare(TASK, _packed(right), _packed(right))
    assert (found.points.value, found.points.low, found.points.high) == (0, 0, 0)
    assert (found.p_value, found.better, found.worse) == (1, 0, 0)
    assert found.method == "paired bootstrap over images, 2000 resamples"


def test_a_small_loss_is_seen_in_pairs_and_not_without() -> None:
    rng = np.random.default_rng(1)
    base = rng.random(2000) < 0.8
    worse = base.copy()
    worse[np.flatnonzero(base)[:20]] = False
    found = paired.compare(TASK, _packed(base), _packed(worse))
    assert found.points.value == pytest.approx(-1)
    assert found.points.high < 0
    assert (found.better, found.worse) == (0, 20)
    assert found.p_value is not None
    assert found.p_value < 1e-5
    # The control: intervals of the two by themselves overlap, as the images differ far more than the artifacts.
    one, other = paired.interval(TASK, _packed(base)), paired.interval(TASK, _packed(worse))
    assert other.high > one.low


def test_noise_alone_is_no_difference() -> None:
    rng = np.random.default_rng(2)
    outside = 0
    for _ in range(60):
        base = rng.random(300) < 0.8
        flipped = np.where(rng.random(300) < 0.05, rng.random(300) < 0.8, base)
        found = paired.compare(TASK, _packed(base), _packed(flipped))
        outside += not found.points.low <= 0 <= found.points.high
    assert outside <= 8, "one in twenty, more or less"


def test_segmentation_is_compared_over_the_same_images() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(1, 5000, size=(60, 4)) * (rng.random((60, 4)) < 0.7)
    base, worse = _segmented(rng, truth, 0.8), _segmented(rng, truth, 0.79)
    found = paired.compare("segmentation", base, worse)
    assert found.points.high < 0
    assert (found.p_value, found.better, found.worse) == (None, None, None)
    own = paired.interval("segmentation", worse)
    assert own.high - own.low > found.points.high - found.points.low


@pytest.mark.parametrize("other", [np.arange(99) % 7, (np.arange(100) + 1) % 7])
def test_other_images_are_refused(other: NDArray) -> None:
    right = np.ones(len(other), bool)
    with pytest.raises(InputError, match="expected the same images with the same labels"):
        paired.compare(TASK, _packed(np.ones(100, bool)), _packed(right, other))


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (0, 1), (3, 3), (1, 9), (40, 61), (700, 900), (3000, 2500)])
def test_mcnemars_exact_test_is_scipys(better: int, worse: int) -> None:
    total = better + worse
    expected = scipy_stats.binomtest(better, total).pvalue if total else 1.0
    assert paired.mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)
    assert paired.mcnemar(better, worse) == paired.mcnemar(worse, better)


def test_a_resample_that_says_nothing_does_not_count() -> None:
    """One image holds every object: a resample without it has no value."""
    truth = np.array([[50, 50]] + [[0, 0]] * 4)
    packed = metrics.pack(truth=truth, predicted=truth, both=truth)
    found = paired.interval("segmentation", packed)
    assert (found.value, found.low, found.high) == (100, 100, 100)


def test_showing_results_needs_no_scipy() -> None:
    code = "import sys, benchmarks.rows, benchmarks.diff; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "torch", "pycocotools"} & set(loaded)
