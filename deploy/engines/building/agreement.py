"""An engine's outputs against the float32 graph's on ONNX Runtime, on a few validation images.

An fp32 engine is held to the bound of an export (`deploy.outputs`, detections matched as in `deploy.matching`), where that
fails with PyTorch in float64 as the judge of rounding. Of other precisions the differences are told; what they cost is the
benchmark's accuracy gate to say.
"""

import importlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime import Model
from slipway_runtime.manifest import Manifest
from slipway_runtime.plan import Options, Profile
from slipway_runtime.sessions import Session, open_session
from train.errors import VerificationError
from train.experiment import Experiment

IMAGES = 4


class Judge:
    """The unpatched model in float64, loaded when it is first asked."""

    def __init__(self, experiment: Experiment, described: Manifest) -> None:
        self._experiment, self._described = experiment, described

    @cached_property
    def _reference(self) -> Any:
        from deploy import reference

        return reference.load(self._experiment.config, self._experiment.checkpoint, self._described.postprocess)

    def rounding(self, name: str, images: NDArray, wanted: dict[str, NDArray], image: int) -> float:
        """How far the float32 graph is from float64 on an image of the batch."""
        import torch

        task, one = self._reference.task, slice(image, image + 1)
        outputs = self._reference.exact(torch.from_numpy(images[one]))
        exact = task.compared({key: value.numpy() for key, value in outputs.items()})
        own = task.compared({key: value[one] for key, value in wanted.items()})
        return float(task.COMPARISON.distance(own[name], exact[name]))


def compare(
    engine: Session, experiment: Experiment, described: Manifest, options: Options, images: Sequence[Path]
) -> dict[str, Any]:
    """Run both and compare.

    Returns:
        JSON-able: how many images were compared, and each output's figures.

    Raises:
        VerificationError: an fp32 engine without TF32 whose numbers do not agree, or outputs of another shape.
    """
    task: Any = importlib.import_module(f"deploy.tasks.{described.task}")
    model = Model(described, engine)
    graph = open_session(experiment.bundle)
    exact = options.precision == "fp32" and not options.tf32
    judge = Judge(experiment, described)
    outputs: dict[str, Any] = {}
    for path in images:
        array = _fitted(model.inputs(model.preprocess(path))[0], options.profiles[0])
        feeds = model.feeds([array] * options.profiles[0].minimum[0])
        (batch,) = feeds.values()
        found, wanted = engine.run(feeds), graph.run(feeds)
        ours, theirs = task.compared(found), task.compared(wanted)
        for name in sorted(theirs):
            output = outputs.setdefault(name, task.COMPARISON())
            output.update(ours[name], theirs[name], partial(judge.rounding, name, batch, wanted) if exact else None)
    bad = {
        name: output
        for name, output in outputs.items()
        # Where neither finds anything, nothing disagrees; the figures say that nothing was compared.
        if output.fault or (exact and not output.passed and getattr(output, "detections", 1))
    }
    if bad:
        reasons = "; ".join(f"output '{name}': {output.fault or output.reason()}" for name, output in bad.items())
        raise VerificationError(f"the engine does not compute what the graph does: {reasons}; no engine was kept")
    return {"images": len(images), "outputs": {name: output.to_dict() for name, output in outputs.items()}}


def _fitted(array: NDArray[np.float32], profile: Profile) -> NDArray[np.float32]:
    """An image, C×H×W, in a size that the profile takes: its own, or the profile's best."""
    batch = profile.minimum[0]
    if profile.takes((batch, *array.shape)):
        return array
    height, width = profile.optimum[2:]
    return np.ascontiguousarray(cv2.resize(array.transpose(1, 2, 0), (width, height)).transpose(2, 0, 1))
