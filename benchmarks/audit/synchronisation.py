"""A bound call returns when its outputs are finished: fetching them right after it waits for nothing.

Fetching again shows what fetching costs; only the first time can have waited for work that the call left behind.
"""

from statistics import median
from time import perf_counter, perf_counter_ns

from benchmarks.audit import TRIES, Finding
from benchmarks.inputs import Inputs
from benchmarks.matrix import Boundary
from benchmarks.timing import TimerSettings
from slipway_runtime import Model
from slipway_runtime.sessions import Bound

#: The share of a call that its outputs may come late.
LIMIT = 0.10
#: Outputs that come late by less than this, in ns, are not late: the first fetch finds the processor's caches cold.
NEGLIGIBLE_NS = 50_000
MIN_CALLS = 11


def check(model: Model, inputs: Inputs, boundary: Boundary, settings: TimerSettings) -> Finding:
    """Call and fetch twice for as long as the timer's settings say, up to three times; the best counts."""
    if boundary != "model":
        return Finding.impossible("synchronisation", boundary, "its calls return host arrays, finished by their nature")
    bound = [model.session.bind(model.feeds(batch)) for batch in inputs.tensors]
    for each in bound:
        each()
    late = float("inf")
    for _ in range(TRIES):
        late = min(late, _late(bound, settings.seconds))
        if late <= LIMIT:
            break
    return Finding.of("synchronisation", boundary, late, LIMIT, "share of a call that its outputs come late, medians")


def _late(bound: list[Bound], seconds: float) -> float:
    calls: list[int] = []
    waits: list[int] = []
    end = perf_counter() + seconds
    while len(calls) < MIN_CALLS or perf_counter() < end:
        for each in bound:
            start = perf_counter_ns()
            each()
            called = perf_counter_ns()
            each.outputs()
            fetched = perf_counter_ns()
            each.outputs()
            calls.append(called - start)
            waits.append((fetched - called) - (perf_counter_ns() - fetched))
    wait = median(waits)
    return wait / median(calls) if wait > NEGLIGIBLE_NS else 0.0
