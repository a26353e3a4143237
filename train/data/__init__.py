"""Labelled images → one standard layout that every training config reads.

One file a source: a module of this folder that defines `SOURCE` is a source of that name, and nothing else changes.
A classification source writes ImageNet's layout:

    OUT/train/<class>/*.png   OUT/val/<class>/*.png   OUT/classes.txt       (one name a line; line number = label)
    OUT/train.txt             OUT/val.txt             "class/NAME.png label", relative to OUT/train or OUT/val

A segmentation source writes the layout that `label_maps` describes, a detection source that of `instances`. Every set has

    OUT/dataset.json          what was asked, what was found
    OUT/SHA256SUMS            every other file, as `sha256sum -c SHA256SUMS` reads it; its own hash is the fingerprint

No module here imports torch or mm*, so that preparing data starts at once.
"""

import hashlib
import json
import os
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from train.cli import nearest
from train.data.download import Download
from train.errors import InputError, UsageError
from train.files import atomic_folder, sha256, sha256_json, write_atomic, write_json

RECORD = "dataset.json"
CHECKSUMS = "SHA256SUMS"
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Request:
    """What a source is asked for: a local folder or None, the seed, whether to leave bad images out, the downloads."""

    origin: Path | None
    seed: int
    skip_bad: bool
    downloads: Path


@dataclass(frozen=True)
class Written:
    """What a source wrote.

    Attributes:
        classes: names in the order of their labels.
        images: split → number of images.
        labels: split → class → number of labels: images of a classification set, instances of a detection set, pixels
            of a segmentation set.
        findings: kind → one line each: what was left out or looks wrong (`WARNINGS` lists the kinds).
        checksums: path relative to the folder → SHA-256, for the files whose content was hashed on the way.
    """

    classes: tuple[str, ...]
    images: dict[str, int]
    labels: dict[str, dict[str, int]]
    findings: dict[str, list[str]] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A way to get labelled images. Raise `version` when the same request begins to give other files.

    Attributes:
        summary: one line for the help.
        version: of what `write` writes.
        write: fills an empty folder.
        next_command: what to run on the result; `{out}` is its folder.
        downloads: what is fetched when no local folder is given.
        takes_origin: whether a local folder can be given; without `downloads` it must be.
    """

    summary: str
    version: int
    write: Callable[[Path, Request], Written]
    next_command: str
    downloads: tuple[Download, ...] = ()
    takes_origin: bool = False


@dataclass(frozen=True)
class Prepared:
    """A prepared set. `fingerprint` covers every file's path and content; `reused`: it was there and current."""

    root: Path
    source: str
    classes: tuple[str, ...]
    images: dict[str, int]
    fingerprint: str
    findings: dict[str, list[str]]
    reused: bool = False


#: Kinds of findings and how a warning puts them.
WARNINGS = {
    "unreadable": "unreadable images left out",
    "missing": "missing images left out",
    "leaks": "images that are in train and in val",
    "conflicts": "identical images under two labels",
    "ignored": "files ignored",
    "outside": "shapes that reach beyond their image, clipped",
    "flat": "shapes without an area left out",
    "turned": "images with an EXIF orientation, which the label maps must have followed",
    "absent": "classes without a pixel in train",
    "unseen": "classes without an object in train",
}


