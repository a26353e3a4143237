"""Engines that run a graph. One file an engine; this file holds what they share.

A session computes one function: named host arrays in, named host arrays out. The public methods check names, dtypes and
shapes once, here; an engine overrides the `_…` methods only. The benchmark's PyTorch baselines are sessions too, so that
every row of a table is measured through the same two calls:

- `run(feeds)`: host arrays → host arrays (the `host` boundary),
- `bind(feeds)`: puts the inputs on the device and returns a call that runs the graph on them and returns when the
  outputs lie on the device, finished (the `model` boundary).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import SessionError
from slipway_runtime.manifest import TensorSpec

Feeds = Mapping[str, NDArray]


class Session(ABC):
    """A graph ready to run on one device.

    Attributes:
        name: the engine's name as rows and errors show it ("onnxruntime", "pytorch").
        device: "cpu" or "cuda".
        inputs: the graph's inputs.
        outputs: the graph's outputs.
    """

    name: str
    device: str

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)

    def run(self, feeds: Feeds) -> dict[str, NDArray]:
        """Run the graph on host arrays and return its outputs, by name, as host arrays.

        Raises:
            SessionError: a missing or unknown input, a wrong dtype, or a shape that does not fit.
        """
        self._check(feeds)
        return self._run(feeds)

    def bind(self, feeds: Feeds) -> Callable[[], None]:
        """Place inputs on the device; the returned call runs the graph and returns once the outputs are finished there."""
        self._check(feeds)
        return self._bind(feeds)

    @abstractmethod
    def _run(self, feeds: Feeds) -> dict[str, NDArray]: ...

    @abstractmethod
    def _bind(self, feeds: Feeds) -> Callable[[], None]: ...

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
                raise SessionError(
                    f"{self.name}: input '{name}' has shape {array.shape}, expected {spec.shape}"
                    + ("; export with SHAPE=dynamic for other sizes" if all(map(np.isscalar, spec.shape)) else "")
                )
