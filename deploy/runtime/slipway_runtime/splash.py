"""Colour splash: a photograph in grey, but for the things that a model found in it."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import UsageError
from slipway_runtime.manifest import DetectionOutput, Manifest


def splash(image: NDArray[np.uint8], area: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A copy of an image, uint8 H×W×3 BGR, in grey outside the area, bool H×W; see `Result.area` for that of a prediction.

    Grey is the luma of ITU-R BT.601, as OpenCV computes it.
    """
    grey: NDArray[np.uint8] = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)  # type: ignore[assignment]
    np.copyto(grey, image, where=area[..., None])
    return grey


def labels(manifest: Manifest, names: Sequence[str] | None) -> list[int] | None:
    """The labels of the classes to keep in colour; None: all of them, which a segmenter has no use for.

    Raises:
        UsageError: a model that does not say which pixels a thing has, a class it does not know, or a segmenter and no names.
    """
    output = manifest.postprocess
    if manifest.task == "classification" or (isinstance(output, DetectionOutput) and output.masks is None):
        found = "boxes only" if manifest.task == "detection" else "no places"
        raise UsageError(f"a colour splash needs a model that gives masks; {manifest.name} gives {found}")
    known = ", ".join(manifest.classes)
    if names is None:
        if manifest.task == "segmentation":
            raise UsageError(f"every pixel has a class; name those that stay in colour with --class, of {known}")
        return None
    for name in names:
        if name not in manifest.classes:
            raise UsageError(f"--class {name}: no class of {manifest.name}, which knows {known}")
    return [manifest.classes.index(name) for name in names]
