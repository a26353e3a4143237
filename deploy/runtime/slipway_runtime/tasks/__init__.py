"""Tasks: what becomes of a graph's outputs. One file a task, named like the manifest's `postprocess.task`.

A new task is a new module in this package with one name, `postprocess`: called with the manifest and the outputs, it
returns a `Result` an image.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import VerificationError
from slipway_runtime.manifest import Manifest


class Result(ABC):
    """The prediction for one image."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-able values; `task` says which task's they are."""

    @abstractmethod
    def line(self) -> str:
        """The result for a person, in one line."""

    @abstractmethod
    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image, uint8 H×W×3 BGR, with the result drawn on it."""


def postprocess(manifest: Manifest, outputs: Mapping[str, NDArray], n: int) -> list[Result]:
    """Turn the graph's outputs for `n` images into `n` results.

    Raises:
        VerificationError: an output with NaN or infinity in it.
    """
    used = {name: array[:n] for name, array in outputs.items()}
    for name, array in used.items():
        if not np.isfinite(array).all():
            raise VerificationError(
                f"{manifest.name}: output '{name}' has values that are no finite numbers; verify the export"
            )
    module = import_module(f"{__name__}.{manifest.task}")
    return module.postprocess(manifest, used)
