"""What is timed: images of the validation set, encoded as they come, and as batches of one shape for the graph."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from numpy.typing import NDArray

from slipway_runtime import Model
from train.errors import InputError

#: Height and width in pixels.
Size = tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """Batches that take turns; different ones as far as the validation set has them.

    Attributes:
        encoded: content of image files, of whatever sizes.
        tensors: float32 C×H×W arrays, those of a batch of one shape: what goes through the graph for each image, or the
            first of its windows. Empty where there are not as many images of one shape as a batch has.
        image_sizes, tensor_sizes: the different sizes among them, smallest first.
    """

    encoded: list[list[bytes]]
    tensors: list[list[NDArray]]
    image_sizes: list[Size]
    tensor_sizes: list[Size]


def choose(model: Model, paths: Sequence[Path], count: int, batch: int, seed: int) -> Inputs:
    """Choose `count` batches of `batch` images at random; equal for equal paths, count, batch and seed.

    Raises:
        InputError: no images.
        ImageError: one that cannot be read.
    """
    if not paths:
        raise InputError("the validation set is empty; there is nothing to measure on")
    order = random.Random(seed).sample(paths, len(paths))
    content = [path.read_bytes() for path in islice(cycle(order), count * batch)]
    encoded = [content[start : start + batch] for start in range(0, len(content), batch)]
    groups = list(islice(cycle(islice(_of_one_shape(model, order, batch), count)), count))
    tensors = [[_tensor(model, path) for path in group] for group in groups]
    return Inputs(
        encoded,
        tensors,
        image_sizes=_different(model.decode(image).shape[:2] for image in content),
        tensor_sizes=_different(array.shape[1:] for group in tensors for array in group),
    )


def _of_one_shape(model: Model, paths: Sequence[Path], batch: int) -> Iterator[list[Path]]:
    """Every `batch` images that the graph sees in one shape, in the order in which they are complete."""
    waiting: dict[tuple[int, ...], list[Path]] = defaultdict(list)
    for path in paths:
        shape = _tensor(model, path).shape
        waiting[shape].append(path)
        if len(waiting[shape]) == batch:
            yield waiting.pop(shape)


def _tensor(model: Model, path: Path) -> NDArray:
    return model.inputs(model.preprocess(path))[0]


def _different(sizes: Iterable[tuple[int, ...]]) -> list[Size]:
    return sorted({(height, width) for height, width in sizes}, key=lambda size: (size[0] * size[1], size))
