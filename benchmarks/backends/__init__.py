"""What a row of the table measures: one file a backend, found by `names()`.

Engines that run a bundle live here, the PyTorch baselines in `benchmarks.baselines`. A backend's module is light: it
imports its engine only in `open`, in the process of its own cell, so that one engine never weighs on another's numbers.
"""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Protocol

from benchmarks.exported import Exported
from benchmarks.matrix import Precision
from benchmarks.native import Program
from slipway_runtime.manifest import graph_name
from slipway_runtime.sessions import Session
from train.cli import nearest
from train.errors import BackendError, UsageError


class Backend(Protocol):
    """One way to run an experiment's model.

    One that is no installed package has one more method, `version() -> str | None`: what explains its numbers instead. One
    whose artifact is built has `describe(exported, precision) -> str`: how, in one line.

    Attributes:
        name: as in configurations and rows.
        precisions: of the arithmetic, that it can be asked for.
        distributions: the installed packages whose versions explain a number.
        baseline: whether it is a way to run the model in PyTorch, which the others are compared with.
    """

    name: str
    precisions: tuple[Precision, ...]
    distributions: tuple[str, ...]
    baseline: bool

    def artifact(self, exported: Exported, precision: Precision) -> tuple[Path, str]:
        """The file that is measured and its SHA-256.

        Raises:
            BackendError: the bundle has none of that precision.
        """

    def open(self, exported: Exported, precision: Precision, device: str, threads: int) -> Session | Program:
        """The model ready to run on `device` ("cpu", "cuda"), and on no other: here, or by a program of its own.

        Raises:
            BackendError, SessionError: this machine lacks the engine or the device, or the bundle the graph.
        """


@cache
def _registry() -> dict[str, Backend]:
    from benchmarks import baselines

    folders = {__name__: __path__, baselines.__name__: baselines.__path__}
    modules = [f"{package}.{file.name}" for package, path in folders.items() for file in iter_modules(path)]
    found: list[Backend] = [import_module(module).BACKEND for module in modules]
    return {backend.name: backend for backend in found}


def names() -> list[str]:
    """Every backend's name, sorted."""
    return sorted(_registry())


def get(name: str) -> Backend:
    """A backend by its name.

    Raises:
        UsageError: no such backend; the text suggests the nearest name.
    """
    if name not in _registry():
        raise nearest(name, names(), "backend")
    return _registry()[name]


def check(name: str, precision: Precision) -> Backend:
    """A backend by its name that has a precision.

    Raises:
        UsageError: no such backend, or it has no such precision; the text names what there is.
    """
    found = get(name)
    if precision not in found.precisions:
        others = [other for other in names() if precision in get(other).precisions]
        raise UsageError(
            f"backends: {name} has no {precision}, it has {', '.join(found.precisions)}; "
            f"{precision} is there with {', '.join(others)}"
        )
    return found


def graph(exported: Exported, precision: Precision) -> tuple[Path, str]:
    """The bundle's graph of a precision and its SHA-256.

    Raises:
        BackendError: the bundle has none.
    """
    name = graph_name(precision)
    if name not in exported.manifest.files:
        kind = exported.manifest.kind
        raise BackendError(
            f"no {name} in the bundle; make export-{kind} EXP={exported.experiment.name} PRECISION={precision}"
        )
    return exported.experiment.bundle / name, exported.manifest.files[name]


def versions(engines: Iterable[Backend]) -> dict[str, str]:
    """Name → version of those that are no installed package, where they are there."""
    found = {engine.name: engine.version() for engine in engines if hasattr(engine, "version")}
    return {name: version for name, version in found.items() if version}
