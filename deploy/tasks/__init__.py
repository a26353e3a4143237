"""What each task brings to the export. A new task is one new file here, named as in `train.tasks`."""

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mmengine.config import Config

from slipway_runtime import Result
from slipway_runtime.manifest import Postprocess
from train import tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Task(Protocol):
    """A task's module: these names, at module level; and `native`, where `policy` does anything: a data sample's own
    predictions as the task's metric takes them.

    Attributes:
        CODEBASE: MMDeploy's name of the package and the task, its `codebase_config`.
        SDK: whether MMDeploy's SDK predicts what the model does, so that a bundle holds the SDK's files.
        COMPARISON: how outputs are held against the model's (`deploy.outputs.Output`).
    """

    CODEBASE: dict[str, Any]
    SDK: bool
    COMPARISON: type

    def check(self, config: Config) -> None:
        """Raise UsageError for a model whose outputs this task could not represent exactly."""

    def one_size(self, config: Config) -> None:
        """Change a config so that its test pipeline gives images of one size, where only padding is missing for that."""

    def postprocess(self, config: Config, deploy_config: Config, classes: Sequence[str]) -> Postprocess:
        """What the runtimes do with the outputs."""

    def outputs(self, postprocess: Postprocess) -> Mapping[str, Mapping[int, str]]:
        """Output name → names of its axes, by index, that vary with the image's size."""

    def trace(self, model: Any, images: "Tensor", postprocess: Postprocess) -> Any:
        """What MMDeploy traces, its rewrites being in place."""

    def forward(self, model: Any, images: "Tensor", postprocess: Postprocess) -> "dict[str, Tensor]":
        """The function the graph computes, by the unpatched model: N×3×H×W → outputs by name."""

    def predict(self, model: Any, images: "Tensor", postprocess: Postprocess) -> "dict[str, Tensor]":
        """The same outputs out of the model's own `predict`, however slow: the last word on what is right."""

    def compared(self, outputs: "Mapping[str, NDArray]") -> Mapping[str, Any]:
        """What is compared as one, by name: each output, or several that mean something together only."""

    def policy(self, sample: Any) -> None:
        """Let a data sample know of its image what the graph knows, before the model predicts."""

    def sample(self, image: Any, postprocess: Postprocess) -> Any:
        """What goes through the graph of an image, a 3×H×W tensor or array, at one time."""

    def agreement(self, result: Result, sample: Any) -> tuple[int, int]:
        """How much of a runtime's result is as in the model's own data sample: (what agrees, of how much)."""


def find(config: Config) -> Any:
    """The task module of a config, by its `default_scope`.

    Raises:
        UsageError: no task here serves that package, or a model that could not be exported exactly.
    """
    task = importlib.import_module(f"{__name__}.{tasks.name(tasks.find(config.default_scope))}")
    task.check(config)
    return task
