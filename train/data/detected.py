"""Images and the objects in them, from any source → COCO instances (see `instances`): checked, split, linked, listed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from train.data import SPLITS, Request, Written
from train.data.image_files import (
    ImageFile,
    Inspection,
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
from train.data.instances import write_coco
from train.data.segmented import UPRIGHT, is_turned
from train.errors import InputError

#: What may look wrong with an image's objects.
KINDS = ("outside", "flat")


@dataclass(frozen=True)
class Objects:
    """What is in an image, and what looks wrong with it.

    Attributes:
        annotations: as COCO has them; writing sets their `image_id`.
        findings: kind (of `KINDS`) → what is meant, as "annotation 7".
    """

    annotations: list[dict[str, Any]]
    findings: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Detected(ImageFile):
    """An image with its objects.

    Attributes:
        labels: how messages call the file that the objects come from.
        objects: height and width of the decoded image → what is in it.
        size: height and width that the labels were made for, where they say so.
        number: COCO's id of the image; None: its place in the split, from 1.
    """

    labels: str
    objects: Callable[[int, int], Objects]
    size: tuple[int, int] | None = None
    number: int | None = None


@dataclass(frozen=True)
class Found:
    """What a source found.

    Attributes:
        what: the set's name, for COCO's `info`.
        categories: COCO's, in the order of their labels.
        images: in the order of the files to be written.
        splits: those that must hold an image with an object.
        findings: as in `Written`.
    """

    what: str
    categories: list[dict[str, Any]]
    images: list[Detected]
    splits: Sequence[str] = SPLITS
    findings: dict[str, list[str]] = field(default_factory=dict)


def number_categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's categories of these names, from 1."""
    return [{"id": i, "name": name} for i, name in enumerate(names, start=1)]


def write_detected(folder: Path, found: Found, request: Request) -> Written:
    """Check every image, split what is not split, write images and annotation files into `folder`.

    Args:
        folder: an empty folder.
        found: what to write.
        request: its seed and `skip_bad` count.

    Raises:
        InputError: unreadable images (unless skipped), images of another size than their labels say, a split without
            images or without objects, classes that cannot be.
    """
    names = [str(each["name"]) for each in found.categories]
    check_class_names(names)
    if not found.images:
        raise InputError("no images found; expected jpg, jpeg, png, bmp or webp files")
    images, seen, bad = check_images(found.images, request.skip_bad)
    digests = {path: inspection.digest for path, inspection in seen.items()}
    if any(image.split is None for image in images):
        in_val = stratified_split([digests[image.path] for image in images], [0] * len(images), seed=request.seed)
        images = [replace(image, split=SPLITS[val]) for image, val in zip(images, in_val, strict=True)]
    _check_sizes([(image, seen[image.path].size) for image in images])

    sides = {
        split: _write_split(folder, split, found, [i for i in images if i.split == split], seen) for split in SPLITS
    }
    counts = {split: {name: n for name in names if (n := side.objects[name])} for split, side in sides.items()}
    _check_splits(images, counts, found.splits)
    findings = {
        "unreadable": bad,
        "leaks": leaks(find_copies(images, digests)),
        "unseen": [name for name in names if counts["train"] and name not in counts["train"]],
        **{kind: [line for side in sides.values() for line in side.findings.get(kind, ())] for kind in KINDS},
        **found.findings,
    }
    return Written(
        classes=tuple(names),
        images={split: sum(image.split == split for image in images) for split in SPLITS},
        labels=counts,
        findings={kind: lines for kind, lines in findings.items() if lines},
        checksums={target: digest for side in sides.values() for target, digest in side.checksums.items()},
    )


@dataclass(frozen=True)
class _Side:
    """What was written of a split: class → number of objects, and as in `Written`."""

    objects: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[str]] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)


def _write_split(
    folder: Path, split: str, found: Found, images: Sequence[Detected], seen: dict[Path, Inspection]
) -> _Side:
    """Link a split's images into place and write its annotation file, if it has images."""
    side = _Side()
    names = {each["id"]: str(each["name"]) for each in found.categories}
    entries, annotations = [], []
    taken: set[str] = set()
    for i, image in enumerate(images, start=1):
        target = unique(f"{split}/{safe(image.path.name)}", taken)
        place(image.path, folder / target, temporary=False)
        side.checksums[target] = seen[image.path].digest
        height, width = seen[image.path].size
        number = i if image.number is None else image.number
        entries.append({"id": number, "file_name": target.split("/")[1], "height": height, "width": width})
        objects = image.objects(height, width)
        annotations += [{**each, "image_id": number} for each in objects.annotations]
        for kind, lines in objects.findings.items():
            side.findings.setdefault(kind, []).extend(f"{image.labels} ({image.name}, {line})" for line in lines)
    side.objects.update(names[each["category_id"]] for each in annotations)
    if images:
        write_coco(folder, split, found.what, found.categories, entries, annotations)
    return side


def _check_sizes(images: Sequence[tuple[Detected, tuple[int, int]]]) -> None:
    wrong = []
    mend = "restore the images that were labelled, or label these again"
    for image, (height, width) in images:
        if image.size and image.size != (height, width):
            wrong.append(f"{image.name} is {width}×{height}, {image.labels} says {image.size[1]}×{image.size[0]}")
            if image.size == (width, height) and is_turned(image.path):
                mend = UPRIGHT
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(images)} images have another size than their labels: {some(wrong)}; {mend}"
        )


def _check_splits(images: Sequence[Detected], counts: dict[str, dict[str, int]], splits: Sequence[str]) -> None:
    if empty := [split for split in splits if not any(image.split == split for image in images)]:
        raise InputError(f"no image in {' and '.join(empty)}; every split needs one: add labelled images")
    if bare := [split for split in splits if not counts[split]]:
        raise InputError(f"no object in {' and '.join(bare)}; nothing can be learned or measured there: label some")
