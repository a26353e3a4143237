"""Labelled image files → the classification layout: checked, split, linked, listed."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from train.data import SPLITS, Request, Written
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
from train.errors import InputError


@dataclass(frozen=True)
class Labelled(ImageFile):
    """An image of one class."""

    label: int


@dataclass(frozen=True)
class Labels:
    """What was read from a folder.

    Attributes:
        classes: names in the order of their labels.
        images: in the order of the lists to be written.
        every_class: whether each class must have an image in each split (lists may skip labels, folders may not).
        ignored: files that are no labelled images.
    """

    classes: tuple[str, ...]
    images: list[Labelled]
    every_class: bool = True
    ignored: list[str] = field(default_factory=list)


def write_images(folder: Path, labels: Labels, request: Request, *, temporary: bool = False) -> Written:
    """Check every image, split what is not split, and write images and lists into `folder`.

    Args:
        folder: an empty folder.
        labels: what to write.
        request: its seed and `skip_bad` count.
        temporary: whether the image files will be removed afterwards, so that only links to their content may be made.

    Raises:
        InputError: unreadable images (unless skipped), a class without images, names that cannot be class names.
    """
    check_class_names(labels.classes)
    _check_every_class(labels)
    images, found, bad = check_images(labels.images, request.skip_bad)
    digests = {path: inspection.digest for path, inspection in found.items()}
    if any(image.split is None for image in images):
        in_val = stratified_split([digests[i.path] for i in images], [i.label for i in images], seed=request.seed)
        images = [replace(image, split=SPLITS[val]) for image, val in zip(images, in_val, strict=True)]
    _check_every_class(replace(labels, images=images))

    targets = _targets(images, labels.classes)
    for image, target in zip(images, targets, strict=True):
        place(image.path, folder / target, temporary)
    write_lists(folder, labels.classes, targets, [image.label for image in images])
    copies = find_copies(images, digests)
    findings = {
        "unreadable": bad,
        "ignored": labels.ignored,
        "leaks": leaks(copies),
        "conflicts": _conflicts(copies, labels.classes),
    }
    return Written(
        classes=labels.classes,
        images={split: sum(image.split == split for image in images) for split in SPLITS},
        labels=count_labels(labels.classes, [(str(image.split), image.label) for image in images]),
        findings={kind: lines for kind, lines in findings.items() if lines},
        checksums={target: digests[image.path] for image, target in zip(images, targets, strict=True)},
    )


def write_lists(folder: Path, classes: Sequence[str], targets: Sequence[str], labels: Sequence[int]) -> None:
    """Write `classes.txt`, and `train.txt` and `val.txt` where they have images, from "split/class/NAME" paths."""
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    lines: dict[str, list[str]] = defaultdict(list)
    for target, label in zip(targets, labels, strict=True):
        split, path = target.split("/", 1)
        lines[split].append(f"{path} {label}\n")
    for split, content in lines.items():
        (folder / f"{split}.txt").write_text("".join(content), encoding="utf-8")


def count_labels(classes: Sequence[str], labelled: Sequence[tuple[str, int]]) -> dict[str, dict[str, int]]:
    """Split → class → how many of the (split, label) pairs; classes without any are left out."""
    counts = Counter(labelled)
    return {split: {name: n for i, name in enumerate(classes) if (n := counts[split, i])} for split in SPLITS}


def _check_every_class(labels: Labels) -> None:
    if not labels.images:
        raise InputError("no images found; expected jpg, jpeg, png, bmp or webp files")
    if not labels.every_class:
        return
    splits = list(dict.fromkeys(image.split for image in labels.images))
    present = {(image.split, image.label) for image in labels.images}
    empty = [
        f"{split}/{name}" if split else name
        for split in splits
        for label, name in enumerate(labels.classes)
        if (split, label) not in present
    ]
    if empty:
        raise InputError(
            f"every class needs an image in every split (two different ones to be split); none in {some(empty)}; "
            "add images or remove the class"
        )


def _targets(images: Sequence[Labelled], classes: Sequence[str]) -> list[str]:
    """Where each image goes: "split/class/NAME", unique, with nothing in it that a path or a list cannot hold."""
    taken: set[str] = set()
    folders: list[str] = []
    for name in classes:
        folders.append(unique(safe(name), taken))
    targets = []
    taken = set()
    for image in images:
        targets.append(unique(f"{image.split}/{folders[image.label]}/{safe(image.path.name)}", taken))
    return targets


def _conflicts(copies: Sequence[Sequence[Labelled]], classes: Sequence[str]) -> list[str]:
    return [
        " = ".join(f"{image.name} ({classes[image.label]})" for image in same)
        for same in copies
        if len({image.label for image in same}) > 1
    ]
