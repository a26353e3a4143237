"""What per-image data say: intervals of an accuracy, and of its difference from another artifact's on the same images.

A validation set is a sample of the images that a model will meet. Its images are drawn anew, with replacement, and the
metric is worked out of each resample (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13). Two
artifacts are counted over the same resamples, so that what is hard about an image for both does not blur what differs.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Comparison, Interval
from deploy import metrics
from train.errors import InputError

CONFIDENCE = 0.95
RESAMPLES = 2000
#: Average precision sorts detections: less of it is a second.
_FEWER = {"detection": 1000}
#: Images × resamples that are drawn in one go.
_AT_ONCE = 1 << 22


def interval(task: str, packed: str, seed: int = 0) -> Interval:
    """The headline in percent with its percentile interval over resamples of the images.

    Args:
        task: whose metric packed it.
        packed: see `deploy.metrics.Metric.packed`.
        seed: of the resamples.

    Raises:
        InputError: the text is damaged or another task's.
    """
    return _interval(_value(task, packed), _resampled(task, packed, seed))


def compare(task: str, base_packed: str, packed: str, seed: int = 0) -> Comparison:
    """The difference of the headline from a baseline's, in percentage points, image by image.

    For a share of images McNemar's exact test comes with it: of the images that one side alone has right, the chance of
    a split as uneven as this where both are as good. Equal predictions give [0, 0] and p = 1.

    Raises:
        InputError: other images, or another number of them; or as `interval`.
    """
    if not np.array_equal(metrics.truth(base_packed), metrics.truth(packed)):
        counts = " and ".join(str(len(metrics.truth(each))) for each in (base_packed, packed))
        raise InputError(
            f"paired comparison: expected the same images with the same labels, found two sets of {counts}; "
            "count both over one data set"
        )
    if packed == base_packed:
        points = Interval(value=0.0, low=0.0, high=0.0)
    else:
        differences = _resampled(task, packed, seed) - _resampled(task, base_packed, seed)
        points = _interval(_value(task, packed) - _value(task, base_packed), differences)
    made = Comparison(points=points, method=f"paired bootstrap over images, {_resamples(task)} resamples")
    right, base_right = metrics.right(task, packed), metrics.right(task, base_packed)
    if right is None or base_right is None:
        return made
    better, worse = int((right & ~base_right).sum()), int((base_right & ~right).sum())
    return made.model_copy(update={"better": better, "worse": worse, "p_value": mcnemar(better, worse)})


def mcnemar(better: int, worse: int) -> float:
    """McNemar's exact test, two-sided: the binomial chance of a split at least as uneven, both ways equally likely.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947, in its exact form. In whole numbers, so that showing results needs no SciPy.

    Args:
        better: images that one side alone has right.
        worse: images that the other side alone has right.
    """
    total, term, fewer = better + worse, 1, 0
    for k in range(min(better, worse) + 1):
        fewer += term
        term = term * (total - k) // (k + 1)
    return min(1.0, 2 * fewer / 2**total)


def _resamples(task: str) -> int:
    return _FEWER.get(task, RESAMPLES)


def _value(task: str, packed: str) -> float:
    return float(metrics.resampled(task, packed, np.ones((1, len(metrics.truth(packed))), np.int64))[0])


@lru_cache(maxsize=64)  # a baseline is compared with several others, over the resamples of its own interval
def _resampled(task: str, packed: str, seed: int) -> NDArray[np.float64]:
    images, rng = len(metrics.truth(packed)), np.random.default_rng(seed)
    step = max(1, _AT_ONCE // images)
    sizes = [min(step, _resamples(task) - start) for start in range(0, _resamples(task), step)]
    return np.concatenate([metrics.resampled(task, packed, _weights(size, images, rng)) for size in sizes])


def _weights(resamples: int, images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each image was drawn, resamples × images."""
    drawn = rng.integers(images, size=(resamples, images)) + images * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)


def _interval(value: float, found: NDArray[np.float64]) -> Interval:
    # A resample may hold no object or no labelled pixel: it says nothing.
    low, high = np.nanquantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))
