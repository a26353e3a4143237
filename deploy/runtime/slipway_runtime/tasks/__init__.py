"""Tasks: what becomes of a graph's outputs. One file a task, named like the manifest's `postprocess.task`.

A new task is a new module in this package with one name, `predict`: called with the manifest, a batch of prepared images
whose arrays have one shape, and a function that puts arrays through the graph, it returns a `Result` an image. Two more
names only where they differ from the ordinary: `inputs`, of a task that puts something else than the images' own arrays
through the graph, and `BESIDE`, the endings of what its `Result.beside` holds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import UsageError
from slipway_runtime.manifest import Manifest
from slipway_runtime.preprocess import Prepared

#: Float32 C×H×W arrays of one shape → the graph's outputs by name, N×… in the same order, all values finite.
Run: TypeAlias = Callable[[Sequence[NDArray[np.float32]]], dict[str, NDArray]]


class Result(ABC):
    """The prediction for one image."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-able values; `task` says which task's they are."""

    @abstractmethod
    def line(self) -> str:
        """The result for a person, in one line."""

    @abstractmethod
    def draw(self, image: NDArray[np.uint8], opacity: float = 0.5) -> NDArray[np.uint8]:
        """A copy of the image, uint8 H×W×3 BGR, with the result drawn on it.

        `opacity`, 0 to 1, is that of colour over the image, for tasks that have any.
        """

    def area(self, labels: Collection[int] | None = None) -> NDArray[np.bool_]:
        """The pixels, bool H×W, that belong to what was found; with labels, of these classes only.

        Raises:
            UsageError: a prediction that does not say.
        """
        raise UsageError(f"{self.to_dict()['task']}: this prediction does not say which pixels a thing has")

    def settle(self) -> None:  # noqa: B027
        """Compute what is shown but computed only when it is asked for, so that a clock sees all of the work."""

    def beside(self) -> dict[str, bytes]:
        """What the command line writes beside a drawing: the ending of the file's name → its content."""
        return {}


def predict(manifest: Manifest, batch: Sequence[Prepared], run: Run) -> list[Result]:
    """Predict a batch of prepared images whose arrays have one shape: a result an image, in order."""
    results: list[Result] = _module(manifest).predict(manifest, batch, run)
    return results


def inputs(manifest: Manifest, prepared: Prepared) -> list[NDArray[np.float32]]:
    """The C×H×W arrays, all of one shape, that go through the graph for one image."""
    module = _module(manifest)
    return module.inputs(manifest, prepared) if hasattr(module, "inputs") else [prepared.array]


def beside(manifest: Manifest) -> tuple[str, ...]:
    """The endings of what this task's `Result.beside` holds."""
    return getattr(_module(manifest), "BESIDE", ())


def _module(manifest: Manifest) -> ModuleType:
    return import_module(f"{__name__}.{manifest.task}")
