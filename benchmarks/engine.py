"""A model in this process, as a cell times it: each boundary, all images at once, and each step on its own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter, perf_counter_ns

from numpy.typing import NDArray

from benchmarks import energy, timing
from benchmarks.inputs import Inputs, queue
from benchmarks.matrix import Boundary
from benchmarks.memory import peak_rss_mib
from benchmarks.outcome import Stage
from benchmarks.timing import Call, TimerSettings, Timing
from slipway_runtime import Model, tasks
from slipway_runtime.tasks import Result

#: Passes are long: a window of the warm-up is one of them.
OFFLINE_CALLS = {"window_calls": 1, "min_calls": 3}
#: Images that are taken apart at least, over all turns.
STAGE_SAMPLES = 10

#: Boundary → the calls to time. `model`: tensor on the device → outputs on the device; `host`: host tensor → host
#: outputs; `e2e`: encoded image bytes → final prediction.
CALLS: dict[Boundary, Callable[[Model, Inputs], list[Call]]] = {
    "model": lambda model, inputs: [model.session.bind(model.feeds(batch)) for batch in inputs.tensors],
    "host": lambda model, inputs: [partial(model.session.run, model.feeds(batch)) for batch in inputs.tensors],
    "e2e": lambda model, inputs: [partial(_predict, model, batch) for batch in inputs.encoded],
}


class InProcess:
    """A model in this process, with what `native.Program` has.

    Args:
        model: the bundle with the session that is measured.
        threads: that prepare images while the graph runs, offline.
    """

    def __init__(self, model: Model, threads: int) -> None:
        self.model = model
        self.threads = threads
        self._meter = energy.meter(model.session.device)

    @property
    def peak_rss_mib(self) -> float | None:
        """Most resident memory that this process has had, in MiB."""
        return peak_rss_mib()

    def time(self, boundary: Boundary, inputs: Inputs, settings: TimerSettings) -> Timing | None:
        """Time a boundary; None where the images give no batch for it."""
        calls = CALLS[boundary](self.model, inputs)
        return timing.measure(calls, settings, meter=self._meter) if calls else None

    def offline(self, inputs: Inputs, settings: TimerSettings) -> tuple[Timing, int]:
        """Time passes over images that are all there at once, and how many images a pass has.

        The images are prepared by threads while the graph runs; one pass ends with the last prediction.
        """
        batch = len(inputs.encoded[0])
        images = queue([image for group in inputs.encoded for image in group], batch)

        def work() -> None:
            with ThreadPoolExecutor(self.threads) as pool:
                for result in self.model.predict(pool.map(self.model.preprocess, images), batch):
                    result.settle()

        return timing.measure([work], settings.model_copy(update=OFFLINE_CALLS), meter=self._meter), len(images)

    def stages(self, inputs: Inputs, settings: TimerSettings) -> dict[Stage, list[float]]:
        """Each step from file to prediction in microseconds, image by image, after a first turn that does not count."""
        images = [group[0] for group in inputs.encoded]
        samples: list[dict[Stage, float]] = []
        for image in images:
            self._take_apart(image)
        end = perf_counter() + settings.seconds
        while len(samples) < STAGE_SAMPLES or perf_counter() < end:
            samples += [self._take_apart(image) for image in images]
        return {stage: [round(sample[stage], 1) for sample in samples] for stage in samples[0]}

    def predict(self, paths: Sequence[Path], batch: int) -> Iterator[Result]:
        """Predictions of images, in order."""
        for start in range(0, len(paths), batch):
            yield from self.model(paths[start : start + batch], batch_size=batch)

    def _take_apart(self, image: bytes) -> dict[Stage, float]:
        model, session = self.model, self.model.session
        clock = _Clock()
        decoded = model.decode(image)
        clock.lap("decode")
        prepared = model.preprocess(decoded)
        clock.lap("preprocess")

        def run(arrays: Sequence[NDArray]) -> dict[str, NDArray]:
            clock.lap("postprocess")  # of windows that went before
            feeds = model.feeds(arrays)
            clock.lap("preprocess")
            if session.device == "cpu":  # the tensors are where they are needed
                outputs = session.run(feeds)
                clock.lap("compute")
            else:
                bound = session.bind(feeds)
                clock.lap("h2d")
                bound()
                clock.lap("compute")
                outputs = bound.outputs()
                clock.lap("d2h")
            return {name: array[: len(arrays)] for name, array in outputs.items()}

        for result in tasks.predict(model.manifest, [prepared], run):
            result.settle()
        clock.lap("postprocess")
        return clock.laps_us


class _Clock:
    def __init__(self) -> None:
        self.laps_us: dict[Stage, float] = {}
        self._last = perf_counter_ns()

    def lap(self, stage: Stage) -> None:
        now = perf_counter_ns()
        self.laps_us[stage] = self.laps_us.get(stage, 0.0) + (now - self._last) / 1e3
        self._last = now


def _predict(model: Model, batch: Sequence[bytes]) -> None:
    for result in model(batch, batch_size=len(batch)):
        result.settle()
