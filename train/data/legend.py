"""What a labelled folder says of its classes: names, colours, which colour is to be ignored.

One of these files, in the folder itself:

    classes.json, palette.json                      [{"name": "road", "color": [128, 64, 128]}, …] or ["road", …]
    classes.txt, class_names.txt, labels.txt,       a class a line: "road", "road 128 64 128", "128 64 128 road" or
    label_colors.txt, labelmap.txt                  "road:128,64,128::"; "#" begins a line of comment

The order gives the labels. `__ignore__` is no class: its colour is that of pixels to ignore (label 255).
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.data import label_maps
from train.data.image_files import some
from train.data.label_maps import Class, rgb
from train.errors import InputError

FILES = (
    "classes.json",
    "palette.json",
    "classes.txt",
    "class_names.txt",
    "labels.txt",
    "label_colors.txt",
    "labelmap.txt",
)
IGNORED = "__ignore__"
Colour = tuple[int, int, int]
_NUMBERS = r"(?P<r>\d+)[\s,]+(?P<g>\d+)[\s,]+(?P<b>\d+)"
_LINES = tuple(
    re.compile(form)
    for form in (
        rf"(?P<name>[^:]+):{_NUMBERS}(:.*)?",
        rf"{_NUMBERS}\s+(?P<name>\D.*)",
        rf"(?P<name>.*[^\s,])[\s,]+{_NUMBERS}",
    )
)


@dataclass(frozen=True)
class Legend:
    """The classes of a folder.

    Attributes:
        classes: in the order of their labels; in PASCAL VOC's colours where the folder gives none.
        coloured: whether the folder gives the colours, so that masks can be read by them.
        ignore: the colour of pixels to ignore, if it has one.
    """

    classes: tuple[Class, ...]
    coloured: bool = False
    ignore: Colour | None = None

    @property
    def colours(self) -> dict[Colour, int]:
        """Colour → label, 255 for the ignored one."""
        known = {each.color: label for label, each in enumerate(self.classes)}
        return known if self.ignore is None else {**known, self.ignore: label_maps.IGNORE}


def read_legend(origin: Path) -> Legend | None:
    """The classes that a folder names, or None where it names none.

    Raises:
        InputError: more than one file that names them, or one that cannot be read so.
    """
    found = [origin / name for name in FILES if (origin / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{origin}: {' and '.join(path.name for path in found)} both name classes; keep one")
    if not found:
        return None
    path = found[0]
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = _from_json(json.loads(text)) if path.suffix == ".json" else _from_lines(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # UnicodeDecodeError too
        raise InputError(
            f'{path}: {error}; expected [{{"name": …, "color": [r, g, b]}}, …] in JSON, "NAME" or "NAME R G B" lines in text'
        )
    return _legend(path, entries)


def _from_json(entries: Any) -> list[tuple[str, Colour | None]]:
    if not isinstance(entries, list):
        raise ValueError("no list of classes")
    named: list[dict[str, Any]] = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    return [(str(entry["name"]), rgb(entry["color"]) if entry.get("color") else None) for entry in named]


def _from_lines(text: str) -> list[tuple[str, Colour | None]]:
    lines = [line.strip() for line in text.splitlines()]
    return [_from_line(line) for line in lines if line and not line.startswith("#")]


def _from_line(line: str) -> tuple[str, Colour | None]:
    match = next((found for form in _LINES if (found := form.fullmatch(line))), None)
    if match is None:
        return line, None
    return match["name"].strip(), rgb([int(match[channel]) for channel in "rgb"])


def _legend(path: Path, entries: Sequence[tuple[str, Colour | None]]) -> Legend:
    ignore = next((colour for name, colour in entries if name == IGNORED), None)
    named = [(name, colour) for name, colour in entries if name != IGNORED]
    names, colours = [name for name, _ in named], [colour for _, colour in named if colour is not None]
    if not names:
        raise InputError(f"{path}: names no class; expected one a line")
    if len(names) > label_maps.MAX_CLASSES:
        raise InputError(f"{path}: {len(names)} classes; label maps hold at most {label_maps.MAX_CLASSES}")
    if colours and len(colours) < len(names):
        bare = [name for name, colour in named if colour is None]
        raise InputError(f"{path}: no colour for {some(bare)}; give every class a colour, or none")
    twice = [str(colour) for colour, count in Counter([*colours, *([ignore] if ignore else [])]).items() if count > 1]
    if twice:
        raise InputError(f"{path}: two classes have the colour {some(twice)}; colours must differ")
    if not colours:
        return Legend(label_maps.coloured(names), ignore=ignore)
    return Legend(tuple(Class(name, colour) for name, colour in zip(names, colours, strict=True)), True, ignore)
