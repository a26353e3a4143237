"""One cell of the matrix in a process of its own: `python -m benchmarks.cell SPEC.json RESULT.json`.

A fresh process, so that no engine inherits another's threads, memory pool or caches, and a crash stays in its cell.
"""

import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import cv2
from pydantic import BaseModel, PositiveInt

from benchmarks import backends, exported, timing
from benchmarks.baselines.eager import PyTorchSession
from benchmarks.inputs import Inputs, Size, choose
from benchmarks.matrix import Boundary
from benchmarks.memory import peak_rss_mib
from benchmarks.native import Program
from benchmarks.timing import Call, TimerSettings, Timing
from deploy import metrics
from slipway_runtime import Model, load
from slipway_runtime.errors import SessionError
from slipway_runtime.preprocess import preprocess
from slipway_runtime.tasks import Result
from train import cli, tasks
from train.errors import BackendError
from train.files import write_atomic

#: Lines on stderr that start so are for the person at the terminal; the rest is kept for a failure's reason.
PROGRESS = "progress: "
PROGRESS_SECONDS = 5

#: Pixels of the images that go through the graph at once when accuracy is counted; logits take many bytes a pixel.
ACCURACY_PIXELS = 1 << 21

#: An image and what is true of it.
Sample = tuple[Path, Any]


class Spec(BaseModel):
    """What one process measures. `accuracy_batch_size`: measure accuracy too, with this batch."""

    work: Path
    experiment: str
    backend: str
    device: str
    batch: PositiveInt
    repetition: int
    boundaries: tuple[Boundary, ...]
    inputs: PositiveInt
    threads: PositiveInt
    seed: int
    timer: TimerSettings
    accuracy_batch_size: PositiveInt | None = None


class Outcome(BaseModel):
    """What one process found.

    Attributes:
        status: "unavailable": this machine or this graph cannot do it. "failed": it should have worked.
        reason: why not, or why not all boundaries, in one line.
        timings: one a boundary; of a boundary that could not be timed there is none, and a reason.
        sizes: a boundary's different inputs, height and width: of images for `e2e`, else of what the graph takes.
        peak_rss_mib: most resident memory of the process until the timing ended, in MiB.
        images: images that accuracy was counted over.
        accuracy: metric values, headline first; empty where this process measured none.
    """

    status: Literal["ok", "unavailable", "failed"] = "ok"
    reason: str | None = None
    timings: dict[Boundary, Timing] = {}
    sizes: dict[Boundary, list[Size]] = {}
    peak_rss_mib: float | None = None
    images: int = 0
    accuracy: dict[str, float] = {}


