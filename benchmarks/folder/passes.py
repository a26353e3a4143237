"""A process that predicts all images of a list, one by one, over and over: `python -m benchmarks.folder.passes < JOB`.

It imports what its own way of predicting needs and nothing else, so that its memory is that way's.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2

from benchmarks.memory import peak_rss_mib
from slipway_runtime import Model, load


def runtime(job: dict[str, Any]) -> Model:
    """The bundle, as `slipway_runtime` opens it."""
    return load(job["bundle"], threads=job["threads"])


def pytorch(job: dict[str, Any]) -> Model:
    """The unpatched model in eager PyTorch, behind the same runtime."""
    from benchmarks import exported
    from benchmarks.baselines.eager import BACKEND

    subject = exported.read(Path(job["work"]), job["experiment"])
    return load(job["bundle"], session=BACKEND.open(subject, "fp32", "cpu", job["threads"]))


WAYS: dict[str, Callable[[dict[str, Any]], Model]] = {"slipway_runtime": runtime, "pytorch": pytorch}


def predict_all(model: Model, paths: list[str]) -> float:
    """Seconds from the first file to the last prediction."""
    start = perf_counter()
    for path in paths:
        for result in model(path):
            result.settle()
    return perf_counter() - start


def main() -> None:
    """Read a job from stdin: a way, how to open the model, images, and how many passes to time after the first."""
    job = json.load(sys.stdin)
    cv2.setNumThreads(job["threads"])
    model = WAYS[job["way"]](job)
    seconds = [predict_all(model, job["images"]) for _ in range(job["passes"] + 1)]
    print(json.dumps({"seconds": seconds[1:], "peak_rss_mib": peak_rss_mib()}))


if __name__ == "__main__":
    main()