def sources() -> dict[str, Source]:
    """Every source by name: the modules of this folder that define `SOURCE`."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            source = getattr(import_module(f"{__name__}.{module.name}"), "SOURCE", None)
            if isinstance(source, Source):
                found[module.name] = source
    return found


def prepare(name: str, out: Path, *, origin: Path | None = None, seed: int = 0, skip_bad: bool = False) -> Prepared:
    """Write a source's images to `out` in the standard layout, whole or not at all; return at once when current.

    Current means: the same source and version, seed and options, an origin whose files have the same sizes and
    modification times (or the same downloads), and every file of `out` still there.

    Args:
        name: a source (see `sources`).
        out: folder to write. An older prepared set there is replaced; a folder of anything else is refused.
        origin: the local folder that holds the images, for sources that take one.
        seed: of the split and of everything random; 0 or more.
        skip_bad: leave unreadable images out and record them, rather than stop.

    Raises:
        UsageError: an unknown source, or an origin or `out` that does not fit it.
        InputError: bad images or labels, or a disk that cannot be written.
        BackendError: a download that fails.
    """
    known = sources()
    if name not in known:
        raise nearest(name, list(known), "data source")
    source = known[name]
    _check_arguments(name, source, out, origin, seed)
    asked = {
        "source": name,
        "version": source.version,
        "seed": seed,
        "skip_bad": skip_bad,
        "origin": _listing(origin) if origin else [download.sha256 for download in source.downloads],
    }
    if current := _current(out, asked):
        return current
    request = Request(origin, seed, skip_bad, downloads=out.parent / ".downloads")
    try:
        with atomic_folder(out) as folder:
            written = source.write(folder, request)
            _write_record(folder, written, asked, origin)
    except OSError as error:
        raise InputError(f"cannot prepare {out}: {error}; free space, fix the permissions or choose another --out")
    return load(out)


def load(root: Path) -> Prepared:
    """Read what `prepare` recorded about a set.

    Raises:
        InputError: the folder is no prepared set.
    """
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
        return Prepared(
            root=root,
            source=record["request"]["source"],
            classes=tuple(record["classes"]),
            images=record["images"],
            fingerprint=record["fingerprint"],
            findings=record["findings"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{root}: no prepared set ({RECORD} is missing or damaged); make one: python -m train.data")


def read_split(root: Path, split: str) -> list[tuple[Path, int]]:
    """Read a classification set's list: absolute image paths and labels, in the list's order.

    Raises:
        InputError: the set has no such split, or a line is not "path label".
    """
    path = root / f"{split}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines]
        return [((root / split / name).absolute(), int(label)) for name, label in pairs]
    except FileNotFoundError:
        found = ", ".join(s for s in SPLITS if (root / f"{s}.txt").is_file()) or "none"
        raise InputError(f"{path}: missing; expected a classification set with this split, found splits: {found}")
    except ValueError as error:
        raise InputError(f"{path}: expected lines 'path label' ({error}); prepare the set again")


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in sorted order, links followed; hidden files and folders are passed over."""
    seen = set()
    for parent, names, files in os.walk(folder, followlinks=True):
        names[:] = sorted(name for name in names if not is_hidden(name))
        real = os.path.realpath(parent)
        if real in seen:  # a link back to a folder above
            names.clear()
            continue
        seen.add(real)
        yield from (Path(parent, name) for name in sorted(files) if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Whether a name is the operating system's or an editor's own: `.DS_Store`, `.ipynb_checkpoints`, `__MACOSX`."""
    return name.startswith((".", "__"))


def _check_arguments(name: str, source: Source, out: Path, origin: Path | None, seed: int) -> None:
    if seed < 0:
        raise UsageError(f"seed {seed}: expected 0 or more")
    if origin is None and source.takes_origin and not source.downloads:
        raise UsageError(f"source '{name}' needs a folder of images: --from DIR (make: DATA=DIR)")
    if origin is not None:
        if not source.takes_origin:
            raise UsageError(f"source '{name}' makes its own images and takes no folder; leave --from (DATA=) out")
        if not origin.is_dir():
            raise InputError(f"{origin}: no such folder; --from must name the folder that holds the images")
        inner, outer = out.resolve(), origin.resolve()
        if inner == outer or outer in inner.parents or inner in outer.parents:
            raise UsageError(f"{out}: lies in the images' folder {origin}, or the reverse; choose another --out")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file()):
        raise UsageError(f"{out}: exists and is no prepared set; it is not replaced: choose another --out or remove it")


def _listing(origin: Path) -> str:
    """Hash of the files' names, sizes and modification times; the folder's own place does not count."""
    entries = []
    for path in walk(origin):
        if path.exists():
            status = path.stat()
            entries.append([str(path.relative_to(origin)), status.st_size, status.st_mtime_ns])
    return sha256_json(entries)


def _current(out: Path, asked: dict[str, Any]) -> Prepared | None:
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        checksums = (out / CHECKSUMS).read_text(encoding="utf-8")
        if record["request"] != asked or record["fingerprint"] != _fingerprint(checksums):
            return None
        # A line is 64 hexadecimal digits, two spaces and the path.
        whole = all((out / line[66:]).exists() for line in checksums.splitlines())
        return replace(load(out), reused=True) if whole else None
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def _write_record(folder: Path, written: Written, asked: dict[str, Any], origin: Path | None) -> None:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{written.checksums.get(path) or sha256(folder / path)}  {path}\n" for path in paths]
    checksums = "".join(lines)
    write_atomic(folder / CHECKSUMS, checksums)
    record = {
        "schema_version": 1,
        "request": asked,
        "origin": str(origin.resolve()) if origin else None,
        "classes": written.classes,
        "images": written.images,
        "labels": written.labels,
        "fingerprint": _fingerprint(checksums),
        "findings": written.findings,
    }
    write_json(folder / RECORD, record)


def _fingerprint(checksums: str) -> str:
    return hashlib.sha256(checksums.encode()).hexdigest()