def measure(spec: Spec) -> Outcome:
    """Open the model, time each boundary, and count accuracy where the spec asks for it.

    Raises:
        SlipwayError, SlipwayRuntimeError: whatever stops it.
    """
    backend = backends.get(spec.backend)
    subject = exported.read(spec.work, spec.experiment)
    fixed = subject.manifest.inputs[0].shape[0]
    if isinstance(fixed, int) and fixed != spec.batch:
        reason = f"the graph's batch is fixed at {fixed}; export with a dynamic batch for batch {spec.batch}"
        return Outcome(status="unavailable", reason=reason)
    cv2.setNumThreads(spec.threads)
    try:
        opened = backend.open(subject, spec.device, spec.threads)
    except (BackendError, SessionError) as error:
        return Outcome(status="unavailable", reason=str(error))
    engine = opened if isinstance(opened, Program) else InProcess(load(subject.experiment.bundle, session=opened))
    samples: list[Sample] = tasks.named(subject.manifest.task).samples(subject.data_root, "val")
    paths = [path for path, _ in samples]
    # Seeded by the matrix alone: every backend and every repetition sees the same images.
    inputs = choose(subject.manifest, paths, spec.inputs, spec.batch, spec.seed)
    outcome = _time(engine, inputs, spec)
    if spec.accuracy_batch_size is not None:
        pixels = preprocess(paths[0], subject.manifest.preprocess).array[0].size
        size = fixed if isinstance(fixed, int) else min(spec.accuracy_batch_size, max(1, ACCURACY_PIXELS // pixels))
        metric = metrics.for_task(subject.manifest)
        _count(metric, engine.predict(paths, size), samples)
        outcome.images, outcome.accuracy = metric.images, metric.compute()
        if isinstance(engine, InProcess):
            outcome.accuracy |= _native(metric, engine.model, samples)
    return outcome


class InProcess:
    """A model in this process, with what `native.Program` has."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def peak_rss_mib(self) -> float | None:
        """Most resident memory that this process has had, in MiB."""
        return peak_rss_mib()

    def time(self, boundary: Boundary, inputs: Inputs, settings: TimerSettings) -> Timing | None:
        """Time a boundary; None where the images give no batch for it."""
        calls = CALLS[boundary](self.model, inputs)
        return timing.measure(calls, settings) if calls else None

    def predict(self, paths: Sequence[Path], batch: int) -> Iterator[Result]:
        """Predictions of images, in order."""
        for start in range(0, len(paths), batch):
            yield from self.model(paths[start : start + batch], batch_size=batch)


def _time(engine: InProcess | Program, inputs: Inputs, spec: Spec) -> Outcome:
    outcome = Outcome()
    order = list(spec.boundaries)
    random.Random(f"{spec.seed} {spec.backend} {spec.batch} {spec.repetition}").shuffle(order)
    for boundary in order:
        timed = engine.time(boundary, inputs, spec.timer)
        if timed:
            outcome.timings[boundary] = timed
            outcome.sizes[boundary] = inputs.image_sizes if boundary == "e2e" else inputs.tensor_sizes
        else:
            outcome.reason = (
                f"the validation set has no {spec.batch} images of one size for a batch of the graph; "
                "e2e takes them as they come"
            )
    outcome.peak_rss_mib = engine.peak_rss_mib
    return outcome


#: Boundary → the calls to time. `model`: tensor on the device → outputs on the device; `host`: host tensor → host
#: outputs; `e2e`: encoded image bytes → final prediction.
CALLS: dict[Boundary, Callable[[Model, Inputs], list[Call]]] = {
    "model": lambda model, inputs: [model.session.bind(model.feeds(batch)) for batch in inputs.tensors],
    "host": lambda model, inputs: [partial(model.session.run, model.feeds(batch)) for batch in inputs.tensors],
    "e2e": lambda model, inputs: [partial(_predict, model, batch) for batch in inputs.encoded],
}


def _predict(model: Model, batch: Sequence[bytes]) -> None:
    for result in model(batch, batch_size=len(batch)):
        result.settle()


def _count(metric: metrics.Metric, predictions: Iterable[Result], samples: Sequence[Sample]) -> None:
    told = monotonic()
    for result, (_, target) in zip(predictions, samples, strict=True):
        metric.update([result], [target])
        if monotonic() - told > PROGRESS_SECONDS:
            told = monotonic()
            cli.say(f"{PROGRESS}accuracy: {metric.images}/{len(samples)} images")


def _native(metric: metrics.Metric, model: Model, samples: Sequence[Sample]) -> dict[str, float]:
    """The headline by the model's own package, of PyTorch where images are padded: what the graph's input policy costs."""
    if not isinstance(model.session, PyTorchSession):
        return {}
    prepared = (model.preprocess(path) for path, _ in samples)
    if all(each.content == each.array.shape[1:] for each in prepared):
        return {}
    results = model.session.native([path for path, _ in samples])
    if results is None:
        return {}
    metric.reset()
    for result, (_, target) in zip(results, samples, strict=True):
        metric.update([result], [target])
    name, value = next(iter(metric.compute().items()))
    return {f"{name.removesuffix('_percent')}_native_percent": value}


def main(argv: Sequence[str]) -> int:
    """Measure the spec and write the outcome, whole or not at all."""
    spec_file, outcome_file = map(Path, argv)
    outcome = measure(Spec.model_validate_json(spec_file.read_text()))
    write_atomic(outcome_file, outcome.model_dump_json())
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(cli.run(lambda _: main(sys.argv[1:])))
