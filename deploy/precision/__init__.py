"""Other precisions of a bundle's float32 graph. One file a precision; the file's name is the precision's.

Each defines `GATE`, the share of the float32 graph's score that it must reach, in percent, and `make(task)`. The graph goes
into the bundle as `model.NAME.onnx`, beside it `model.NAME.json`, how it was made.
"""

import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from train.cli import nearest

if TYPE_CHECKING:
    from onnx import ModelProto

    from deploy.precision.calibration.images import Images
    from deploy.precision.calibration.scores import Scores
    from slipway_runtime import Model
    from slipway_runtime.sessions import Feeds


@dataclass(frozen=True)
class Task:
    """What a precision works with.

    Attributes:
        model: the float32 graph, with inferred shapes.
        loaded: the bundle, to prepare images with.
        images: for ranges and for scores.
        scores: the float32 graph's, and what other graphs reach.
        gate: the share of the float32 graph's score to reach, in percent.
    """

    model: "ModelProto"
    loaded: "Model"
    images: "Images"
    scores: "Scores"
    gate: float

    def feeds(self, paths: Sequence[Path]) -> "Iterator[Feeds]":
        """What goes through the graph of these images: one array, or one window, at a time."""
        for path in paths:
            for array in self.loaded.inputs(self.loaded.preprocess(path)):
                yield self.loaded.feeds([array])

    def few_feeds(self) -> "list[Feeds]":
        """Of a few images, one array each."""
        from deploy.precision.calibration.search import COST_IMAGES

        return [next(self.feeds([path])) for path in self.images.calibration[:COST_IMAGES]]


@dataclass(frozen=True)
class Variant:
    """A graph in another precision.

    Attributes:
        graph: whole, inputs and outputs as the float32 graph's.
        scores: what it reaches on the search images, by metric, in percent.
        report: how it was made, JSON-able.
    """

    graph: "ModelProto"
    scores: dict[str, float]
    report: dict[str, Any]


class Precision(Protocol):
    """A precision's module."""

    GATE: float

    def make(self, task: Task) -> Variant:
        """Make the graph. Raises VerificationError where the gate cannot be held."""


def names() -> list[str]:
    """The precisions that a graph can be given."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def get(name: str) -> Any:
    """A precision's module.

    Raises:
        UsageError: an unknown name.
    """
    if name not in names():
        raise nearest(name, names(), "precision")
    return import_module(f"{__name__}.{name}")
