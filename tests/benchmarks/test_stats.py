"""The statistics, against scipy and numpy computing the same independently."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import special
from scipy import stats as scipy_stats

from benchmarks import stats


@pytest.mark.parametrize(("percentile", "fewest"), [(0.9, 64), (0.95, 130), (0.99, 662)])
def test_min_samples_are_mlperfs(percentile: float, fewest: int) -> None:
    # 64 and 662 are what LoadGen asks for in SingleStream (p90) and MultiStream (p99).
    assert stats.min_samples(percentile) == fewest


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("confidence", [0.9, 0.99, 0.999])
def test_min_samples_is_the_binomial_bound(percentile: float, confidence: float) -> None:
    n = stats.min_samples(percentile, confidence)
    chances = [scipy_stats.binom.cdf(1, size, 1 - percentile) for size in (n, n - 1)]
    assert chances[0] <= 1 - confidence
    assert n == 2 or chances[1] > 1 - confidence, "one sample fewer must be too few"
    # The form of loadgen/early_stopping.cc: odds(h, t, p, d) with t = 1 and d = 0.
    assert special.betainc(n - 1, 2, percentile) == pytest.approx(chances[0], rel=1e-9)


@pytest.mark.parametrize("bad", [0.0, 1.0, -1, 99])
def test_min_samples_refuses_what_is_no_probability(bad: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        stats.min_samples(bad)


def test_a_percentile_needs_its_samples() -> None:
    samples = np.random.default_rng(0).lognormal(size=130)
    assert stats.percentile(samples, 0.95) == pytest.approx(np.percentile(samples, 95))
    assert stats.percentile(samples[:-1], 0.95) is None


def test_ratio_equals_numpys_and_scipys_bootstrap() -> None:
    rng = np.random.default_rng(1)
    slow, fast = 3 * rng.lognormal(sigma=0.3, size=400), rng.lognormal(sigma=0.3, size=300)
    ratio, low, high = stats.ratio_interval([list(slow)], [list(fast)], resamples=4000)
    assert ratio == pytest.approx(np.median(slow) / np.median(fast))
    reference = scipy_stats.bootstrap(
        (slow, fast),
        lambda a, b, axis: np.median(a, axis=axis) / np.median(b, axis=axis),
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), rel=0.02)


def test_ratio_interval_is_reproducible_and_ordered() -> None:
    rng = np.random.default_rng(3)
    sides = [[list(rng.lognormal(size=50)) for _ in range(3)] for _ in range(2)]
    first = stats.ratio_interval(*sides, seed=7)
    assert first == stats.ratio_interval(*sides, seed=7)
    assert all(a <= b for a, b in pairwise((first[1], first[0], first[2])))


def _repetitions(rng: np.random.Generator, scale: float) -> list[list[float]]:
    """Eight processes, each off by about 10 % of its own, 60 calls each: the median over processes is `scale`."""
    return [list(scale * rng.lognormal(sigma=0.1) * rng.lognormal(sigma=0.02, size=60)) for _ in range(8)]


def test_the_interval_covers_the_truth_and_pooling_does_not() -> None:
    rng = np.random.default_rng(4)
    covered = {"hierarchical": 0, "pooled": 0}
    trials = 40
    for _ in range(trials):
        slow, fast = _repetitions(rng, 2.0), _repetitions(rng, 1.0)
        sides: dict[str, tuple[stats.Repetitions, stats.Repetitions]] = {
            "hierarchical": (slow, fast),
            "pooled": ([stats.pool(slow).tolist()], [stats.pool(fast).tolist()]),
        }
        for kind, (a, b) in sides.items():
            _, low, high = stats.ratio_interval(a, b, resamples=100)
            covered[kind] += low <= 2.0 <= high
    assert covered["hierarchical"] >= 0.85 * trials
    # The control: an interval that ignores the differences between processes is far too narrow.
    assert covered["pooled"] <= 0.5 * trials


@pytest.mark.parametrize("empty", [[], [[]], [[1.0], []]])
def test_ratio_refuses_empty_sides(empty: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        stats.ratio_interval(empty, [[1.0]])
