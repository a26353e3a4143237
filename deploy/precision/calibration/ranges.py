"""How large the values of tensors get on images: histograms of magnitudes, and the range that 8 bits should span."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from slipway_runtime.sessions import Feeds

BINS = 2048
#: Of the "percentile" method: this share of the values that are not 0 lies within the range.
PERCENTILE = 99.99
#: Magnitudes up to here count as 0.
_NOTHING = 1e-30
#: How many tensors are held at once: all those of a large image would not fit into memory.
_AT_ONCE = 64


class Histogram:
    """The magnitudes of a tensor's values; 0 and what is no finite number does not count.

    `BINS` bins of equal width reach from 0 to `top`, which doubles where larger values come: two bins become one.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.top = 0.0
        #: The largest finite magnitude, and the least and the greatest value; 0 is always within.
        self.peak = self.low = self.high = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count an array's values."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        magnitudes = np.abs(finite)
        magnitudes = magnitudes[magnitudes > _NOTHING]
        if not magnitudes.size:
            return
        self.peak = max(self.peak, float(magnitudes.max()))
        self.top = self.top or self.peak
        while self.top < self.peak:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([pairs, np.zeros_like(pairs)])
            self.top *= 2
        places = (magnitudes * np.float32(BINS / self.top)).astype(np.int32)
        self.counts += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)


def largest(histogram: Histogram) -> float:
    """The largest magnitude: nothing is cut."""
    return histogram.peak


def percentile(histogram: Histogram) -> float:
    """The magnitude that `PERCENTILE` of the values stay below."""
    share = np.cumsum(histogram.counts) / max(1, histogram.counts.sum())
    place = int(np.searchsorted(share, PERCENTILE / 100))
    return min(histogram.peak, (place + 1) * histogram.top / BINS)


def least_error(histogram: Histogram) -> float:
    """The magnitude with the least squared error: of rounding to 255 steps within it, of cutting beyond it."""
    width = histogram.top / BINS
    counts, centres = histogram.counts.astype(np.float64), (np.arange(BINS) + 0.5) * width
    edges = (np.arange(BINS) + 1) * width
    inside = np.cumsum(counts)
    beyond = [np.cumsum((counts * centres**power)[::-1])[::-1] - counts * centres**power for power in (0, 1, 2)]
    cutting = beyond[2] - 2 * edges * beyond[1] + edges**2 * beyond[0]
    rounding = inside * (2 * edges / 255) ** 2 / 12
    return min(histogram.peak, float(edges[np.argmin(cutting + rounding)]))


def span(histogram: Histogram, magnitude: float) -> tuple[float, float]:
    """The range from the least to the greatest value, cut at a magnitude: of what is never negative, from 0."""
    return max(histogram.low, -magnitude), min(histogram.high, magnitude)


#: By the name that reports show, in the order in which they are tried.
METHODS: dict[str, Callable[[Histogram], float]] = {
    "percentile": percentile,
    "least squared error": least_error,
    "largest": largest,
}


class Probe:
    """A graph whose inner tensors can be read."""

    def __init__(self, model: ModelProto, names: Sequence[str]) -> None:
        known = {value.name for value in (*model.graph.input, *model.graph.output)}
        opened = onnx.ModelProto()
        opened.CopyFrom(model)
        opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
        self._session = session(opened)
        self._inputs = {value.name for value in model.graph.input}
        self._names = tuple(names)

    def read(self, feeds: Feeds) -> Iterator[tuple[str, NDArray]]:
        """Every tensor asked for, by name, a few at a time."""
        yield from ((name, array) for name, array in feeds.items() if name in self._names)
        wanted = [name for name in self._names if name not in self._inputs]
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            yield from zip(some, self._session.run(some, dict(feeds)), strict=True)


def measure(model: ModelProto, names: Sequence[str], feeds: Iterable[Feeds]) -> Mapping[str, Histogram]:
    """Histograms of the named float tensors over images, one image at a time."""
    probe = Probe(model, names)
    histograms = {name: Histogram() for name in names}
    for feed in feeds:
        for name, array in probe.read(feed):
            histograms[name].add(array)
    return histograms


def session(model: ModelProto) -> onnxruntime.InferenceSession:
    """A graph in memory, opened on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def threads() -> int:
    """The cores this process may use; ONNX Runtime would start a thread for each core of the machine."""
    return len(os.sched_getaffinity(0))
