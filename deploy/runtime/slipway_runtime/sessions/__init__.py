"""Engines that run a graph. One file an engine; this file holds what they share.

A session computes one function: named host arrays in, named host arrays out. The public methods check names, dtypes and
shapes once, here; an engine overrides the `_…` methods only. The benchmark's PyTorch baselines are sessions too: every
row of a table is measured through the same two calls,

- `run(feeds)`: host arrays → host arrays (the `host` boundary),
- `bind(feeds)`: puts the inputs on the device and returns a `Bound`, which when called runs the graph on them and returns
  when the outputs lie on the device, finished (the `model` boundary); its `outputs()` fetches them.

A new engine is a new module in this package with two names: `SUFFIX`, of the files it opens, and `ENGINE`, called with
(path, device, threads). It imports what not every machine has when a file is opened.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import BundleError, SessionError, UsageError
from slipway_runtime.manifest import GRAPH_NAME, TensorSpec

Feeds = Mapping[str, NDArray]
DEVICES = ("cpu", "cuda")
#: What may compute a bundle; "onnxruntime" runs the graph itself, "tensorrt" a plan that was built from it.
ENGINES = ("onnxruntime", "tensorrt")


class Bound(ABC):
    """A graph with inputs that lie on its device.

    A session keeps the outputs of its last bound call and no others, so that inputs which take turns do not hold a set of
    outputs each.
    """

    def __init__(self, session: "Session") -> None:
        self._session = session
        # The session remembers this, not the call itself: each would keep the other, and its memory on the device.
        self._token = object()

    def __call__(self) -> None:
        """Run the graph; returns when its outputs lie on the device, finished.

        Raises:
            SessionError: the graph failed on this input.
        """
        self._session._last = None
        self._session._last = (self._token, self._compute())

    def outputs(self) -> dict[str, NDArray]:
        """The outputs of the session's last call, by name, as host arrays.

        Raises:
            SessionError: that call was not this one's.
        """
        caller, found = self._session._last or (None, None)
        if caller is not self._token:
            raise SessionError(f"{self._session.name}: these outputs were given up; call again before asking for them")
        return self._fetch(found)

    @abstractmethod
    def _compute(self) -> Any:
        """The outputs on the device, finished."""

    @abstractmethod
    def _fetch(self, outputs: Any) -> dict[str, NDArray]:
        """What `_compute` returned as host arrays, by name."""


class Session(ABC):
    """A graph ready to run on one device.

    Attributes:
        name: the engine's name as rows and errors show it ("onnxruntime", "pytorch").
        device: "cpu" or "cuda".
        inputs: the graph's inputs.
        outputs: the graph's outputs.
        metadata: what the graph's file says about itself, by key (see `manifest.METADATA_KEY`).
        min_batch: how many images it takes at least.
        max_batch: how many at most; None: any number.
    """

    name: str
    device: str

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.metadata: Mapping[str, str] = {}
        fixed = next((spec.shape[0] for spec in self.inputs if spec.shape), None)
        self.max_batch: int | None = fixed if isinstance(fixed, int) else None
        self.min_batch = self.max_batch or 1
        self._last: tuple[object, Any] | None = None

    def batch(self, count: int, shape: tuple[int, ...]) -> int:
        """How many images a batch has, where `count` of C×H×W `shape` are there: fewer than that, or more, to be filled up."""
        return max(self.min_batch, min(count, self.max_batch or count))

    def run(self, feeds: Feeds) -> dict[str, NDArray]:
        """Run the graph on host arrays and return its outputs, by name, as host arrays.

        Raises:
            SessionError: a missing or unknown input, a wrong dtype, or a shape that does not fit.
        """
        self._check(feeds)
        return self._run(feeds)

    def bind(self, feeds: Feeds) -> Bound:
        """Place inputs on the device.

        Raises:
            SessionError: as `run`.
        """
        self._check(feeds)
        return self._bind(feeds)

    @abstractmethod
    def _run(self, feeds: Feeds) -> dict[str, NDArray]: ...

    @abstractmethod
    def _bind(self, feeds: Feeds) -> Bound: ...

    def _check(self, feeds: Feeds) -> None:
        expected = {spec.name: spec for spec in self.inputs}
        if set(feeds) != set(expected):
            raise SessionError(f"{self.name}: expected inputs {sorted(expected)}, got {sorted(feeds)}")
        symbols: dict[str, int] = {}
        for name, array in feeds.items():
            spec = expected[name]
            if array.dtype != np.dtype(spec.dtype):
                raise SessionError(f"{self.name}: input '{name}' is {array.dtype}, expected {spec.dtype}")
            fits = len(array.shape) == len(spec.shape) and all(
                size == (symbols.setdefault(want, size) if isinstance(want, str) else want)
                for size, want in zip(array.shape, spec.shape, strict=True)
            )
            if not fits:
                fixed = not any(isinstance(size, str) for size in spec.shape)
                raise SessionError(
                    f"{self.name}: input '{name}' has shape {array.shape}, expected {spec.shape}"
                    + ("; export with SHAPE=dynamic for other sizes" if fixed else "")
                )


def open_session(bundle: str | Path, *, device: str = "cpu", threads: int | None = None) -> Session:
    """Open a graph with the engine that its suffix names.

    Args:
        bundle: a graph's file, or a bundle: then its `model.onnx`.
        device: "cpu" or "cuda".
        threads: how many threads one operator may use on the CPU; the engine decides when `None`.

    Raises:
        UsageError: an unknown device, or no positive number of threads.
        BundleError: no such file, one that no engine opens, or one that is damaged.
        SessionError: a device that the engine does not find here.
    """
    if device not in DEVICES:
        raise UsageError(f"unknown device '{device}', expected one of: {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads: expected 1 or more, got {threads}")
    path = Path(bundle)
    path = path / GRAPH_NAME if path.is_dir() else path
    if not path.is_file():
        raise BundleError(f"{path}: no such file; expected a bundle made by `make export-…` or its {GRAPH_NAME}")
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    engines: dict[str, Callable[[Path, str, int | None], Session]] = {m.SUFFIX: m.ENGINE for m in modules}
    if path.suffix not in engines:
        raise BundleError(f"{path}: no engine opens '{path.suffix}' files; known: {', '.join(sorted(engines))}")
    return engines[path.suffix](path, device, threads)
