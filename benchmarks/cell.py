"""One cell of the matrix in a process of its own: `python -m benchmarks.cell SPEC.json RESULT.json`.

A fresh process, so that no engine inherits another's threads, memory pool or caches, and a crash stays in its cell.
"""

import os
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic, time
from typing import Any

import cv2

from benchmarks import backends, exported
from benchmarks.baselines.eager import PyTorchSession
from benchmarks.engine import InProcess
from benchmarks.inputs import Inputs, choose
from benchmarks.native import Program
from benchmarks.outcome import Outcome, Spec
from deploy import metrics
from slipway_runtime import Model, load
from slipway_runtime.errors import SessionError
from slipway_runtime.manifest import Manifest
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


def measure(spec: Spec) -> Outcome:
    """Open the model, time each boundary, and count accuracy where the spec asks for it.

    Raises:
        SlipwayError, SlipwayRuntimeError: whatever stops it.
    """
    backend = backends.check(spec.backend, spec.precision)
    subject = exported.read(spec.work, spec.experiment)
    if reason := _impossible(subject.manifest, spec):
        return Outcome(status="unavailable", reason=reason)
    cv2.setNumThreads(spec.threads)
    try:
        opened = backend.open(subject, spec.precision, spec.device, spec.threads)
        built = backend.describe(subject, spec.precision) if hasattr(backend, "describe") else None
    except (BackendError, SessionError) as error:
        return Outcome(status="unavailable", reason=str(error))
    if not isinstance(opened, Program) and not opened.min_batch <= spec.batch <= (opened.max_batch or spec.batch):
        reason = (
            f"the plan takes {opened.min_batch} to {opened.max_batch} images at once; build one with BATCH=MIN:OPT:MAX"
        )
        return Outcome(status="unavailable", reason=reason)
    samples: list[Sample] = tasks.named(subject.manifest.task).samples(subject.data_root, "val")
    paths = [path for path, _ in samples]
    # Seeded by the matrix alone: every backend and every repetition sees the same images.
    inputs = choose(subject.manifest, paths, spec.inputs, spec.batch, spec.seed, spec.shape)
    if not isinstance(opened, Program):
        engine = InProcess(load(subject.experiment.bundle, session=opened), spec.threads)
        return _complete(engine, subject.manifest, inputs, samples, spec).model_copy(update={"built": built})
    if spec.shape:
        return Outcome(status="unavailable", reason=f"{spec.backend} takes images as its bundle prepares them")
    return _complete(opened, subject.manifest, inputs, samples, spec)


def _impossible(manifest: Manifest, spec: Spec) -> str | None:
    """Why this graph cannot take such inputs, or None."""
    batch, _, *size = manifest.inputs[0].shape
    if isinstance(batch, int) and batch != spec.batch:
        return f"the graph's batch is fixed at {batch}; export with a dynamic batch for batch {spec.batch}"
    if spec.shape is None:
        return None
    if getattr(manifest.postprocess, "window", None):
        return "the model slides a window of one size; shapes are for models that take whole images"
    if isinstance(size[0], int) and tuple(size) != spec.shape:
        return f"the graph's size is fixed at {size[0]}×{size[1]}; export with SHAPE=dynamic for other sizes"
    return None


def _complete(
    engine: InProcess | Program, manifest: Manifest, inputs: Inputs, samples: Sequence[Sample], spec: Spec
) -> Outcome:
    outcome = _time(engine, inputs, spec)
    if spec.accuracy_batch_size is not None:
        fixed = manifest.inputs[0].shape[0]
        pixels = preprocess(samples[0][0], manifest.preprocess).array[0].size
        size = fixed if isinstance(fixed, int) else min(spec.accuracy_batch_size, max(1, ACCURACY_PIXELS // pixels))
        metric = metrics.for_task(manifest)
        _count(metric, engine.predict([path for path, _ in samples], size), samples)
        outcome.images, outcome.accuracy, outcome.per_image = metric.images, metric.compute(), metric.packed()
        if isinstance(engine, InProcess):
            outcome.accuracy |= _native(metric, engine.model, samples)
    return outcome


def _time(engine: InProcess | Program, inputs: Inputs, spec: Spec) -> Outcome:
    """Everything that is timed: boundaries in an order of their own in each process, then all at once, then step by step."""
    outcome = Outcome()
    order = list(spec.boundaries)
    random.Random(f"{spec.seed} {spec.backend} {spec.precision} {spec.batch} {spec.repetition}").shuffle(order)
    if spec.shape:  # images keep their sizes: a shape is of tensors
        order = [boundary for boundary in order if boundary != "e2e"]
    for boundary in order if "stream" in spec.scenarios else []:
        timed = engine.time(boundary, inputs, spec.timer)
        if timed:
            outcome.timings[boundary] = timed
            outcome.sizes[boundary] = inputs.image_sizes if boundary == "e2e" else inputs.tensor_sizes
        else:
            outcome.reason = (
                f"the validation set has no {spec.batch} images of one size for a batch of the graph; "
                "e2e takes them as they come"
            )
    if "offline" in spec.scenarios:
        outcome.offline, outcome.offline_images = engine.offline(inputs, spec.timer)
        outcome.sizes.setdefault("e2e", inputs.image_sizes)
    if spec.stages:
        outcome.stages_us = engine.stages(inputs, spec.timer)
    outcome.peak_rss_mib = engine.peak_rss_mib
    outcome.timed_until_s = time()
    return outcome


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
    try:
        outcome = measure(Spec.model_validate_json(spec_file.read_text()))
    except BackendError as error:  # found out with the first images: an operator that a device lacks, say
        outcome = Outcome(status="unavailable", reason=str(error))
    write_atomic(outcome_file, outcome.model_dump_json())
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(cli.run(lambda _: main(sys.argv[1:])))
