"""The shapes that an engine takes: what was asked for, or else what the bundle's test pipeline gives."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from deploy.engines.building.images import spread
from slipway_runtime import tasks
from slipway_runtime.image import Image
from slipway_runtime.manifest import Manifest, Pad
from slipway_runtime.plan import Profile
from slipway_runtime.preprocess import preprocess
from train.errors import UsageError

#: Images a call where nothing was asked for and the graph takes any number.
BATCH = (1, 1, 8)
#: Height and width, in pixels.
Size = tuple[int, int]
Range = tuple[int, int, int]
#: Images of these sides, and of six times them, show which sizes a test pipeline gives; the first is an ordinary photo.
_SIDES = ((60, 80), (80, 60), (60, 60), (60, 90), (90, 60), (54, 96), (96, 54), (50, 100), (100, 50))
_TIMES = 6
#: How many validation images are asked for their size.
_IMAGES = 64
_LARGEST = 1 << 16


def choose(
    described: Manifest, batch: str | None, sizes: Sequence[str], images: Callable[[], Sequence[Path]]
) -> tuple[Profile, ...]:
    """The profiles of a graph: one for each size asked for.

    Args:
        described: the bundle's manifest.
        batch: "N" or "MIN:OPT:MAX"; None: the graph's own, or else 1:1:8.
        sizes: "HxW" or "MINHxW:OPTHxW:MAXHxW"; none: what the test pipeline gives.
        images: gives validation images, none where the data set is gone; called only where the pipeline gives several sizes.

    Raises:
        UsageError: no such numbers, minimum > optimum > maximum, an axis that the graph has fixed, a size that the pipeline's
            padding could not give, or a size that nothing tells.
    """
    shape = described.inputs[0].shape
    numbers = _batch(batch, shape[0])
    channels = shape[1] if isinstance(shape[1], int) else 3
    pairs = [_size(text, shape[2:], _divisor(described)) for text in dict.fromkeys(sizes)]
    if not pairs:
        pairs = [_given(described, images)]
    return tuple(
        Profile(minimum=low, optimum=best, maximum=high)
        for low, best, high in (
            tuple((number, channels, *size) for number, size in zip(numbers, pair, strict=True)) for pair in pairs
        )
    )


def _batch(text: str | None, axis: int | str) -> Range:
    if text is None:
        return (axis, axis, axis) if isinstance(axis, int) else BATCH
    if not re.fullmatch(r"\d+(:\d+:\d+)?", text):
        raise UsageError(f"--batch {text}: expected N or MIN:OPT:MAX, such as 8 or 1:8:32")
    numbers = _three([int(part) for part in text.split(":")])
    _check(f"--batch {text}", numbers, axis, "batch")
    return numbers


def _size(text: str, axes: Sequence[int | str], divisor: int) -> tuple[Size, Size, Size]:
    if not re.fullmatch(r"\d+x\d+(:\d+x\d+:\d+x\d+)?", text):
        raise UsageError(f"--size {text}: expected HxW or MINHxW:OPTHxW:MAXHxW, such as 512x1024")
    height, width = (_three([int(part.split("x")[axis]) for part in text.split(":")]) for axis in (0, 1))
    for numbers, axis, name in ((height, axes[0], "height"), (width, axes[1], "width")):
        _check(f"--size {text}", numbers, axis, name)
        odd = [number for number in numbers if number % divisor]
        if odd:
            raise UsageError(
                f"--size {text}: {name} {odd[0]} is no multiple of {divisor}, which this model's images are padded to"
            )
    low, best, high = zip(height, width, strict=True)
    return low, best, high


def _three(numbers: list[int]) -> Range:
    low, best, high = numbers if len(numbers) == 3 else numbers * 3
    return low, best, high


def _check(what: str, numbers: Range, axis: int | str, name: str) -> None:
    if min(numbers) < 1 or max(numbers) > _LARGEST:
        raise UsageError(f"{what}: {name}: expected numbers from 1 to {_LARGEST}")
    if list(numbers) != sorted(numbers):
        raise UsageError(f"{what}: {name}: minimum ≤ optimum ≤ maximum is expected")
    if isinstance(axis, int) and set(numbers) != {axis}:
        raise UsageError(f"{what}: {name} is fixed at {axis} in this graph; leave it out or export with SHAPE=dynamic")


def _divisor(described: Manifest) -> int:
    """What the test pipeline says that sizes can be divided by."""
    return max((step.divisor or 1 for step in described.preprocess if isinstance(step, Pad)), default=1)


def _given(described: Manifest, images: Callable[[], Sequence[Path]]) -> tuple[Size, Size, Size]:
    """From the graph, else from what the test pipeline makes of images of several shapes, else from real images."""
    _, _, height, width = described.inputs[0].shape
    if isinstance(height, int) and isinstance(width, int):
        return ((height, width),) * 3
    small = list(_of(described, (np.zeros((*side, 3), np.uint8) for side in _SIDES)))
    large = list(_of(described, (np.zeros((h * _TIMES, w * _TIMES, 3), np.uint8) for h, w in _SIDES)))
    if small == large and len(set(small)) == 1:
        return (small[0],) * 3
    paths = images()
    seen = list(_of(described, spread(list(paths), _IMAGES)))
    if small != large and not seen:
        raise UsageError(
            f"{described.name}: images keep their size in its test pipeline, and its data set is gone: say which with --size HxW"
        )
    every = [*seen, *(small if small == large else ())]
    best = Counter(seen).most_common(1)[0][0] if seen else small[0]
    low, high = (tuple(extreme(size[axis] for size in every) for axis in (0, 1)) for extreme in (min, max))
    return (low[0], low[1]), best, (high[0], high[1])


def _of(described: Manifest, images: Iterator[Image] | Sequence[Path]) -> Iterator[Size]:
    """The size that the graph sees of each image, or of its windows."""
    for image in images:
        height, width = tasks.inputs(described, preprocess(image, described.preprocess))[0].shape[1:]
        yield height, width


def shapes(profile: Profile) -> str:
    """A profile for a person: "1×3×64×64" or "1×3×64×64 to 8×3×96×96, best 1×3×80×80"."""
    low, best, high = ("×".join(map(str, each)) for each in (profile.minimum, profile.optimum, profile.maximum))
    return low if low == high else f"{low} to {high}, best {best}"
