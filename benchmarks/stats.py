"""What the raw samples say: percentiles with enough samples behind them, and intervals of medians and of their ratios.

Processes differ by more than calls do: memory lies elsewhere, threads land on other cores. So every interval is made of
resamples of processes first and of calls within them (Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time",
ISMM 2013; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, ch. 3.8). From three processes such an
interval is too narrow, for it knows the spread between them from three values: it is widened as Student's t asks
(Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015, "narrowness bias").
One process says nothing about the others: then the interval is of its calls alone, and a report must say so.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from math import log, pi, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

#: Latency samples of one row, one sequence a repetition (a fresh process each).
Repetitions = Sequence[Sequence[float]]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

#: Of percentiles, as LoadGen has it.
CONFIDENCE = 0.99
RESAMPLES = 1000


@cache
def min_samples(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Fewest samples for which a tail percentile may be reported: those for which `allowed` is 1.

    At confidence 0.99: p90 needs 64, p95 130, p99 662.

    Args:
        percentile: 0 < p < 1, such as 0.99.
        confidence: 0 < c < 1.

    Raises:
        ValueError: an argument outside its range.
    """
    _check(percentile, confidence)
    p, n = percentile, 2
    while p**n + n * (1 - p) * p ** (n - 1) > 1 - confidence:
        n += 1
    return n


