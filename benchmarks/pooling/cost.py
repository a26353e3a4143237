"""The cost of exactness: PSPNet's exact graphs against the approximate one that MMDeploy makes, in one run."""

import multiprocessing
import random
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from benchmarks import environment, stats, timing
from benchmarks.pooling import MMDEPLOY, OURS, export
from train import compat
from train.cli import say
from train.errors import MeasurementError

MODEL = "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024"
SIZE = (512, 1024)
THREADS = 2
#: Processes, and how long each of them measures.
REPETITIONS, SETTINGS = 5, timing.TimerSettings(seconds=45)
BASE = "MMDeploy"
#: Name → MMDeploy backend whose rewrites are used, and whether the size is dynamic.
GRAPHS = {BASE: (MMDEPLOY, False), "exact, static": (OURS, False), "exact, dynamic": (OURS, True)}


class Cost(BaseModel):
    """What the exact graphs cost, and what the approximate one gets wrong.

    Attributes:
        environment: the machine.
        samples_us: latencies in microseconds by graph, one list a process; calls at one place belong to one turn.
        changed_percent: pixels of another class than PyTorch's, by graph, on one image of noise.
        max_error: the largest absolute error of a logit, by graph.
    """

    model_config = ConfigDict(extra="forbid")

    environment: environment.Environment
    samples_us: dict[str, list[list[float]]]
    changed_percent: dict[str, float]
    max_error: dict[str, float]

    def ratio(self, name: str) -> tuple[float, float, float]:
        """(median, low, high) of the ratio to the approximate graph's latency in the same turn, with its interval.

        Calls of one turn are neighbours in time: what slows the machine for longer than that falls out of the ratio.
        """
        pairs = zip(self.samples_us[name], self.samples_us[BASE], strict=True)
        return stats.ratio_interval([[one / base for one, base in zip(*pair, strict=True)] for pair in pairs], [[1.0]])


def median_ms(samples: stats.Repetitions) -> float:
    """The median latency in milliseconds."""
    return float(np.median(stats.pool(samples))) / 1e3


def measure(repetitions: int = REPETITIONS, settings: timing.TimerSettings = SETTINGS) -> Cost:
    """Export PSPNet three times, compare the graphs with PyTorch, and time them in processes of their own.

    Raises:
        MeasurementError: a latency never settled.
    """
    model, x = pspnet(), torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model(x)
    changed, errors = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: Path(scratch) / f"{index}.onnx" for index, name in enumerate(GRAPHS)}
        for name, (backend, dynamic) in GRAPHS.items():
            files[name].write_bytes(export(model, x, backend, dynamic=dynamic).SerializeToString())
            found = torch.from_numpy(_session(files[name]).run(None, {"input": x.numpy()})[0])
            errors[name] = float((found - wanted).abs().max())
            changed[name] = 100 * float((_classes(found) != _classes(wanted)).float().mean())
        samples: dict[str, list[list[float]]] = {name: [] for name in files}
        spawn = multiprocessing.get_context("spawn")
        for repetition in range(repetitions):
            say(f"timing: process {repetition + 1} of {repetitions}")
            with ProcessPoolExecutor(1, mp_context=spawn) as process:
                for name, values in process.submit(latencies, files, x.numpy(), settings, repetition).result().items():
                    samples[name].append(values)
    return Cost(
        environment=environment.capture(("torch", "onnxruntime", "mmdeploy", "mmsegmentation"), THREADS, "cpu"),
        samples_us=samples,
        changed_percent=changed,
        max_error=errors,
    )


def pspnet() -> nn.Module:
    """PSPNet R18-d8 of mmsegmentation with random weights: N×3×H×W → logits N×19×H/8×W/8."""
    from mmengine.hub import get_config
    from mmengine.model import revert_sync_batchnorm

    from train.runner import build_model

    compat.use("mmseg")
    config = get_config(f"mmseg::{MODEL}.py")
    config.model.pretrained = None
    torch.manual_seed(0)
    model: nn.Module = revert_sync_batchnorm(build_model(config)).eval()
    return model


def latencies(
    files: dict[str, Path], x: NDArray[np.float32], settings: timing.TimerSettings, seed: int
) -> dict[str, list[float]]:
    """Latencies in microseconds by graph; the graphs take turns in random order."""
    sessions = {name: _session(file) for name, file in files.items()}
    turns = _turns(list(sessions), random.Random(seed))
    order: list[str] = []

    def call() -> None:
        order.append(next(turns))
        sessions[order[-1]].run(None, {"input": x})

    timed = timing.measure([call] * len(sessions), settings)
    if timed.invalid:
        raise MeasurementError(timed.invalid)
    pairs = list(zip(order[-len(timed.samples_us) :], timed.samples_us, strict=True))
    return {name: [value for other, value in pairs if other == name] for name in sessions}


def _turns(names: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Each name once a turn, in an order drawn for each."""
    while True:
        yield from rng.sample(names, len(names))


def _classes(logits: Tensor) -> Tensor:
    """N×H×W: what mmseg predicts from logits at the network's stride."""
    return nn.functional.interpolate(logits, SIZE, mode="bilinear", align_corners=False).argmax(1)


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
