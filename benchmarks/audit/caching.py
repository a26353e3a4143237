"""An input that was just answered is not answered faster than one that was never seen (as MLPerf's TEST04).

Pairs: a new input, made of a validation image by moving its columns around, is answered twice, and each answer is timed. So
a cache of any size shows. Both calls follow the same work on the host, which leaves the processor's caches alike.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any, TypeAlias

import cv2
import numpy as np

from benchmarks.audit import TRIES, Finding
from benchmarks.inputs import Inputs
from benchmarks.matrix import Boundary
from benchmarks.timing import Call, TimerSettings
from slipway_runtime import Model
from slipway_runtime.image import decode

#: The share of a new input's time that a known one may save.
LIMIT = 0.10
MIN_PAIRS = 11

#: A number that was never used → a new input, and what answers it.
_New: TypeAlias = Callable[[int], Any]


def check(model: Model, inputs: Inputs, boundary: Boundary, settings: TimerSettings) -> Finding:
    """Pairs for as long as the timer's settings say, up to three times; the best counts."""
    numbers = count(1)
    new, ready = _kinds(model, boundary, inputs)
    saved = float("inf")
    for _ in range(TRIES):
        saved = min(saved, 1 - median(_ratios(new, ready, numbers, settings.seconds)))
        if saved <= LIMIT:
            break
    return Finding.of(
        "caching", boundary, saved, LIMIT, "share of the time that answering again saves, median of pairs"
    )


def _ratios(new: _New, ready: Callable[[Any], Call], numbers: Iterator[int], seconds: float) -> Iterator[float]:
    pairs, end = 0, perf_counter() + seconds
    while pairs < MIN_PAIRS or perf_counter() < end:
        pairs += 1
        made = new(next(numbers))
        first = _timed(ready(made))
        again = _timed(ready(made))
        yield again / first


def _timed(call: Call) -> int:
    start = perf_counter_ns()
    call()
    return perf_counter_ns() - start


def _kinds(model: Model, boundary: Boundary, inputs: Inputs) -> tuple[_New, Callable[[Any], Call]]:
    """How a new input of a boundary is made, and made ready to be answered."""
    if boundary == "e2e":
        images = [[decode(image) for image in batch] for batch in inputs.encoded]

        def encoded(number: int) -> list[bytes]:
            batch = images[number % len(images)]
            return [cv2.imencode(".png", _moved(image, number, axis=1))[1].tobytes() for image in batch]

        # Copied, as feeds are for the other boundaries: nothing may know the input by where it lies.
        return encoded, lambda batch: partial(_predict, model, [bytes(bytearray(image)) for image in batch])

    def tensors(number: int) -> list[Any]:
        batch = inputs.tensors[number % len(inputs.tensors)]
        return [_moved(array, number, axis=2) for array in batch]

    if boundary == "host":
        return tensors, lambda batch: partial(model.session.run, model.feeds(batch))
    return tensors, lambda batch: model.session.bind(model.feeds(batch))


def _moved(image: Any, number: int, axis: int) -> Any:
    """An image that no other number gives: columns in another order, one value changed by a little."""
    moved = np.ascontiguousarray(np.roll(image, number, axis=axis))
    where = np.unravel_index(number % moved.size, moved.shape)
    moved[where] = (moved[where] + 1 + number % 97) % 251 if moved.dtype == np.uint8 else moved[where] + 1e-3 * number
    return moved


def _predict(model: Model, batch: list[bytes]) -> None:
    for result in model(batch, batch_size=len(batch)):
        result.settle()
