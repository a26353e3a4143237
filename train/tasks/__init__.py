"""What each task brings to training. A new task is one new file here, found by the OpenMMLab package it serves."""

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from train.data import Prepared
from train.errors import UsageError

#: RGB, one a class.
Palette: TypeAlias = tuple[tuple[int, int, int], ...]


class Task(Protocol):
    """A task's module: these names, at module level. The module's own name is the task's in every room.

    Attributes:
        SCOPE: the OpenMMLab package whose models it trains ("mmpretrain").
        METRIC: the validation metric that picks the best checkpoint, as MMEngine logs it.
        PERCENT: what a logged value is multiplied by to give percent.
        ALSO: other metrics to record with it, where they were measured.
        METRIC_LABEL: how a person calls it.
    """

    SCOPE: str
    METRIC: str
    ALSO: tuple[str, ...]
    PERCENT: float
    METRIC_LABEL: str

    def classes(self, prepared: Prepared) -> tuple[tuple[str, ...], Palette | None]:
        """The class names of a prepared set, in the order of their labels, and their colours where they have some."""

    def samples(self, root: Path, split: str) -> list[tuple[Path, Any]]:
        """The images of a prepared set's split, each with what is true of it.

        Raises:
            InputError: the set has no such split, or is not of this task.
        """

    def bind(self, config: Any, classes: Sequence[str]) -> None:
        """Put the classes' number wherever a config of this task counts them.

        Raises:
            InputError: classes that a model of this task cannot be trained on.
        """


def find(scope: str) -> Any:
    """The task of an OpenMMLab package ("mmpretrain").

    Raises:
        UsageError: no task here serves that package.
    """
    by_scope = {module.SCOPE: module for module in map(named, names())}
    if scope not in by_scope:
        raise UsageError(f"default_scope '{scope}' in the config: expected one of {', '.join(sorted(by_scope))}")
    return by_scope[scope]


def named(name: str) -> Any:
    """A task by its name ("classification")."""
    return importlib.import_module(f"{__name__}.{name}")


def name(task: Any) -> str:
    """A task's name."""
    return str(task.__name__.rsplit(".", 1)[-1])


def names() -> list[str]:
    """The tasks that are trained here."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def set_class_count(node: Any, count: int) -> None:
    """Set every `num_classes` in a part of a config."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "num_classes" and isinstance(value, int):
                node[key] = count
            else:
                set_class_count(value, count)
    elif isinstance(node, list | tuple):
        for value in node:
            set_class_count(value, count)
