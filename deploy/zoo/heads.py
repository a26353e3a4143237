"""What a network's first head says, beside the task's own outputs: a selection may hide where a graph goes wrong."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from deploy.outputs import Output
from deploy.reference import Reference
from train.errors import VerificationError

#: The modules that heads are, the network's first one first. mmseg calls a method of its heads, not the module: what those
#: say is the output itself.
HEADS = ("head", "rpn_head", "bbox_head", "mask_head", "panoptic_head")
PREFIX = "head_"


def with_heads(reference: Reference, images: Tensor) -> Reference:
    """The same model, with the maps of its first head as further outputs `head_0`, `head_1`, …

    Args:
        reference: the model; itself it stays as it is.
        images: any that it takes; which maps there are is known once it ran.
    """
    found = copy.copy(reference)
    found.task = task = _WithHeads(reference.task)
    task.maps = {name: each.dim() for name, each in found(images).items() if name.startswith(PREFIX)}
    return found


class _WithHeads:
    """A task (`deploy.tasks.Task`) that gives the maps too."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.maps: dict[str, int] = {}
        self.CODEBASE = task.CODEBASE

    def outputs(self, postprocess: Any) -> dict[str, dict[int, str]]:
        """The task's own, and the maps: any axis of those may follow from the image's size."""
        maps = {name: {axis: f"{name}_{axis}" for axis in range(1, dims)} for name, dims in self.maps.items()}
        return {**self.task.outputs(postprocess), **maps}

    def trace(self, model: Any, images: Tensor, postprocess: Any) -> list[Tensor]:
        """The task's own outputs, and the maps."""
        with _listening(model, images) as maps:
            outputs = self.task.trace(model, images, postprocess)
        if len(maps) != len(self.maps):
            raise VerificationError(f"the rewritten model's head gives {len(maps)} maps, the model's {len(self.maps)}")
        return [*([outputs] if isinstance(outputs, Tensor) else outputs), *maps]

    def forward(self, model: Any, images: Tensor, postprocess: Any) -> dict[str, Tensor]:
        """The same by the unpatched model."""
        with _listening(model, images) as maps:
            outputs = self.task.forward(model, images, postprocess)
        return {**outputs, **_named(maps)}

    def predict(self, model: Any, images: Tensor, postprocess: Any) -> dict[str, Tensor]:
        """The same out of the model's own `predict`."""
        with _listening(model, images) as maps:
            outputs = self.task.predict(model, images, postprocess)
        return {**outputs, **_named(maps)}

    def compared(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """What the task compares as one, and each map by itself."""
        own = {name: value for name, value in outputs.items() if not name.startswith(PREFIX)}
        return {**self.task.compared(own), **{name: outputs[name] for name in outputs.keys() - own.keys()}}

    def comparison(self, name: str) -> Any:
        """How an output of `compared` is held against the model's."""
        return Output if name.startswith(PREFIX) else self.task.COMPARISON


def _named(maps: list[Tensor]) -> dict[str, Tensor]:
    return {f"{PREFIX}{number}": each for number, each in enumerate(maps)}


@contextmanager
def _listening(model: Any, images: Tensor) -> Iterator[list[Tensor]]:
    """What the first head returns when it is called first, in a list that fills meanwhile."""
    maps: list[Tensor] = []
    head = next((getattr(model, name) for name in HEADS if getattr(model, name, None) is not None), None)

    def listen(module: Any, inputs: Any, output: Any) -> None:
        if not maps:
            maps.extend(_by_image(output, images))

    hook = head.register_forward_hook(listen) if head is not None else None
    try:
        yield maps
    finally:
        if hook is not None:
            hook.remove()


def _by_image(output: Any, images: Tensor) -> Iterator[Tensor]:
    """The tensors in a head's output whose first axis is the batch; of transformers, what the last layer says."""
    if isinstance(output, list | tuple):
        for each in output:
            yield from _by_image(each, images)
    elif isinstance(output, Tensor) and output.is_floating_point() and output.dim() > 1:
        count = images.shape[0]
        if output.shape[0] != count and output.shape[1] == count:
            output = output[-1]
        if output.shape[0] == count and output.dim() > 1:
            yield output
