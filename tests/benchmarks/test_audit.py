"""The audit: real backends pass each check, and each seeded fault fails its own."""

import threading
from collections.abc import Callable
from functools import partial
from time import sleep
from typing import Any

import numpy as np
import pytest
from bound_by_run import BoundByRun
from numpy.typing import NDArray

from benchmarks import exported, timing
from benchmarks.audit import Finding, answers, caching, synchronisation, timer
from benchmarks.inputs import Inputs, choose
from benchmarks.matrix import Boundary
from benchmarks.timing import TimerSettings
from slipway_runtime import Model, load
from slipway_runtime.sessions import Bound, Feeds
from slipway_runtime.sessions.onnxruntime import OnnxRuntimeSession
from train.experiment import Experiment

BRIEF = TimerSettings(seconds=0.05, min_calls=4, window_ms=2, window_calls=2, settled_windows=2, tolerance=1e9)
BOUNDARIES: tuple[Boundary, ...] = ("model", "host", "e2e")
#: What a real model takes for a batch: long against what a busy machine does in between.
WORK_S = 0.004

Open = Callable[[type[OnnxRuntimeSession]], tuple[Model, Inputs]]


class Slow(OnnxRuntimeSession):
    """The real engine with a model's duration added to its own microseconds."""

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        sleep(WORK_S)
        return super()._run(feeds)

    def _bind(self, feeds: Feeds) -> Bound:
        return BoundByRun(self, feeds)


class Caching(Slow):
    """Remembers every input that it ever answered."""

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        known = self.__dict__.setdefault("known", {})
        key = b"".join(array.tobytes() for array in feeds.values())
        if key not in known:
            known[key] = super()._run(feeds)
        return dict(known[key])


class Approximate(Slow):
    """Computes something else when it is timed: bound calls differ from `run`."""

    def _bind(self, feeds: Feeds) -> Bound:
        return BoundByRun(self, {name: array * np.float32(0.999) for name, array in feeds.items()})


class ApproximateRuns(Slow):
    """Its answers differ once it has been asked often, as in a timed loop."""

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        self.asked = getattr(self, "asked", 0) + 1
        factor = 1 if self.asked <= 4 else 0.999
        return super()._run({name: array * np.float32(factor) for name, array in feeds.items()})


class Hasty(Slow):
    """Forgets to wait: a thread computes, and only `outputs()` joins it."""

    def _bind(self, feeds: Feeds) -> Bound:
        return HastyBound(self, feeds)


class HastyBound(BoundByRun):
    def _compute(self) -> Any:
        made: dict[str, NDArray] = {}
        worker = threading.Thread(target=lambda: made.update(self._session._run(self.feeds)))
        worker.start()
        return worker, made

    def _fetch(self, outputs: Any) -> dict[str, NDArray]:
        worker, made = outputs
        worker.join()
        return dict(made)


@pytest.fixture
def opened(colours: Experiment) -> Open:
    def build(engine: type[OnnxRuntimeSession]) -> tuple[Model, Inputs]:
        subject = exported.read(colours.work, colours.name)
        session = engine(colours.bundle / "model.onnx", "cpu", 1)
        paths = sorted(subject.data_root.rglob("*.png"))
        return load(colours.bundle, session=session), choose(subject.manifest, paths, 3, 1, 0)

    return build


def assert_fails(found: Finding) -> None:
    assert found.passed is False, found
    assert found.limit is not None
    assert found.value is None or found.value > found.limit


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("check", [answers.check, caching.check, timer.check, synchronisation.check])
def test_a_real_engine_passes(opened: Open, check: Callable[..., Finding], boundary: Boundary) -> None:
    found = check(*opened(Slow), boundary, BRIEF)
    assert found.passed is not False, found
    assert (found.passed is None) == (found.check == "synchronisation" and boundary != "model")


def test_the_engine_as_it_is_answers_alike(opened: Open) -> None:
    for boundary in BOUNDARIES:
        found = answers.check(*opened(OnnxRuntimeSession), boundary, BRIEF)
        assert found.passed
        assert found.value == 0


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_control_a_cache_is_caught(opened: Open, boundary: Boundary) -> None:
    assert_fails(caching.check(*opened(Caching), boundary, BRIEF))


def test_control_other_answers_under_the_clock_are_caught(opened: Open) -> None:
    assert_fails(answers.check(*opened(Approximate), "model", BRIEF))


@pytest.mark.parametrize("boundary", ["host", "e2e"])
def test_control_other_answers_in_the_long_run_are_caught(opened: Open, boundary: Boundary) -> None:
    assert_fails(answers.check(*opened(ApproximateRuns), boundary, BRIEF))


def test_control_a_call_that_does_not_wait_is_caught(opened: Open) -> None:
    assert_fails(synchronisation.check(*opened(Hasty), "model", BRIEF))


@pytest.mark.parametrize(("boundary", "error"), [("model", 0.95), ("host", 1.05), ("e2e", 1.05)])
def test_control_a_wrong_timer_is_caught(
    opened: Open, boundary: Boundary, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = timing.measure

    def wrong(*arguments: Any, **options: Any) -> timing.Timing:
        found = right(*arguments, **options)
        return found.model_copy(update={"samples_us": [each * error for each in found.samples_us]})

    monkeypatch.setattr(timing, "measure", wrong)
    assert_fails(timer.check(*opened(Slow), boundary, BRIEF))


@pytest.mark.parametrize(
    ("found", "wanted", "apart"),
    [
        ({"a": np.float32([1, 2])}, {"a": np.float32([1, 2.5])}, 0.5),
        ({"a": np.float32([np.nan])}, {"a": np.float32([1])}, np.inf),
        ({"a": np.float32([0, np.nan])}, {"a": np.float32([0, np.nan])}, 0),
        ({"a": np.int64([1])}, {"a": np.int64([2])}, np.inf),
        ({"a": np.float32([1])}, {"b": np.float32([1])}, np.inf),
        ([1.0], [1.0, 2.0], np.inf),
        (np.zeros((1, 2)), np.zeros((2, 1)), np.inf),
        ("cat", "dog", np.inf),
        ([(1, "cat")], [(1, "cat")], 0),
    ],
)
def test_difference(found: Any, wanted: Any, apart: float) -> None:
    np.testing.assert_equal(answers.difference(found, wanted), apart)


def test_a_value_that_is_no_number_does_not_pass() -> None:
    found = Finding.of("answers", "host", float("nan"), 0, "largest difference")
    assert found.passed is False
    assert found.value is None
    assert Finding.model_validate_json(found.model_dump_json()) == found


def test_new_inputs_are_never_the_same(opened: Open) -> None:
    model, inputs = opened(OnnxRuntimeSession)
    for boundary in BOUNDARIES:
        new, ready = caching._kinds(model, boundary, inputs)
        seen = {new(number)[0] if boundary == "e2e" else new(number)[0].tobytes() for number in range(1, 101)}
        assert len(seen) == 100
        ready(new(1))()


def test_pairs_are_the_same_input() -> None:
    answered: list[Any] = []
    ready = lambda made: partial(answered.append, made)  # noqa: E731
    list(caching._ratios(lambda number: number, ready, iter(range(1000)), 0))
    assert answered[0::2] == answered[1::2]
    assert len(set(answered)) == len(answered) // 2 == caching.MIN_PAIRS
