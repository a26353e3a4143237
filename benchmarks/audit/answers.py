"""What lies there after timed calls equals what accuracy mode computes from the same inputs (as MLPerf's TEST01)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.audit import Finding
from benchmarks.engine import CALLS
from benchmarks.inputs import Inputs
from benchmarks.matrix import Boundary
from benchmarks.timing import Call, TimerSettings
from slipway_runtime import Model
from slipway_runtime.sessions import Bound

#: Device → how far numbers may be apart: GPU libraries choose among algorithms and add up in any order.
TOLERANCE = {"cpu": 0.0, "cuda": 1e-3}


def check(model: Model, inputs: Inputs, boundary: Boundary, settings: TimerSettings) -> Finding:
    """Time a boundary briefly and compare every input's last answer."""
    calls = CALLS[boundary](model, inputs)
    brief = settings.model_copy(update={"seconds": settings.seconds / len(calls), "max_windows": 2, "min_calls": 1})
    if boundary == "e2e":
        wanted: list[Any] = [_settled(model, [*batch]) for batch in inputs.encoded_paths]
        found = _returned([partial(_settled, model, batch) for batch in inputs.encoded], brief)
    else:
        wanted = [model.session.run(model.feeds(batch)) for batch in inputs.tensors]
        found = _returned(calls, brief) if boundary == "host" else _left_over(calls, brief)
    worst = max(difference(each, want) for each, want in zip(found, wanted, strict=True))
    limit = TOLERANCE[model.session.device]
    return Finding.of("answers", boundary, worst, limit, f"largest difference in the answers to {len(calls)} inputs")


def difference(found: Any, wanted: Any) -> float:
    """The largest absolute difference of two numbers at one place; infinite where anything else is different."""
    if is_dataclass(found) and type(found) is type(wanted):
        return _largest((getattr(found, each.name), getattr(wanted, each.name)) for each in fields(found))
    if isinstance(found, Mapping):
        same = list(found) == list(wanted)
        return _largest((found[name], wanted[name]) for name in found) if same else float("inf")
    if isinstance(found, Sequence) and not isinstance(found, str):
        return _largest(zip(found, wanted, strict=True)) if len(found) == len(wanted) else float("inf")
    if isinstance(found, np.ndarray | np.generic | int | float):
        return _apart(np.asarray(found), np.asarray(wanted))
    return 0.0 if found == wanted else float("inf")


def _apart(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    floating = np.issubdtype(found.dtype, np.floating)
    if np.array_equal(found, wanted, equal_nan=bool(floating)):
        return 0.0
    apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max() if floating else np.nan
    return float("inf") if np.isnan(apart) else float(apart)


def _largest(pairs: Any) -> float:
    return max((difference(found, wanted) for found, wanted in pairs), default=0.0)


def _settled(model: Model, batch: Sequence[Any]) -> list[Any]:
    results = model(batch, batch_size=len(batch))
    for result in results:
        result.settle()
    return results


def _returned(calls: Sequence[Callable[[], Any]], settings: TimerSettings) -> list[Any]:
    """What the last timed call of each input returned."""
    last: dict[int, Any] = {}

    def keep(index: int, call: Call) -> None:
        last[index] = call()

    timing.measure([partial(keep, index, call) for index, call in enumerate(calls)], settings)
    return [last[index] for index in range(len(calls))]


def _left_over(calls: Sequence[Call], settings: TimerSettings) -> list[Any]:
    """The outputs that lie on the device after a timed loop, once for each input: the one whose turn was last."""
    found = []
    for index, call in enumerate(calls):
        assert isinstance(call, Bound)
        timing.measure([*calls[index + 1 :], *calls[: index + 1]], settings)
        found.append(call.outputs())
    return found
