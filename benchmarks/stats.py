"""What the raw samples say: percentiles with enough samples behind them, measured throughput, intervals on ratios."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

#: Latency samples of one row, one sequence a repetition (a fresh process each).
Repetitions = Sequence[Sequence[float]]

CONFIDENCE = 0.99


@cache
def min_samples(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Fewest samples for which a tail percentile may be reported.

    MLPerf's early stopping: with one sample allowed above the reported latency, the binomial chance of seeing so few
    slow calls although a share `1 - percentile` of all calls is slow must be at most `1 - confidence`. That chance
    is P[Binomial(n, 1 - p) <= 1] = p^n + n (1 - p) p^(n - 1). At confidence 0.99: p90 needs 64, p95 130, p99 662.

    Source: MLPerf Inference Rules, appendix "Early Stopping Criterion", and `loadgen/early_stopping.cc` of
    mlcommons/inference (`MinPassingQueriesFinder` with t = 1, d = 0).

    Args:
        percentile: 0 < p < 1, such as 0.99.
        confidence: 0 < c < 1.

    Raises:
        ValueError: an argument outside its range.
    """
    if not (0 < percentile < 1 and 0 < confidence < 1):
        raise ValueError(f"percentile and confidence must lie in (0, 1), got {percentile} and {confidence}")
    p, n = percentile, 2
    while p**n + n * (1 - p) * p ** (n - 1) > 1 - confidence:
        n += 1
    return n


def percentile(samples: NDArray[np.float64], p: float) -> float | None:
    """The empirical `p` quantile (linear interpolation), or None where there are fewer samples than it needs."""
    return float(np.quantile(samples, p)) if len(samples) >= min_samples(p) else None


def pool(repetitions: Repetitions) -> NDArray[np.float64]:
    """All samples of a row as one array."""
    return np.concatenate([np.asarray(samples, dtype=np.float64) for samples in repetitions])


def ratio_interval(
    numerator: Repetitions,
    denominator: Repetitions,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Ratio of the pooled medians with a hierarchical bootstrap percentile interval.

    Each resample draws repetitions with replacement and then samples within each drawn repetition, so that what differs
    from process to process widens the interval (Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time", ISMM
    2013; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, ch. 3.8). One repetition holds nothing
    about the differences between processes: then the interval is too narrow, and a report must say so.

    Returns:
        (ratio, low, high) of median(numerator) / median(denominator).

    Raises:
        ValueError: an empty side or an empty repetition.
    """
    if not all(side and all(map(len, side)) for side in (numerator, denominator)):
        raise ValueError("a ratio needs at least one repetition with at least one sample on both sides")
    rng = np.random.default_rng(seed)
    ratios = _median_resamples(numerator, resamples, rng) / _median_resamples(denominator, resamples, rng)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.median(pool(numerator)) / np.median(pool(denominator))), float(low), float(high)


def _median_resamples(repetitions: Repetitions, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    arrays = [np.asarray(samples, dtype=np.float64) for samples in repetitions]
    medians = np.empty(resamples)
    for i in range(resamples):
        drawn = [arrays[j] for j in rng.integers(len(arrays), size=len(arrays))]
        medians[i] = np.median(np.concatenate([a[rng.integers(len(a), size=len(a))] for a in drawn]))
    return medians
