"""A model → its graph, static or for every size, and how far the two are apart."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from deploy import export, graph, trace
from deploy.parity import MIN_SIZES
from deploy.reference import Reference
from deploy.zoo.heads import PREFIX, with_heads
from deploy.zoo.seeding import images
from train.errors import InputError, UsageError, VerificationError

#: What other sizes are of the size that a graph is traced at: both ways of being longer, and hardly a power of two.
OTHER = ((0.79, 1.23), (1.31, 0.63), (1.17, 1.11))
#: Batches of images that a graph of one size is tried on.
REPEATS = 2


class Found(BaseModel):
    """What a comparison found.

    Attributes:
        status: "exact"; "batch" where the model itself takes one size and any number of images; "wrong".
        reason: why it is not exact.
        sizes: height and width of what was compared.
        batch: how many images at once.
        nodes, mib: of the graph.
        seconds: of tracing alone.
        heads: largest |ONNX − PyTorch| of the first head's maps; None where there are none.
        predictions: of the final outputs: of detections, the largest |Δscore| of a pair.
        detections: of both sides, where the model detects.
        rounding: |PyTorch − PyTorch in float64|, where that explains a difference; detections: how many.
    """

    model_config = ConfigDict(extra="forbid")
    status: str = "exact"
    reason: str = ""
    sizes: list[tuple[int, int]] = []
    batch: int = 1
    nodes: int = 0
    mib: float = 0.0
    seconds: float = 0.0
    heads: float | None = None
    predictions: float = 0.0
    detections: int | None = None
    rounding: float = 0.0


def compare(
    reference: Reference, shape: str, size: tuple[int, int], folder: Path, sizes: Sequence[tuple[int, int]] = ()
) -> Found:
    """Export a model and compare the graph, in stock ONNX Runtime, with the unpatched model.

    Args:
        reference: the model.
        shape: "static" or "dynamic".
        size: height and width that the graph is traced at.
        folder: for the graph.
        sizes: others to try a dynamic graph at, instead of those that follow from `size`.

    Raises:
        UsageError, InputError, VerificationError: the export refuses the model, or the model this size.
    """
    shape, tried, why = plan(reference, shape, size, sizes)
    found = Found()
    if shape == "batch":
        found = Found(status="batch", reason=f"the model itself takes one size only: {why}")
    started = time.monotonic()
    both = with_heads(reference, images((1, 3, *size)))
    traced = trace.trace(export.read_deploy_config(shape), both, images((1, 3, *size))[0])
    found.seconds = round(time.monotonic() - started, 1)
    graph.check(traced)
    path = folder / "model.onnx"
    onnx.save(traced, path)
    found.nodes, found.mib = len(traced.graph.node), round(path.stat().st_size / 2**20, 1)
    del traced  # as large as the model
    found.batch = 1 if shape == "static" else 2
    found.sizes = tried
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    compared: dict[str, Any] = {}
    for batch in batches(shape, tried):
        _hold(session, both, batch, compared)
    return _summary(found, compared)


def plan(
    reference: Reference, shape: str, size: tuple[int, int], sizes: Sequence[tuple[int, int]] = ()
) -> tuple[str, list[tuple[int, int]], str]:
    """At which sizes a graph is compared; arguments as of `compare`.

    Returns:
        the shape, "batch" in the place of "dynamic" where the model itself takes no other size, the sizes, and why it does not.

    Raises:
        UsageError: the model takes some of the other sizes, but too few.
    """
    if shape != "dynamic":
        return shape, [size], ""
    others, why = _taken(reference, sizes or _others(reference, size))
    if others and 1 + len(others) < MIN_SIZES:
        raise UsageError(
            f"only {1 + len(others)} of the sizes are such that the model takes ({why}); give its line `sizes`"
        )
    return ("dynamic" if others else "batch"), [size, *others], why


def _others(reference: Reference, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes that the data preprocessor may give: multiples of what it pads to."""
    settings: Any = reference.config.model.get("data_preprocessor") or {}
    divisor = settings.get("pad_size_divisor") or (settings.get("test_cfg") or {}).get("size_divisor") or 1
    return [
        (-(-int(size[0] * high) // divisor) * divisor, -(-int(size[1] * wide) // divisor) * divisor)
        for high, wide in OTHER
    ]


def _taken(reference: Reference, sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], str]:
    """Those sizes that the model itself takes, and why it does not take another."""
    taken, why = [], ""
    for size in sizes:
        try:
            reference.predict(images((1, 3, *size)))
            taken.append(size)
        except InputError as error:
            why = str(error)
    return taken, why


def batches(shape: str, sizes: Sequence[tuple[int, int]]) -> Sequence[Tensor]:
    """What a graph is tried on: single images, two at once of each size, or one to three at once."""
    if shape == "static":
        return images((REPEATS, 3, *sizes[0])).split(1)
    counts = (2,) if shape == "dynamic" else (1, 2, 3)
    return [images((count, 3, *size)) for size in sizes for count in counts]


def _hold(session: onnxruntime.InferenceSession, reference: Reference, batch: Tensor, compared: dict[str, Any]) -> None:
    """Compare every output of a batch."""
    task = reference.task
    predicted = {name: value.numpy() for name, value in reference.predict(batch).items()}
    for name, value in reference(batch).items():
        if not np.array_equal(value.numpy(), predicted[name], equal_nan=True):
            raise VerificationError(f"the reference's own two ways to output '{name}' disagree")
    names = [output.name for output in session.get_outputs()]
    if set(names) != set(predicted):
        raise VerificationError(f"outputs {sorted(names)}, PyTorch gives {sorted(predicted)}")
    found = dict(zip(names, session.run(None, {"input": batch.numpy()}), strict=True))
    ours, theirs = task.compared(found), task.compared(predicted)
    exact: dict[str, Any] = {}
    for name in ours:
        kind = task.comparison(name)
        output = compared.setdefault(name, kind())

        def rounding(image: int, name: str = name, kind: Any = kind) -> float:
            if not exact:
                exact.update({key: value.numpy() for key, value in reference.exact(batch).items()})
            one = slice(image, image + 1)
            own = task.compared({key: value[one] for key, value in predicted.items()})[name]
            true = task.compared({key: value[one] for key, value in exact.items()})[name]
            return float(kind.distance(own, true))

        output.update(ours[name], theirs[name], rounding)


def _summary(found: Found, compared: dict[str, Any]) -> Found:
    heads = [output for name, output in compared.items() if name.startswith(PREFIX)]
    final = [output for name, output in compared.items() if not name.startswith(PREFIX)]
    found.heads = max(output.max_abs for output in heads) if heads else None
    found.predictions = max(output.max_abs for output in final)
    found.detections = next((output.detections for output in final if hasattr(output, "detections")), None)
    found.rounding = float(max(getattr(output, "excused", 0) or getattr(output, "rounding", 0) for output in final))
    wrong = [f"'{name}': {output.fault or output.reason()}" for name, output in compared.items() if not output.passed]
    if wrong:
        found.status, found.reason = "wrong", "; ".join(wrong[:3])
    return found
