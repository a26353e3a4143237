"""The timer: warm up until the duration has settled, then time every single call.

Each call must be synchronous: it returns when its result is ready (`slipway_runtime.sessions` promises that of
`run` and of what `bind` returns), so the host's monotonic clock around it is the latency, for every engine alike.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter_ns

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from benchmarks.energy import Meter

Call = Callable[[], object]
Clock = Callable[[], int]


class TimerSettings(BaseModel):
    """How long to measure, and when a duration counts as settled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: PositiveFloat = 0.75
    min_calls: PositiveInt = 10
    max_calls: PositiveInt = 5000
    window_ms: PositiveFloat = 100.0
    window_calls: PositiveInt = 5
    settled_windows: int = Field(default=3, ge=2)
    tolerance: PositiveFloat = 0.1
    max_windows: PositiveInt = 20

    @model_validator(mode="after")
    def _ordered(self) -> "TimerSettings":
        if self.min_calls > self.max_calls:
            raise ValueError(f"min_calls {self.min_calls} is above max_calls {self.max_calls}")
        return self


class Timing(BaseModel):
    """What the timer saw.

    Attributes:
        samples_us: the latency of each timed call in microseconds, in order, rounded to 0.1.
        wall_s: from the start of the first timed call to the end of the last, in seconds.
        warmup_us: the median of each warm-up window in microseconds, in order.
        invalid: why the numbers must not be trusted, or None.
        energy_j: what the platform's counters gained during the timed calls, in joules; None where it has none.
        energy_source: which counters: "RAPL package", "NVML".
    """

    samples_us: list[float]
    wall_s: float
    warmup_us: list[float]
    invalid: str | None = None
    energy_j: float | None = None
    energy_source: str | None = None


def measure(
    calls: Sequence[Call], settings: TimerSettings, clock: Clock = perf_counter_ns, meter: Meter | None = None
) -> Timing:
    """Warm up, then time calls for `settings.seconds`.

    Args:
        calls: the same work on different inputs; they take turns, so that no cache holds the answer. Inputs may differ in
            size: every window and the timing itself end with a whole turn.
        settings: see `TimerSettings`.
        clock: a monotonic clock in nanoseconds.
        meter: counts the joules of all timed calls (`benchmarks.energy`); it is read before the first and after the last.

    Returns:
        The samples. When the warm-up did not settle, `invalid` says so and the samples are there all the same.

    Raises:
        ValueError: no calls.
    """
    if not calls:
        raise ValueError("nothing to time: no calls were given")
    with _no_garbage_collection():
        windows, invalid = _warm_up(calls, settings, clock)
        if meter:
            meter.start()
        samples, wall = _time(calls, clock, settings.seconds * 1e9, settings.min_calls, settings.max_calls)
        joules = meter.stop() if meter else None
    return Timing(
        samples_us=[round(ns / 1e3, 1) for ns in samples],
        wall_s=wall / 1e9,
        warmup_us=[round(ns / 1e3, 1) for ns in windows],
        invalid=invalid,
        energy_j=joules,
        energy_source=meter.source if meter and joules is not None else None,
    )


def _warm_up(calls: Sequence[Call], settings: TimerSettings, clock: Clock) -> tuple[list[float], str | None]:
    """Run windows until the last few medians agree; the medians in ns, and why they never did (or None)."""
    medians: list[float] = []
    while len(medians) < settings.max_windows:
        samples, _ = _time(calls, clock, settings.window_ms * 1e6, settings.window_calls, settings.max_calls)
        medians.append(median(samples))
        last = medians[-settings.settled_windows :]
        if len(last) == settings.settled_windows and max(last) <= min(last) * (1 + settings.tolerance):
            return medians, None
    return medians, (
        f"warm-up did not settle: {settings.settled_windows} windows in a row never agreed within "
        f"{settings.tolerance:.0%} in {settings.max_windows} windows; with the machine quiet, measure again (--force)"
    )


def _time(calls: Sequence[Call], clock: Clock, min_ns: float, min_calls: int, max_calls: int) -> tuple[list[int], int]:
    """Time calls in turn until `min_ns` and `min_calls` are both reached, or `max_calls`; (ns of each, ns of all)."""
    samples: list[int] = []
    first = end = clock()
    while len(samples) < max_calls and (end - first < min_ns or len(samples) < min_calls):
        for call in calls:
            start = clock()
            call()
            end = clock()
            samples.append(end - start)
    return samples, end - first


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    # As timeit does: a collection of one engine's garbage must not land in another's sample.
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
