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


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.95, 0.99])
def test_allowed_is_the_binomial_bound(percentile: float) -> None:
    fewest = stats.min_samples(percentile)
    assert (stats.allowed(fewest - 1, percentile), stats.allowed(fewest, percentile)) == (0, 1)
    for n in (fewest, 2 * fewest, 1000, 12_345, 100_000):
        t = stats.allowed(n, percentile)
        chance = scipy_stats.binom.cdf([t, t + 1], n, 1 - percentile)
        assert chance[0] <= 0.01 < chance[1] or t == 0, "one more must be too many"
        assert t == 0 or special.betainc(n - t, t + 1, percentile) == pytest.approx(chance[0], rel=1e-6)


def test_a_percentile_needs_its_samples() -> None:
    samples = np.random.default_rng(0).lognormal(size=130)
    # One may exceed it, so none is discarded.
    assert stats.percentile(samples, 0.95) == samples.max()
    assert stats.percentile(samples[:-1], 0.95) is None
    assert stats.percentile(samples[:0], 0.5) is None


def test_a_percentile_holds_with_its_confidence() -> None:
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(1500, 300))
    truth = -np.log(0.1)
    conservative = np.mean([(stats.percentile(row, 0.9) or 0) >= truth for row in samples])
    assert conservative >= 0.98
    # The control: the empirical percentile is below the true one every second time.
    assert np.mean(np.quantile(samples, 0.9, axis=1) >= truth) < 0.6
    # More samples bring it nearer.
    many = rng.exponential(size=100_000)
    assert stats.percentile(many, 0.9) == pytest.approx(truth, rel=0.02)
    slowest_first = np.sort(many)[::-1]
    assert stats.percentile(many, 0.9) == slowest_first[stats.allowed(len(many), 0.9) - 1]


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


def _drawn(repetitions: stats.Repetitions, rng: np.random.Generator) -> float:
    """The median of one resample, as it is defined."""
    chosen = rng.integers(len(repetitions), size=len(repetitions))
    return float(np.median(np.concatenate([rng.choice(repetitions[i], len(repetitions[i])) for i in chosen])))


@pytest.mark.parametrize("lengths", [(9, 4, 7), (10, 10, 10), (1, 1, 2), (5,)])
def test_resampled_medians_are_distributed_as_drawn_ones(lengths: tuple[int, ...]) -> None:
    """Even and odd numbers of samples, equal values, repetitions of several lengths."""
    rng = np.random.default_rng(5)
    repetitions = [np.round(rng.lognormal(sigma=0.5, size=n), 1).tolist() for n in lengths]
    fast = stats._medians(repetitions, 4000, (0,))
    slow = [_drawn(repetitions, rng) for _ in range(4000)]
    values = np.union1d(fast, slow)
    shares = [np.searchsorted(np.sort(each), values, side="right") / 4000 for each in (fast, slow)]
    assert np.abs(shares[0] - shares[1]).max() < 0.035, "Kolmogorov-Smirnov, p < 0.0001"


def test_median_interval() -> None:
    rng = np.random.default_rng(6)
    repetitions = [list(100 * rng.lognormal(sigma=0.1, size=80)) for _ in range(3)]
    value, low, high = stats.median_interval(repetitions)
    assert value == np.median(np.concatenate(repetitions))
    assert low < value < high
    slower = [[3 * sample for sample in samples] for samples in repetitions]
    assert stats.median_interval(slower) == pytest.approx((3 * value, 3 * low, 3 * high))
    assert stats.median_interval([[2.0] * 9] * 3) == pytest.approx((2.0, 2.0, 2.0))
    assert stats.median_interval([[2.0]]) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 40])
def test_student_t_is_scipys(freedom: int) -> None:
    assert stats._student_t(freedom, 0.95) == pytest.approx(scipy_stats.t.ppf(0.975, freedom), rel=1e-6)


def test_the_widening_goes_by_the_processes_that_tell() -> None:
    assert stats._widening((1, 1), 0.95) == 1
    assert stats._widening((3, 3), 0.95) == pytest.approx(np.sqrt(3 / 2) * scipy_stats.t.ppf(0.975, 4) / 1.959964)
    assert stats._widening((3, 1), 0.95) == stats._widening((3,), 0.95) > stats._widening((3, 3), 0.95)
    assert stats._widening((200, 200), 0.95) == pytest.approx(1, abs=0.01)


def _repetitions(rng: np.random.Generator, scale: float, processes: int, spread: float) -> list[list[float]]:
    """Processes, each off by `spread` of its own, 60 calls each: the median over processes is `scale`."""
    return [list(scale * rng.lognormal(sigma=spread) * rng.lognormal(sigma=0.02, size=60)) for _ in range(processes)]


@pytest.mark.parametrize("processes", [3, 8])
def test_the_interval_covers_the_truth_and_pooling_does_not(processes: int) -> None:
    rng = np.random.default_rng(4)
    covered = {"hierarchical": 0, "pooled": 0}
    trials = 70
    for _ in range(trials):
        slow, fast = (_repetitions(rng, scale, processes, 0.1) for scale in (2.0, 1.0))
        sides: dict[str, tuple[stats.Repetitions, stats.Repetitions]] = {
            "hierarchical": (slow, fast),
            "pooled": ([stats.pool(slow).tolist()], [stats.pool(fast).tolist()]),
        }
        for kind, (a, b) in sides.items():
            _, low, high = stats.ratio_interval(a, b, resamples=200)
            covered[kind] += low <= 2.0 <= high
    assert covered["hierarchical"] >= 0.9 * trials
    # The control: an interval that ignores the differences between processes is far too narrow.
    assert covered["pooled"] <= 0.6 * trials


def test_where_processes_are_alike_the_interval_covers_too() -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(80):
        slow, fast = (_repetitions(rng, scale, 3, 0.0) for scale in (2.0, 1.0))
        _, low, high = stats.ratio_interval(slow, fast, resamples=200)
        covered += low <= 2.0 <= high
        assert high - low < 0.1, "2 % between calls is little between medians of 180"
    assert covered >= 0.9 * 80


@pytest.mark.parametrize("empty", [[], [[]], [[1.0], []], [[0.0]]])
def test_intervals_refuse_empty_sides_and_no_latencies(empty: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"at least one|above 0"):
        stats.ratio_interval(empty, [[1.0]])
    with pytest.raises(ValueError, match=r"at least one|above 0"):
        stats.median_interval(empty)
