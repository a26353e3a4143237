"""Labelled image files → the classification layout: checked, split, linked, listed."""

import hashlib
import os
import shutil
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from train.data import SPLITS, Request, Written
from train.data.progress import track
from train.errors import InputError

VAL_FRACTION = 0.2
SHOWN = 10  # names in a message before it only counts


@dataclass(frozen=True)
class Labelled:
    """One image: its file, the name messages give it, its label, and its split (None: still to be split)."""

    path: Path
    name: str
    label: int
    split: str | None = None


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


def stratified_split(keys: Sequence[str], labels: Sequence[int], *, seed: int) -> list[bool]:
    """Choose a fifth of each class for val, at least one image and never all of them; True = val.

    Equal keys (the same image twice) land on the same side, under whichever label. An image's rank is a hash of the
    seed and its key, so that neither file names nor the order of files matter, and adding images moves few others.
    """
    members: dict[int, list[str]] = defaultdict(list)
    for key, label in zip(keys, labels, strict=True):
        members[label].append(key)
    in_val: dict[str, bool] = {}
    for label in sorted(members):
        copies = Counter(members[label])
        wanted = min(max(1, round(VAL_FRACTION * copies.total())), copies.total() - 1)
        taken = sum(count for key, count in copies.items() if in_val.get(key))
        ranked = sorted(
            copies.keys() - in_val.keys(), key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest()
        )
        for key in ranked:
            in_val[key] = taken + copies[key] <= wanted
            taken += copies[key] if in_val[key] else 0
        if not taken and len(ranked) > 1:  # every image has more copies than a fifth: the rarest goes
            in_val[min(ranked, key=copies.__getitem__)] = True
    return [in_val[key] for key in keys]


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
    _check_class_names(labels.classes)
    _check_every_class(labels)
    images, digests, bad = _check_images(labels.images, request.skip_bad)
    if any(image.split is None for image in images):
        in_val = stratified_split([digests[i.path] for i in images], [i.label for i in images], seed=request.seed)
        images = [replace(image, split=SPLITS[val]) for image, val in zip(images, in_val, strict=True)]
    _check_every_class(replace(labels, images=images))

    targets = _targets(images, labels.classes)
    for image, target in zip(images, targets, strict=True):
        _place(image.path, folder / target, temporary)
    write_lists(folder, labels.classes, targets, [image.label for image in images])
    findings = {"unreadable": bad, "ignored": labels.ignored, **_find_copies(images, digests, labels.classes)}
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


def some(names: Sequence[str], separator: str = ", ") -> str:
    """The first names, and how many more there are."""
    more = f"{separator}and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return separator.join(names[:SHOWN]) + more


def _inspect(path: Path) -> tuple[str, str | None]:
    """The content's SHA-256, and why it cannot be decoded if so: by Pillow and by OpenCV, for both read it later."""
    import cv2
    import numpy as np
    from PIL import Image

    digest = ""
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with Image.open(path) as image:
            image.load()
        if cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is None:
            return digest, "OpenCV cannot decode it"
    except Image.UnidentifiedImageError:
        return digest, "empty file" if not content else "not an image"
    except OSError as error:
        return digest, error.strerror or str(error)
    # What Pillow's decoders raise on damaged content, beside OSError.
    except (ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, struct.error, zlib.error) as error:
        return digest, f"damaged ({error})"
    except (Image.DecompressionBombError, cv2.error) as error:
        return digest, str(error)
    return digest, None


def _check_images(images: list[Labelled], skip_bad: bool) -> tuple[list[Labelled], dict[Path, str], list[str]]:
    """Decode every image: the good ones, path → SHA-256, and a line for each bad one.

    Raises:
        InputError: bad images that are not to be skipped, or no good one.
    """
    paths = list(dict.fromkeys(image.path for image in images))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = dict(zip(paths, track(pool.map(_inspect, paths), len(paths), "checking images"), strict=True))
    bad = [f"{image.name} ({reason})" for image in images if (reason := verdicts[image.path][1])]
    good = [image for image in images if not verdicts[image.path][1]]
    if bad and not (skip_bad and good):
        hint = "repair them, or leave them out with SKIP_BAD=1 (--skip-bad)" if good else "check the folder"
        raise InputError(f"{len(bad)} of {len(images)} images cannot be read: {some(bad)}; {hint}")
    return good, {path: digest for path, (digest, _) in verdicts.items()}, bad


def _check_class_names(classes: Sequence[str]) -> None:
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(f"class names must differ; twice: {some(twice)}")
    odd = [repr(name) for name in classes if not name.isprintable() or name != name.strip() or not name]
    if odd:
        raise InputError(f"class names must be one line of text without space around it; found {some(odd)}; rename")


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
        folders.append(_unique(_safe(name), taken))
    targets = []
    taken = set()
    for image in images:
        targets.append(_unique(f"{image.split}/{folders[image.label]}/{_safe(image.path.name)}", taken))
    return targets


def _safe(name: str) -> str:
    kept = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in name)
    return kept.strip(" .") or "_"


def _unique(path: str, taken: set[str]) -> str:
    """The path, numbered before its ending when it is taken (`a.jpg` → `a-2.jpg`); added to `taken`."""
    stem, dot, ending = path.rpartition(".")
    candidate, number = path, 1
    while candidate in taken:
        number += 1
        candidate = f"{stem}-{number}.{ending}" if dot else f"{path}-{number}"
    taken.add(candidate)
    return candidate


def _place(source: Path, target: Path, temporary: bool) -> None:
    """Link an image rather than copy it: a data set may be larger than the space left.

    A hard link costs nothing, survives the removal of the original folder and reads alike in a container. Across file
    systems, or where the system forbids links to others' files, a symbolic link takes its place: absolute, because
    the target's folder is renamed once it is whole.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()
    try:
        target.hardlink_to(source)
        return
    except OSError:
        if temporary:
            shutil.copyfile(source, target)
            return
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _find_copies(images: list[Labelled], digests: dict[Path, str], classes: Sequence[str]) -> dict[str, list[str]]:
    """Images of the same content in both splits, and under two labels."""
    same: dict[str, list[Labelled]] = defaultdict(list)
    for image in images:
        same[digests[image.path]].append(image)
    leaks, conflicts = [], []
    for copies in same.values():
        if len({image.split for image in copies}) > 1:
            leaks.append(" = ".join(image.name for image in copies))
        if len({image.label for image in copies}) > 1:
            conflicts.append(" = ".join(f"{image.name} ({classes[image.label]})" for image in copies))
    return {"leaks": leaks, "conflicts": conflicts}
