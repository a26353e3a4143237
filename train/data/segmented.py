"""Images and what their pixels are, from any source → the layout of `label_maps`: checked, split, linked, listed."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.data import SPLITS, Request, Written, label_maps
from train.data.image_files import (
    ImageFile,
    check_class_names,
    check_images,
    find_copies,
    leaks,
    place,
    safe,
    some,
    stratified_split,
    unique,
)
from train.data.label_maps import IGNORE, MAX_CLASSES, Class
from train.data.progress import track
from train.errors import InputError

UPRIGHT = (
    "training turns a photo as its EXIF orientation says: label the upright photo, or store it upright without the tag"
)
SKIP = "repair them, or leave them out with SKIP_BAD=1 (--skip-bad)"


class LabelMapError(InputError):
    """What is wrong with one label map, and how to mend it. Unreadable ones are left out where that was asked for."""

    def __init__(self, reason: str, mend: str, *, unreadable: bool = False) -> None:
        super().__init__(reason)
        self.mend = mend
        self.unreadable = unreadable


@dataclass(frozen=True)
class Segmented(ImageFile):
    """An image with its label map.

    Attributes:
        labels: how messages call the file that the label map comes from.
        draw: height and width of the decoded image → its label map, uint8 H×W; raises `LabelMapError`.
        temporary: whether the image file will be removed afterwards.
    """

    labels: str
    draw: Callable[[int, int], NDArray[np.uint8]]
    temporary: bool = False


@dataclass(frozen=True)
class Found:
    """What a source found.

    Attributes:
        classes: in the order of their labels.
        images: in the order of the lists to be written.
        splits: those that must hold an image.
        findings: as in `Written`.
    """

    classes: tuple[Class, ...]
    images: list[Segmented]
    splits: Sequence[str] = SPLITS
    findings: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Placed:
    """An image that was written, as `train/NAME`, and its height and width."""

    image: Segmented
    target: str
    size: tuple[int, int]


@dataclass(frozen=True)
class _Outcome:
    """Pixels of each label and SHA-256 of the written label map, or what is wrong with it."""

    pixels: NDArray[np.int64]
    digest: str = ""
    fault: LabelMapError | None = None


def write_label_maps(folder: Path, found: Found, request: Request) -> tuple[Written, list[Placed]]:
    """Check every image and its label map, split what is not split, write images, label maps and lists into `folder`.

    Args:
        folder: an empty folder.
        found: what to write.
        request: its seed and `skip_bad` count.

    Raises:
        InputError: unreadable images (unless skipped), label maps of another size or with labels outside the classes,
            a split without images, classes that cannot be, or only one class in all the pixels.
    """
    check_class_names([each.name for each in found.classes])
    if len(found.classes) > MAX_CLASSES:
        raise InputError(f"{len(found.classes)} classes; label maps hold at most {MAX_CLASSES} (255 is ignored)")
    if not found.images:
        raise InputError("no images found; expected jpg, jpeg, png, bmp or webp files")
    images, seen, bad = check_images(found.images, request.skip_bad)
    digests = {path: inspection.digest for path, inspection in seen.items()}
    if any(image.split is None for image in images):
        in_val = stratified_split([digests[image.path] for image in images], [0] * len(images), seed=request.seed)
        images = [replace(image, split=SPLITS[val]) for image, val in zip(images, in_val, strict=True)]
    _check_splits(images, found.splits)

    placed = [Placed(i, t, seen[i.path].size) for i, t in zip(images, _targets(images), strict=True)]
    outcomes = _write(folder, placed, found.classes)
    faults = [(p.image.labels, o.fault) for p, o in zip(placed, outcomes, strict=True) if o.fault]
    bad += _check_faults(faults, len(placed), request.skip_bad)
    pairs = [(p, o) for p, o in zip(placed, outcomes, strict=True) if not o.fault]
    placed = [p for p, _ in pairs]
    _check_splits([p.image for p in placed], found.splits)
    labels = {
        split: sum((o.pixels for p, o in pairs if p.image.split == split), np.zeros(256, int)) for split in SPLITS
    }
    _check_pixels(labels, found.classes)

    names = {split: [p.target.split("/")[1] for p in placed if p.image.split == split] for split in SPLITS}
    label_maps.write_lists(folder, found.classes, names)
    findings = {
        "unreadable": bad,
        "leaks": leaks(find_copies([p.image for p in placed], digests)),
        "turned": [p.image.name for p in placed if is_turned(p.image.path)],
        "absent": [c.name for i, c in enumerate(found.classes) if names["train"] and not labels["train"][i]],
        **found.findings,
    }
    return Written(
        classes=tuple(each.name for each in found.classes),
        images={split: len(listed) for split, listed in names.items()},
        labels={s: {c.name: int(n) for c, n in zip(found.classes, labels[s], strict=False) if n} for s in SPLITS},
        findings={kind: lines for kind, lines in findings.items() if lines},
        checksums={
            **{p.target: digests[p.image.path] for p in placed},
            **{map_of(p.target): o.digest for p, o in pairs},
        },
    ), placed


def map_of(target: str) -> str:
    """Where the label map of `train/NAME` lies."""
    return str(Path(label_maps.FOLDER, target).with_suffix(".png"))


def is_turned(path: Path) -> bool:
    """Whether an image has an EXIF orientation other than upright."""
    from PIL import ExifTags, Image

    try:
        with Image.open(path) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except (OSError, SyntaxError, ValueError):  # no readable EXIF data: no decoder turns the image
        return False


def _targets(images: Iterable[Segmented]) -> list[str]:
    """Where each image goes: "split/NAME", unique up to the suffix."""
    taken: set[str] = set()
    names = [(image.split, Path(safe(image.path.name))) for image in images]
    return [f"{unique(f'{split}/{name.stem}', taken)}{name.suffix}" for split, name in names]


def _write(folder: Path, placed: Sequence[Placed], classes: Sequence[Class]) -> list[_Outcome]:
    for split in {str(p.image.split) for p in placed}:
        (folder / label_maps.FOLDER / split).mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(track(pool.map(partial(_write_one, folder, classes), placed), len(placed), "writing label maps"))


def _write_one(folder: Path, classes: Sequence[Class], placed: Placed) -> _Outcome:
    try:
        labels = placed.image.draw(*placed.size)
        pixels = np.bincount(labels.ravel(), minlength=256)
        _check_size(labels, placed)
        _check_range(pixels, len(classes))
    except LabelMapError as fault:
        return _Outcome(np.zeros(256, int), fault=fault)
    content = label_maps.save(folder / map_of(placed.target), labels, classes)
    place(placed.image.path, folder / placed.target, placed.image.temporary)
    return _Outcome(pixels, hashlib.sha256(content).hexdigest())


def _check_size(labels: NDArray[np.uint8], placed: Placed) -> None:
    if labels.shape == placed.size:
        return
    (height, width), (rows, columns) = placed.size, labels.shape
    turned = is_turned(placed.image.path) and (rows, columns) == (width, height)
    raise LabelMapError(
        f"{columns}×{rows} pixels, its image {width}×{height}",
        UPRIGHT if turned else "a label map must have its image's size: export it again, never resize it smoothly",
    )


def _check_range(pixels: NDArray[np.int64], classes: int) -> None:
    outside = [f"{label} in {pixels[label]} pixels" for label in range(classes, IGNORE) if pixels[label]]
    if outside:
        raise LabelMapError(
            f"label {some(outside)}",
            f"labels are 0..{classes - 1} for {classes} classes, 255 = ignore: mend the label maps or name every class",
        )


def _check_faults(faults: Sequence[tuple[str, LabelMapError]], total: int, skip_bad: bool) -> list[str]:
    """The unreadable label maps that are left out.

    Raises:
        InputError: any other fault.
    """
    lines = [f"{name} ({fault})" for name, fault in faults]
    if skip_bad and len(faults) < total and all(fault.unreadable for _, fault in faults):
        return lines
    if faults:
        mends = dict.fromkeys(fault.mend for _, fault in faults)
        raise InputError(f"{len(faults)} of {total} label maps are wrong: {some(lines)}; {'; '.join(mends)}")
    return []


def _check_splits(images: Sequence[Segmented], splits: Sequence[str]) -> None:
    empty = [split for split in splits if not any(image.split == split for image in images)]
    if empty:
        raise InputError(f"no image in {' and '.join(empty)}; every split needs one: add labelled images")


def _check_pixels(labels: dict[str, NDArray[np.int64]], classes: Sequence[Class]) -> None:
    total = np.sum(list(labels.values()), axis=0)
    shown = [each.name for each, pixels in zip(classes, total, strict=False) if pixels]
    if len(shown) < 2:
        found = f"only '{shown[0]}'" if shown else "none"
        raise InputError(
            f"the label maps hold {found} of {len(classes)} classes beside 255 (ignore); expected two at least. "
            "Where 255 is the foreground, give the colours: classes.txt with lines 'background 0 0 0', 'NAME 255 255 255'"
        )
