"""What each task brings to the export. A new task is one new file here, found by the OpenMMLab package it serves."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mmengine.config import Config

from slipway_runtime.manifest import Postprocess
from train.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class Task(Protocol):
    """A task's module: these names, at module level.

    Attributes:
        SCOPE: the OpenMMLab package whose models it exports ("mmpretrain").
        CODEBASE: MMDeploy's name of the package and the task, its `codebase_config`.
        OUTPUTS: output name → names of its dynamic axes by index, besides the batch at 0.
    """

    SCOPE: str
    CODEBASE: dict[str, str]
    OUTPUTS: Mapping[str, Mapping[int, str]]

    def check(self, config: Config) -> None:
        """Raise UsageError for a model whose outputs this task could not represent exactly."""

    def forward(self, model: Any, images: "Tensor") -> "dict[str, Tensor]":
        """The function the graph computes, by the unpatched model: N×3×H×W → outputs by name."""

    def predict(self, model: Any, images: "Tensor") -> "dict[str, Tensor]":
        """The same outputs out of the model's own `predict`, however slow: the last word on what is right."""

    def postprocess(self, config: Config, classes: Sequence[str]) -> Postprocess:
        """What the runtimes do with the outputs."""


def find(config: Config) -> Any:
    """The task module of a config, by its `default_scope`.

    Raises:
        UsageError: no task here serves that package.
    """
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    by_scope = {module.SCOPE: module for module in modules}
    if config.default_scope not in by_scope:
        raise UsageError(f"no export for default_scope '{config.default_scope}'; known: {', '.join(sorted(by_scope))}")
    task = by_scope[config.default_scope]
    task.check(config)
    return task
