"""One cell of the matrix in a process of its own: `python -m benchmarks.cell SPEC.json RESULT.json`.

A fresh process, so that no engine inherits another's threads, memory pool or caches, and a crash stays in its cell.
"""

import os
import random
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from time import monotonic
from typing import Literal, TypeVar

import cv2
from pydantic import BaseModel, PositiveInt

from benchmarks import backends, exported, metrics, timing
from benchmarks.matrix import Boundary
from benchmarks.timing import Call, TimerSettings, Timing
from slipway_runtime import Model, load
from slipway_runtime.errors import SessionError
from train import cli
from train.data import read_split
from train.errors import BackendError, InputError
from train.files import write_atomic

#: Lines on stderr that start so are for the person at the terminal; the rest is kept for a failure's reason.
PROGRESS = "progress: "
PROGRESS_SECONDS = 5

Sample = tuple[Path, int]
T = TypeVar("T")


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
        reason: why not, in one line.
        timings: one a boundary.
        peak_rss_mib: most resident memory of the process until the timing ended, in MiB.
        images: images that accuracy was counted over.
        accuracy: metric values, headline first; empty where this process measured none.
    """

    status: Literal["ok", "unavailable", "failed"] = "ok"
    reason: str | None = None
    timings: dict[Boundary, Timing] = {}
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
        session = backend.open(subject, spec.device, spec.threads)
    except (BackendError, SessionError) as error:
        return Outcome(status="unavailable", reason=str(error))
    model = load(subject.experiment.bundle, device=spec.device, threads=spec.threads, session=session)
    samples = read_split(subject.data_root, "val")
    batches = _batches(samples, spec)
    order = list(spec.boundaries)
    random.Random(f"{spec.seed} {spec.backend} {spec.batch} {spec.repetition}").shuffle(order)
    outcome = Outcome(timings={name: timing.measure(CALLS[name](model, batches), spec.timer) for name in order})
    outcome.peak_rss_mib = peak_rss_mib()
    if spec.accuracy_batch_size is not None:
        size = fixed if isinstance(fixed, int) else spec.accuracy_batch_size
        metric = metrics.for_task(subject.manifest)
        _count(metric, model, samples, size)
        outcome.images, outcome.accuracy = metric.images, metric.compute()
    return outcome


def _batches(samples: Sequence[Sample], spec: Spec) -> list[list[bytes]]:
    """`spec.inputs` batches of encoded images, different ones as far as the validation set has them."""
    if not samples:
        raise InputError(f"{spec.experiment}: the validation set is empty; there is nothing to measure on")
    paths = [path for path, _ in samples]
    # Seeded by the matrix alone: every backend and every repetition sees the same images.
    random.Random(spec.seed).shuffle(paths)
    images = iter([path.read_bytes() for path in islice(cycle(paths), spec.inputs * spec.batch)])
    return list(_chunks(images, spec.batch))


def _model_calls(model: Model, batches: Sequence[list[bytes]]) -> list[Call]:
    return [model.session.bind(model.feeds([model.preprocess(image) for image in batch])) for batch in batches]


def _host_calls(model: Model, batches: Sequence[list[bytes]]) -> list[Call]:
    feeds = [model.feeds([model.preprocess(image) for image in batch]) for batch in batches]
    return [lambda fed=fed: model.session.run(fed) for fed in feeds]  # type: ignore[misc]


def _e2e_calls(model: Model, batches: Sequence[list[bytes]]) -> list[Call]:
    return [lambda batch=batch: model(batch, batch_size=len(batch)) for batch in batches]  # type: ignore[misc]


#: Boundary → the calls to time. `model`: tensor on the device → outputs on the device; `host`: host tensor → host
#: outputs; `e2e`: encoded image bytes → final prediction.
CALLS: dict[Boundary, Callable[[Model, Sequence[list[bytes]]], list[Call]]] = {
    "model": _model_calls,
    "host": _host_calls,
    "e2e": _e2e_calls,
}


def _count(metric: metrics.Metric, model: Model, samples: Sequence[Sample], batch_size: int) -> None:
    told = monotonic()
    for chunk in _chunks(iter(samples), batch_size):
        metric.update(model([path for path, _ in chunk], batch_size=batch_size), [target for _, target in chunk])
        if monotonic() - told > PROGRESS_SECONDS:
            told = monotonic()
            cli.say(f"{PROGRESS}accuracy: {metric.images}/{len(samples)} images")


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk


def peak_rss_mib() -> float:
    """Most resident memory that this process has had, in MiB.

    Linux's `VmHWM`, because `getrusage` still holds the parent's peak after fork and exec; `getrusage` elsewhere.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(argv: Sequence[str]) -> int:
    """Measure the spec and write the outcome, whole or not at all."""
    spec_file, outcome_file = map(Path, argv)
    outcome = measure(Spec.model_validate_json(spec_file.read_text()))
    write_atomic(outcome_file, outcome.model_dump_json())
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(cli.run(lambda _: main(sys.argv[1:])))
