"""A folder of COCO's layout, checked: https://cocodataset.org/#format-data.

    annotations/instances_{train,val}*.json      and the images in train*/, val*/, images/ or the folder itself;
    {train,val}*/*.json                          or one annotation file in each split's folder, beside its images;
    annotations/*.json                           or one file for all, which is split 8:2

Where a split has several files, the one called `instances_…` counts. Numbers of images, categories and annotations stay as
they are, gaps included; so do areas, polygons and run lengths, and images without objects. A label is a category's place in
the file, as mmdet counts.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from train.data import SPLITS, Request, Source, Written
from train.data.coco_files import Annotations, objects, read_annotations
from train.data.detected import Detected, Found, write_detected
from train.data.image_files import folders, some
from train.errors import InputError

FORM = (
    "expected annotations/instances_train.json and annotations/instances_val.json (train2017, val2017, …), "
    "one file in train/ and one in val/, or one for all"
)


def write(folder: Path, request: Request) -> Written:
    """Write the request's folder."""
    assert request.origin is not None
    return write_detected(folder, read_folder(request.origin.resolve(), request.skip_bad), request)


def read_folder(origin: Path, skip_bad: bool) -> Found:
    """Find the annotation files of a folder and their images; no image is opened.

    Raises:
        InputError: another layout, annotation files that are wrong or do not fit each other, missing images.
    """
    files = {split: read_annotations(path, origin) for split, path in _files(origin).items()}
    categories = _categories(list(files.values()))
    images, missing, total = [], [], 0
    for split, file in files.items():
        total += len(file.images)
        for entry in file.images:
            path = _image(origin, file, entry["file_name"])
            if path is None:
                missing.append(f"{entry['file_name']} (image {entry['id']} of {file.name})")
                continue
            images.append(
                Detected(
                    path,
                    path.relative_to(origin).as_posix(),
                    split,
                    file.name,
                    partial(objects, file.of_image.get(entry["id"], [])),
                    (entry["height"], entry["width"]) if "height" in entry and "width" in entry else None,
                    entry["id"],
                )
            )
    if missing and not (skip_bad and images):
        raise InputError(
            f"{origin}: {len(missing)} of {total} images are missing: {some(missing)}; "
            "put them beside the annotation file or in the folder that it is named after, or leave them out with "
            "SKIP_BAD=1 (--skip-bad)"
        )
    splits = tuple(split for split in SPLITS if split in files) or SPLITS
    return Found("COCO", categories, images, splits, {"missing": missing})


def _files(origin: Path) -> dict[str | None, Path]:
    """Split (None: still to be split) → annotation file."""
    listed = [path for place in (origin / "annotations", origin) for path in sorted(place.glob("*.json"))]
    inside = {path: folder.name for folder in folders(origin) for path in sorted(folder.glob("*.json"))}
    files: dict[str | None, Path] = {}
    for split in SPLITS:
        own = [path for path in listed if [each for each in SPLITS if each in path.stem.lower()] == [split]]
        own = own or [path for path, name in inside.items() if name.startswith(split)]
        own = [path for path in own if path.stem.startswith("instances")] or [path for path in own if _is_coco(path)]
        if len(own) > 1:
            raise InputError(
                f"{origin}: {len(own)} annotation files for {split}: {some([path.name for path in own])}; "
                f"keep one, or call it instances_{split}.json"
            )
        if own:
            files[split] = own[0]
    if not files:
        rest = [path for path in listed if _is_coco(path)]
        if len(rest) == 1:
            return {None: rest[0]}
    if "val" not in files:
        found = some([str(path.relative_to(origin)) for path in [*listed, *inside]]) or "no JSON file"
        raise InputError(f"{origin}: no COCO annotations{' for val' if files else ''}; {FORM}; found {found}")
    return files


def _is_coco(path: Path) -> bool:
    """Whether a file has what annotations of objects have; one that cannot be read counts, to be refused by its name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _categories(files: list[Annotations]) -> list[dict[str, Any]]:
    """The categories, which must be the same in every file; the first file's order counts.

    Raises:
        InputError: they differ; each is named with the file that has it.
    """
    first = files[0]
    for other in files[1:]:
        ours = {each["id"]: each["name"] for each in first.categories}
        theirs = {each["id"]: each["name"] for each in other.categories}
        differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if differing:
            lines = [
                f"category {key} is {_called(ours, key)} in {first.name} and {_called(theirs, key)} in {other.name}"
                for key in differing
            ]
            raise InputError(f"the splits have other classes: {some(lines)}; give both files the same categories")
    return first.categories


def _called(names: dict[int, str], key: int) -> str:
    return f"'{names[key]}'" if key in names else "missing"


def _image(origin: Path, file: Annotations, name: str) -> Path | None:
    """An image's file: beside the annotations, in the folder these are named after, in `images/`, or in the folder itself."""
    inside = Path(name.replace("\\", "/"))
    after = file.path.stem.split("_")[-1]  # instances_train2017 → train2017
    places = (file.path.parent, origin / after, origin / "images" / after, origin / "images", origin)
    for place in places:
        for candidate in (place / inside, place / inside.name):
            normal = Path(os.path.normpath(candidate))
            if normal.is_relative_to(origin) and normal.is_file():
                return normal
    return None


SOURCE = Source(
    summary="your folder of COCO's layout: boxes, polygons and run lengths, kept as they are",
    version=1,
    write=write,
    next_command="make train-det EXP=det/rtmdet-tiny_coco DATA={out}",
    takes_origin=True,
)
