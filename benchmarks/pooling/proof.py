"""The proof: adaptive average pooling in stock ONNX Runtime against PyTorch's, at every size of a grid."""

import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from benchmarks.pooling import BINS, MMDEPLOY, OURS, Pyramid, graph_of, rewriting
from train.cli import say
from train.machine import available_cores

#: Heights and widths of the proof.
SIZES = range(1, 129)
#: The largest absolute error of a size that counts as right; inputs are standard normal.
TOLERANCE = 1e-6


class Line(BaseModel):
    """One line of the table.

    Attributes:
        kind: what was tried, a key of `ERRORS`.
        bins: bins along each axis.
        sizes: how many H×W were tried.
        misshapen: sizes with an output of another shape than PyTorch's, or with none.
        wrong: sizes of the right shape whose largest error exceeds `TOLERANCE`.
        max_error: the largest absolute error where the shape is right.
    """

    model_config = ConfigDict(extra="forbid")

    kind: str
    bins: int
    sizes: int
    misshapen: int
    wrong: int
    max_error: float


def prove(sizes: Sequence[int] = SIZES) -> list[Line]:
    """The whole table. Each size has a static graph of its own, traced and loaded: minutes, on all cores."""
    spawn = multiprocessing.get_context("spawn")
    cores = available_cores()
    shares = [sizes[i::cores] for i in range(cores)]
    found = []
    # Tiny tensors: threads would only wait for each other.
    with ProcessPoolExecutor(cores, spawn, torch.set_num_threads, (1,)) as processes:
        for kind, errors in ERRORS.items():
            say(f"proving: {kind}, {len(sizes) ** 2} sizes")
            found += lines(kind, np.concatenate(list(processes.map(errors, shares, [sizes] * cores))))
    return found


def lines(kind: str, errors: NDArray[np.float64]) -> list[Line]:
    """Summarise errors, sizes×bins, infinite where the shape is wrong."""
    return [
        Line(
            kind=kind,
            bins=bins,
            sizes=len(column),
            misshapen=int(np.isinf(column).sum()),
            wrong=int((column[np.isfinite(column)] > TOLERANCE).sum()),
            max_error=float(column[np.isfinite(column)].max(initial=0.0)),
        )
        for bins, column in zip(BINS, errors.T, strict=True)
    ]


def formula_errors(heights: Sequence[int], widths: Sequence[int]) -> NDArray[np.float64]:
    """Of MMDeploy's own rewrite, run in PyTorch on each size itself: sizes×bins, infinite where the shape is wrong."""
    # At each call MMDeploy looks through the call stack with its source lines: a thread of its own has a short one.
    with rewriting(MMDEPLOY), ThreadPoolExecutor(1) as thread:
        return thread.submit(_errors, heights, widths, lambda x: [_formula(x, bins) for bins in BINS]).result()


def dynamic_errors(heights: Sequence[int], widths: Sequence[int]) -> NDArray[np.float64]:
    """Of one exact graph for all sizes: sizes×bins, infinite where the shape is wrong."""
    with rewriting(OURS, dynamic=True):
        session = _session(graph_of(Pyramid(), torch.zeros(1, 1, 17, 23), dynamic=True))
    return _errors(heights, widths, lambda x: session.run(None, {"input": x.numpy()}))


def static_errors(heights: Sequence[int], widths: Sequence[int]) -> NDArray[np.float64]:
    """Of an exact graph for each size: sizes×bins, infinite where the shape is wrong."""
    with rewriting(OURS):
        return _errors(heights, widths, lambda x: _session(graph_of(Pyramid(), x)).run(None, {"input": x.numpy()}))


ERRORS = {"MMDeploy's formula": formula_errors, "exact, static": static_errors, "exact, dynamic": dynamic_errors}
Found = Sequence[NDArray[np.float32] | None]


def _errors(heights: Sequence[int], widths: Sequence[int], pool: Callable[[Tensor], Found]) -> NDArray[np.float64]:
    """Compare on inputs 1×1×H×W, the same ones each time."""
    rows = []
    for height in heights:
        generator = torch.Generator().manual_seed(height)
        for width in widths:
            x = torch.randn(1, 1, height, width, generator=generator)
            # The operator behind the function: no rewrite touches it.
            wanted = [torch.ops.aten.adaptive_avg_pool2d(x, [bins, bins]).numpy() for bins in BINS]
            rows.append([_error(*pair) for pair in zip(pool(x), wanted, strict=True)])
    return np.array(rows)


def _error(found: NDArray[np.float32] | None, wanted: NDArray[np.float32]) -> float:
    return float(np.abs(found - wanted).max()) if found is not None and found.shape == wanted.shape else math.inf


def _formula(x: Tensor, bins: int) -> NDArray[np.float32] | None:
    try:
        return F.adaptive_avg_pool2d(x, bins).numpy()
    except RuntimeError:  # fewer pixels than bins make a kernel of 0
        return None


def _session(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
