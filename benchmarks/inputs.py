"""What is timed: images of the validation set, encoded as they come, and as batches of one shape for the graph."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime import tasks
from slipway_runtime.image import decode
from slipway_runtime.manifest import Manifest
from slipway_runtime.preprocess import preprocess
from train.errors import InputError

#: Height and width in pixels.
Size = tuple[int, int]
T = TypeVar("T")
#: Offline: batches that are there at once, and images at least, so that preparing one can overlap another's graph.
OFFLINE_BATCHES, OFFLINE_IMAGES = 4, 16


@dataclass(frozen=True)
class Inputs:
    """Batches that take turns; different ones as far as the validation set has them.

    Attributes:
        encoded: content of image files, of whatever sizes.
        tensors: float32 C×H×W arrays, those of a batch of one shape: what goes through the graph for each image, or the
            first of its windows. Empty where there are not as many images of one shape as a batch has.
        encoded_paths, tensor_paths: the image files of both.
        image_sizes, tensor_sizes: the different sizes among them, smallest first.
    """

    encoded: list[list[bytes]]
    tensors: list[list[NDArray]]
    encoded_paths: list[list[Path]]
    tensor_paths: list[list[Path]]
    image_sizes: list[Size]
    tensor_sizes: list[Size]


def choose(
    manifest: Manifest, paths: Sequence[Path], count: int, batch: int, seed: int, shape: Size | None = None
) -> Inputs:
    """Choose `count` batches of `batch` images at random; equal for equal paths, count, batch and seed.

    With a shape, height and width, what goes through the graph is resized to it: to time a size, not to be right.

    Raises:
        InputError: no images.
        ImageError: one that cannot be read.
    """
    if not paths:
        raise InputError("the validation set is empty; there is nothing to measure on")
    order = random.Random(seed).sample(paths, len(paths))
    drawn = list(islice(cycle(order), count * batch))
    batches = [drawn[start : start + batch] for start in range(0, len(drawn), batch)]
    encoded = [[path.read_bytes() for path in group] for group in batches]
    groups = list(islice(cycle(islice(_of_one_shape(manifest, order, batch, shape), count)), count))
    tensors = [[_tensor(manifest, path, shape) for path in group] for group in groups]
    return Inputs(
        encoded,
        tensors,
        batches,
        groups,
        image_sizes=_different(decode(image).shape[:2] for group in encoded for image in group),
        tensor_sizes=_different(array.shape[1:] for group in tensors for array in group),
    )


def queue(images: Sequence[T], batch: int) -> list[T]:
    """The images of one offline pass: whole batches, enough of them, the given ones in turn."""
    count = max(OFFLINE_BATCHES * batch, OFFLINE_IMAGES // batch * batch)
    return list(islice(cycle(images), count))


def _of_one_shape(manifest: Manifest, paths: Sequence[Path], batch: int, size: Size | None) -> Iterator[list[Path]]:
    """Every `batch` images that the graph sees in one shape, in the order in which they are complete."""
    waiting: dict[tuple[int, ...], list[Path]] = defaultdict(list)
    for path in paths:
        shape = _tensor(manifest, path, size).shape
        waiting[shape].append(path)
        if len(waiting[shape]) == batch:
            yield waiting.pop(shape)


def _tensor(manifest: Manifest, path: Path, size: Size | None) -> NDArray:
    array = tasks.inputs(manifest, preprocess(path, manifest.preprocess))[0]
    if size is None:
        return array
    resized = cv2.resize(array.transpose(1, 2, 0), size[::-1])
    return np.ascontiguousarray(resized.transpose(2, 0, 1))


def _different(sizes: Iterable[tuple[int, ...]]) -> list[Size]:
    return sorted({(height, width) for height, width in sizes}, key=lambda size: (size[0] * size[1], size))
