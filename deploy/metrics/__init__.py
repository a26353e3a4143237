"""Accuracy metrics, one file a task; the file's name is the task's. Each defines `METRIC` and `TITLES`.

A metric follows `update / compute / reset`. The first entry of `compute()` is the headline, which the gate looks at; an
entry "name/class" is one class's. `TITLES` says how reports show each name, headline first.
"""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Protocol

from slipway_runtime.errors import BundleError
from slipway_runtime.manifest import Manifest


class Metric(Protocol):
    """A metric over a data set.

    Attributes:
        images: how many images have been counted since the last reset.
    """

    images: int

    def __init__(self, manifest: Manifest) -> None: ...

    def update(self, results: Sequence[Any], targets: Sequence[Any]) -> None:
        """Count predictions (as `slipway_runtime` returns them) against what the data set says of the same images."""

    def compute(self) -> dict[str, float]:
        """The values, unit in the name, headline first. Raises InputError when nothing was counted."""

    def reset(self) -> None:
        """Forget what was counted."""


def for_task(manifest: Manifest) -> Metric:
    """A fresh metric for a bundle's task.

    Raises:
        BundleError: no metric for that task.
    """
    known = [module.name for module in iter_modules(__path__)]
    if manifest.task not in known:
        raise BundleError(f"no accuracy metric for task '{manifest.task}'; expected one of {', '.join(sorted(known))}")
    metric: Metric = import_module(f"{__name__}.{manifest.task}").METRIC(manifest)
    return metric


def titles(task: str) -> dict[str, str]:
    """How reports show a task's metrics, headline first: {"miou_percent": "mIoU %", …}."""
    named: dict[str, str] = import_module(f"{__name__}.{task}").TITLES
    return named
