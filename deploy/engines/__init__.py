"""Engines that a bundle's graph is built into. One file an engine; the file's name is the engine's.

An engine's module defines `build(request)`, which makes one precision's file in the bundle. Modules without `build`, such as
`capabilities`, and packages are what engines are made with.
"""

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from slipway_runtime.plan import Options, PlanInfo
from train.cli import nearest
from train.experiment import Experiment


@dataclass(frozen=True)
class Request:
    """What to build.

    Attributes:
        experiment: exported.
        options: precision, profiles and the rest of what the engine depends on.
        force: build it though a current one is there.
    """

    experiment: Experiment
    options: Options
    force: bool = False


@dataclass(frozen=True)
class Built:
    """An engine that is there.

    Attributes:
        path: its file.
        info: what the file beside it says.
        new: whether it was built now.
        agreement: how it compares with the float32 graph on ONNX Runtime, JSON-able; None for one that was there.
    """

    path: Path
    info: PlanInfo
    new: bool
    agreement: dict[str, Any] | None = None


def names() -> list[str]:
    """The engines that can be built."""
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    return sorted(name for name in modules if hasattr(import_module(f"{__name__}.{name}"), "build"))


def get(name: str) -> Any:
    """An engine's module.

    Raises:
        UsageError: an unknown name.
    """
    if name not in names():
        raise nearest(name, names(), "engine")
    return import_module(f"{__name__}.{name}")
