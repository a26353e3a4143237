"""A stage of known duration, added to a backend's own calls, is in what the timer reports.

Each call is followed by 20 ms of waiting, and a clock of the check's own (the hardware's, which no time service corrects)
times both parts. What the timer reports, less the backend's part, must be the stage.
"""

from collections.abc import Sequence
from functools import partial
from statistics import median
from time import CLOCK_MONOTONIC_RAW, clock_gettime_ns, sleep

from benchmarks import timing
from benchmarks.audit import TRIES, Finding
from benchmarks.engine import CALLS
from benchmarks.inputs import Inputs
from benchmarks.matrix import Boundary
from benchmarks.timing import Call, TimerSettings
from slipway_runtime import Model

#: The relative error.
LIMIT = 0.02
STAGE_S = 0.02


def check(model: Model, inputs: Inputs, boundary: Boundary, settings: TimerSettings) -> Finding:
    """Time a boundary with the stage, up to three times; the best counts."""
    calls = CALLS[boundary](model, inputs)
    brief = settings.model_copy(update={"seconds": 10 * STAGE_S, "window_calls": 1, "window_ms": 1.0, "max_windows": 2})
    error = float("inf")
    for _ in range(TRIES):
        error = min(error, _error(calls, brief))
        if error <= LIMIT:
            break
    return Finding.of("timer", boundary, error, LIMIT, f"relative error over a stage of {STAGE_S * 1e3:g} ms, median")


def _error(calls: Sequence[Call], settings: TimerSettings) -> float:
    parts: list[tuple[int, int]] = []
    timed = timing.measure([partial(_staged, call, parts) for call in calls], settings)
    counted = parts[-len(timed.samples_us) :]  # those of the warm-up went before
    pairs = zip(timed.samples_us, counted, strict=True)
    return abs(median((sample * 1e3 - own) / stage for sample, (own, stage) in pairs) - 1)


def _staged(call: Call, parts: list[tuple[int, int]]) -> None:
    start = clock_gettime_ns(CLOCK_MONOTONIC_RAW)
    call()
    between = clock_gettime_ns(CLOCK_MONOTONIC_RAW)
    sleep(STAGE_S)
    parts.append((between - start, clock_gettime_ns(CLOCK_MONOTONIC_RAW) - between))
