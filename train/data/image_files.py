"""Image files of any source: decoded once to check them, split, linked into place, compared."""

import hashlib
import os
import shutil
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from train.data import SPLITS, is_hidden
from train.data.progress import track
from train.errors import InputError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
VAL_FRACTION = 0.2
SHOWN = 10  # names in a message before it only counts


@dataclass(frozen=True)
class ImageFile:
    """One image: its file, the name messages give it, and its split (None: still to be split)."""

    path: Path
    name: str
    split: str | None


Image = TypeVar("Image", bound=ImageFile)


@dataclass(frozen=True)
class Inspection:
    """What decoding an image found.

    Attributes:
        digest: SHA-256 of the file.
        size: height and width of the decoded image, which is turned as its EXIF orientation says.
        reason: why it cannot be decoded, if so.
    """

    digest: str
    size: tuple[int, int] = (0, 0)
    reason: str | None = None


def check_images(images: Sequence[Image], skip_bad: bool) -> tuple[list[Image], dict[Path, Inspection], list[str]]:
    """Decode every image: the good ones, path → what was found, and a line for each bad one.

    Raises:
        InputError: bad images that are not to be skipped, or no good one.
    """
    paths = list(dict.fromkeys(image.path for image in images))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(paths, track(pool.map(inspect, paths), len(paths), "checking images"), strict=True))
    bad = [f"{image.name} ({reason})" for image in images if (reason := found[image.path].reason)]
    good = [image for image in images if not found[image.path].reason]
    if bad and not (skip_bad and good):
        hint = "repair them, or leave them out with SKIP_BAD=1 (--skip-bad)" if good else "check the folder"
        raise InputError(f"{len(bad)} of {len(images)} images cannot be read: {some(bad)}; {hint}")
    return good, found, bad


def inspect(path: Path) -> Inspection:
    """Decode an image by Pillow and by OpenCV, for both read it later."""
    import cv2
    import numpy as np
    from PIL import Image

    content, digest = b"", ""
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with Image.open(path) as image:
            image.load()
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            return Inspection(digest, reason="OpenCV cannot decode it")
        return Inspection(digest, decoded.shape[:2])
    except Image.UnidentifiedImageError:
        return Inspection(digest, reason="not an image" if content else "empty file")
    except OSError as error:
        return Inspection(digest, reason=error.strerror or str(error))
    # What Pillow's decoders raise on damaged content, beside OSError.
    except (ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, struct.error, zlib.error) as error:
        return Inspection(digest, reason=f"damaged ({error})")
    except (Image.DecompressionBombError, cv2.error) as error:
        return Inspection(digest, reason=str(error))


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


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without empty ones at its end.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text ({error}); save it as UTF-8")


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def split_folders(folder: Path) -> dict[str, str]:
    """Name → split of the folders that are named after one (`train`, `train2017`, `validation`); empty without any.

    Raises:
        InputError: two folders of one split, or no val.
    """
    found = {path.name: split for path in folders(folder) for split in SPLITS if path.name.startswith(split)}
    if len(set(found.values())) < len(found):
        raise InputError(f"{folder}: expected one folder a split, found {', '.join(found)}; move or rename the others")
    if found and "val" not in found.values():
        raise InputError(f"{folder}: found {', '.join(found)} without val; add it, or lay all images side by side")
    return found


def check_class_names(classes: Sequence[str]) -> None:
    """Names must differ and be one line of text.

    Raises:
        InputError: some do not.
    """
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(f"class names must differ; twice: {some(twice)}")
    odd = [repr(name) for name in classes if not name.isprintable() or name != name.strip() or not name]
    if odd:
        raise InputError(f"class names must be one line of text without space around it; found {some(odd)}; rename")


def some(names: Sequence[str], separator: str = ", ") -> str:
    """The first names, and how many more there are."""
    more = f"{separator}and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return separator.join(names[:SHOWN]) + more


def safe(name: str) -> str:
    """The name without what a path or a list cannot hold."""
    kept = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in name)
    return kept.strip(" .") or "_"


def unique(path: str, taken: set[str]) -> str:
    """The path, numbered before its ending when it is taken (`a.jpg` → `a-2.jpg`); added to `taken`."""
    stem, dot, ending = path.rpartition(".")
    candidate, number = path, 1
    while candidate in taken:
        number += 1
        candidate = f"{stem}-{number}.{ending}" if dot else f"{path}-{number}"
    taken.add(candidate)
    return candidate


def place(source: Path, target: Path, temporary: bool) -> None:
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


def find_copies(images: Sequence[Image], digests: dict[Path, str]) -> list[list[Image]]:
    """Images of the same content, each group together."""
    same: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        same[digests[image.path]].append(image)
    return [copies for copies in same.values() if len(copies) > 1]


def leaks(copies: Sequence[Sequence[Image]]) -> list[str]:
    """A line for each group of copies that is in both splits."""
    return [" = ".join(image.name for image in same) for same in copies if len({image.split for image in same}) > 1]