@cache
def allowed(samples: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """How many of the samples may exceed a latency that is still shown to be no less than the percentile; 0: too few.

    MLPerf's early stopping: if a share `1 - percentile` of all calls were slower than some latency, seeing `t` slower
    ones or fewer among `n` has the chance P[Binomial(n, 1 - percentile) <= t]. This is the largest `t` for which that
    chance is at most `1 - confidence`.

    Source: MLPerf Inference Rules, appendix "Early Stopping Criterion", and `loadgen/early_stopping.cc` of
    mlcommons/inference (`MinPassingQueriesFinder` with d = 0).

    Raises:
        ValueError: an argument outside its range.
    """
    _check(percentile, confidence)
    # Up to the mean, where the sum is about one half; each term from the one before.
    k = np.arange(int(samples * (1 - percentile)) + 1)
    steps = np.log((samples - k) / (k + 1)) + log((1 - percentile) / percentile)
    terms = samples * log(percentile) + np.concatenate([[0.0], np.cumsum(steps)])
    return max(0, int(np.searchsorted(np.cumsum(np.exp(terms)), 1 - confidence, side="right")) - 1)


def _check(percentile: float, confidence: float) -> None:
    if not (0 < percentile < 1 and 0 < confidence < 1):
        raise ValueError(f"percentile and confidence must lie in (0, 1), got {percentile} and {confidence}")


def percentile(samples: Floats, p: float) -> float | None:
    """A latency that a share `p` of all calls stays within, with confidence 0.99; None where there are too few samples.

    As LoadGen reports it: of the `t` samples that may exceed it (`allowed`), the `t - 1` slowest are discarded, and the
    slowest of the rest is the answer. It lies above the empirical percentile, the less so the more samples there are.
    Source: `loadgen/results.cc` of mlcommons/inference (`PerformanceSummary::EarlyStopping`).
    """
    t = allowed(len(samples), p) if len(samples) else 0
    return float(np.partition(samples, len(samples) - t)[len(samples) - t]) if t else None


def pool(repetitions: Repetitions) -> Floats:
    """All samples of a row as one array."""
    return np.concatenate([np.asarray(samples, dtype=np.float64) for samples in repetitions])


def median_interval(
    repetitions: Repetitions, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """The pooled median with its interval.

    Returns:
        (median, low, high), in the samples' unit.

    Raises:
        ValueError: no repetition, an empty one, or a sample that is not above 0.
    """
    _check_samples(repetitions)
    found = _medians(repetitions, resamples, (seed, 1))
    return _interval(float(np.median(pool(repetitions))), found, [len(repetitions)], confidence)


def ratio_interval(
    numerator: Repetitions,
    denominator: Repetitions,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Ratio of the pooled medians with its interval.

    Of passes over many images (the offline scenario) there are few samples, perhaps 3×10, but each is a mean over the pass
    already: they scatter little within a process, and the interval then says how far processes differ.

    Returns:
        (ratio, low, high) of median(numerator) / median(denominator).

    Raises:
        ValueError: an empty side, an empty repetition, or a sample that is not above 0.
    """
    _check_samples(numerator, denominator)
    # Independent, also of two sides that are equal.
    ratios = _medians(numerator, resamples, (seed, 0)) / _medians(denominator, resamples, (seed, 1))
    value = float(np.median(pool(numerator)) / np.median(pool(denominator)))
    return _interval(value, ratios, [len(numerator), len(denominator)], confidence)


def _check_samples(*sides: Repetitions) -> None:
    if not all(side and all(map(len, side)) for side in sides):
        raise ValueError("an interval needs at least one repetition with at least one sample on every side")
    if not all(pool(side).min() > 0 for side in sides):
        raise ValueError("latencies must lie above 0")


def _interval(value: float, found: Floats, processes: Sequence[int], confidence: float) -> tuple[float, float, float]:
    """The percentile interval of resamples, widened around the value on the scale of ratios."""
    tail = (1 - confidence) / 2
    low, high = np.log(np.quantile(found, [tail, 1 - tail]) / value) * _widening(tuple(processes), confidence)
    return value, float(value * np.exp(min(low, 0.0))), float(value * np.exp(max(high, 0.0)))


@cache
def _widening(processes: tuple[int, ...], confidence: float) -> float:
    """What an interval from so many processes on each side is too narrow by; 1 where no side has two."""
    several = [count for count in processes if count > 1]
    if not several:
        return 1.0
    fewest, freedom = min(several), sum(several) - len(several)
    normal = NormalDist().inv_cdf((1 + confidence) / 2)
    return sqrt(fewest / (fewest - 1)) * _student_t(freedom, confidence) / normal


def _student_t(freedom: int, confidence: float) -> float:
    """The two-sided quantile of Student's t: with x = √ν·tan θ, its density is proportional to cos^(ν−1) θ."""
    theta = np.linspace(0, pi / 2, 100_001)
    density = np.cos(theta) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return sqrt(freedom) * float(np.tan(np.interp(confidence, mass / mass[-1], theta)))


def _medians(repetitions: Repetitions, resamples: int, seed: tuple[int, ...]) -> Floats:
    return _median_resamples(tuple(np.asarray(each, np.float64).tobytes() for each in repetitions), resamples, seed)


@lru_cache(maxsize=4096)  # a row is compared with several others
def _median_resamples(repetitions: tuple[bytes, ...], resamples: int, seed: tuple[int, ...]) -> Floats:
    """Medians of resamples: repetitions (float64) drawn with replacement, and as many samples as each has, out of it.

    Distributed as if every sample were drawn, but found by bisection of the sorted values: how many of the draws from a
    repetition lie below a value is binomial.
    """
    rng = np.random.default_rng(seed)
    arrays = [np.sort(np.frombuffer(each)) for each in repetitions]
    values = np.unique(np.concatenate(arrays))
    # Repetition × rank: how many of its samples are among the `rank` smallest values.
    below = np.stack([np.searchsorted(each, values, side="right") for each in arrays])
    below = np.pad(below, ((0, 0), (1, 0)))
    drawn = rng.integers(len(arrays), size=(resamples, len(arrays)))
    size = below[drawn, -1]
    total = size.sum(1)
    middle = (total + 1) // 2
    start, end = np.zeros(resamples, np.int64), np.full(resamples, len(values))
    first, under = _bisect(below, drawn, middle, (start, np.zeros_like(size)), (end, size), rng)
    # Of an even number the median is the mean of two, the second of which may be a larger value.
    second = first.copy()
    more = np.flatnonzero((total % 2 == 0) & (under.sum(1) == middle))
    second[more], _ = _bisect(
        below, drawn[more], middle[more] + 1, (first[more], under[more]), (end[more], size[more]), rng
    )
    medians: Floats = (values[first - 1] + values[second - 1]) / 2
    return medians


def _bisect(
    below: Counts,
    drawn: Counts,
    wanted: Counts,
    low: tuple[Counts, Counts],
    high: tuple[Counts, Counts],
    rng: np.random.Generator,
) -> tuple[Counts, Counts]:
    """Rank of the `wanted`-th smallest draw of each of B resamples, and how many of its draws are no larger.

    Args:
        below: repetition × rank, see above.
        drawn: B×R repetitions.
        wanted: B, from 1.
        low, high: rank, B, and the draws up to it by repetition, B×R: fewer than wanted, and as many or more.
    """
    (bottom, under_bottom), (top, under_top) = ((rank.copy(), under.copy()) for rank, under in (low, high))
    while (open_ := np.flatnonzero(top - bottom > 1)).size:
        middle = (bottom[open_] + top[open_]) // 2
        at = drawn[open_]
        lowest, here, highest = (below[at, rank[:, None]] for rank in (bottom[open_], middle, top[open_]))
        chance = (here - lowest) / np.maximum(highest - lowest, 1)
        under = under_bottom[open_] + rng.binomial(under_top[open_] - under_bottom[open_], chance)
        enough = under.sum(1) >= wanted[open_]
        top[open_[enough]], under_top[open_[enough]] = middle[enough], under[enough]
        bottom[open_[~enough]], under_bottom[open_[~enough]] = middle[~enough], under[~enough]
    return top, under_top
