"""Preprocessing: the manifest's steps, bit for bit as mmcv, mmpretrain and mmengine do them.

Arrays stay height × width × channels between steps; the result is laid out as channels × height × width. One function a
step, found in `STEPS` by its `op`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime import manifest as m
from slipway_runtime.errors import ImageError
from slipway_runtime.image import Image, check_size, decode, describe

_INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image as the graph takes it, with the sizes that lead back to the image.

    Attributes:
        array: float32 C×H×W, contiguous.
        original: height and width of the decoded image.
        content: height and width of what `array` holds of the image, at its upper left; the rest is padding by the
            data preprocessor. A `pad` before `normalize` belongs to the content, as in OpenMMLab's `img_shape`.
        scale_factor: by how much resizing made the image wider and higher; width first, as in OpenMMLab.
    """

    array: NDArray[np.float32]
    original: tuple[int, int]
    content: tuple[int, int]
    scale_factor: tuple[float, float]


def preprocess(image: Image, steps: Sequence[m.Step]) -> Prepared:
    """Apply the steps, of which the first is `decode`, to one image.

    Raises:
        ImageError: an image that cannot be decoded, or one so narrow or large that a step leaves no or too many pixels.
    """
    array: NDArray = decode(image)
    sizes = [array.shape[:2]]
    try:
        for step in steps[1:]:
            array = STEPS[step.op](array, step)
            sizes.append(array.shape[:2])
    except ImageError as error:
        raise ImageError(f"{describe(image)}: {error}")
    ops = [step.op for step in steps]
    content = sizes[ops.index("normalize")] if "normalize" in ops else sizes[-1]
    planes = np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32)
    return Prepared(planes, sizes[0], content, _scale_factor(ops, sizes))


def _scale_factor(ops: Sequence[str], sizes: Sequence[tuple[int, ...]]) -> tuple[float, float]:
    """Of width and height, from the size after each step."""
    across = down = 1.0
    for op, before, after in zip(ops[1:], sizes, sizes[1:], strict=False):
        if op in ("resize", "resize_edge"):
            across, down = across * (after[1] / before[1]), down * (after[0] / before[0])
    return across, down


def _resize(image: NDArray, step: m.Resize) -> NDArray:
    """See `mmcv.transforms.Resize`; the rounding with `keep_ratio` is `mmcv.image.rescale_size`'s."""
    size = (step.width, step.height)
    if step.keep_ratio:
        height, width = image.shape[:2]
        scale = min(max(size) / max(height, width), min(size) / min(height, width))
        size = (int(width * scale + 0.5), int(height * scale + 0.5))
    return _resize_to(image, size, step)


def _resize_edge(image: NDArray, step: m.ResizeEdge) -> NDArray:
    """See `mmpretrain.datasets.ResizeEdge`: the other edge is rounded down; a square image counts as wide."""
    height, width = image.shape[:2]
    by_width = {"short": width < height, "long": width > height, "width": True, "height": False}[step.edge]
    scaled = int(step.size * height / width) if by_width else int(step.size * width / height)
    size = (step.size, scaled) if by_width else (scaled, step.size)
    return _resize_to(image, size, step)


def _resize_to(image: NDArray, size: tuple[int, int], step: m.Resize | m.ResizeEdge) -> NDArray:
    check_size(size, step.op)
    with plain_opencv():
        return cv2.resize(image, size, interpolation=_INTERPOLATIONS[step.interpolation])


@contextlib.contextmanager
def plain_opencv() -> Iterator[None]:
    """OpenCV's own arithmetic, in this thread: Intel's IPP, part of its x86 wheels, rounds 4 % of bicubic values otherwise.

    So that an image is prepared alike on every processor and by the native runtime, whose OpenCV has no IPP.
    """
    used = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(used)


def _center_crop(image: NDArray, step: m.CenterCrop) -> NDArray:
    """See `mmcv.transforms.CenterCrop`: halves are rounded to even, as Python's `round` does. A view, no copy."""
    height, width = image.shape[:2]
    top = max(0, round((height - step.height) / 2))
    left = max(0, round((width - step.width) / 2))
    return image[top : top + step.height, left : left + step.width]


def _pad(image: NDArray, step: m.Pad) -> NDArray:
    """See `mmcv.transforms.Pad` and, after `normalize`, `mmengine.model.stack_batch`."""
    height, width = image.shape[:2]
    if step.square:
        bottom, right = max(height, width) - height, max(height, width) - width
    elif step.divisor:
        bottom, right = -height % step.divisor, -width % step.divisor
    else:
        bottom, right = max(0, (step.height or 0) - height), max(0, (step.width or 0) - width)
    check_size((width + right, height + bottom), step.op)
    value = step.value * 3 if len(step.value) == 1 else step.value
    return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=value)


def _normalize(image: NDArray, step: m.Normalize) -> NDArray:
    """See `mmpretrain.models.ClsDataPreprocessor` and `mmengine.model.ImgDataPreprocessor`."""
    if step.reverse_channels:
        image = image[..., ::-1]
    # Planes first, as uint8: numpy is slow along a last axis of 3, and the final transposition is then free.
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    planes -= np.array(step.mean, np.float32).reshape(-1, 1, 1)
    planes /= np.array(step.std, np.float32).reshape(-1, 1, 1)
    return planes.transpose(1, 2, 0)


STEPS: dict[str, Callable[[NDArray, Any], NDArray]] = {
    "resize": _resize,
    "resize_edge": _resize_edge,
    "center_crop": _center_crop,
    "pad": _pad,
    "normalize": _normalize,
}
