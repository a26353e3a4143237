"""A folder of VGG Image Annotator's files → COCO instances with masks' areas.

    {train,val}/via_region_data.json    beside their images; or files anywhere, split by the images' folders, or 8:2

Polygons, rectangles, circles and ellipses count, each region one instance. Its class is what the regions' attribute says
(see `via_files`); where they have no attribute at all, there is one class, named after the folder. Classes are sorted, or
in the order of `classes.txt` (see `legend`). Images without regions are kept.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from train.data import SPLITS, Request, Source, Written, walk
from train.data.detected import Detected, Found, Objects, number_categories, write_detected
from train.data.image_files import EXTENSIONS, safe, some, split_folders
from train.data.legend import read_legend
from train.data.shapes import FLAT, Shape, instances, odd
from train.data.via_files import Attributes, Marked, class_of, naming_attribute, read_via
from train.errors import InputError


@dataclass(frozen=True)
class _Image:
    """A marked image: its file, None where it is missing, and the name of the file that marks it."""

    path: Path | None
    name: str
    labels: str
    regions: Sequence[tuple[Shape, Attributes]]


def write(folder: Path, request: Request) -> Written:
    """Write the request's folder."""
    assert request.origin is not None
    return write_detected(folder, read_folder(request.origin.resolve(), request.skip_bad), request)


def read_folder(origin: Path, skip_bad: bool) -> Found:
    """Find the VIA files of a folder and their images; no image is opened.

    Raises:
        InputError: no such file, files that are wrong, missing images, or two files for one image.
    """
    images = _read_files(origin)
    missing = [f"{image.name} ({image.labels})" for image in images if image.path is None]
    present = [image for image in images if image.path is not None]
    if missing and not (skip_bad and present):
        raise InputError(
            f"{origin}: {len(missing)} of {len(images)} images are missing: {some(missing)}; put them beside the "
            "file that marks them, or leave them out with SKIP_BAD=1 (--skip-bad)"
        )
    shapes = _name(origin, present)
    names = _classes(origin, present, shapes)
    category = {name: number for number, name in enumerate(names, start=1)}
    splits = split_folders(origin)
    found, ignored = [], []
    for image, mine in zip(present, shapes, strict=True):
        assert image.path is not None
        shown = image.path.relative_to(origin)
        split = splits.get(shown.parts[0])
        if splits and not split:
            ignored.append(f"{shown.as_posix()} (no split)")
            continue
        found.append(Detected(image.path, shown.as_posix(), split, image.labels, partial(_objects, mine, category)))
    marked = {image.path for image in present}
    rest = [path for path in walk(origin) if path.suffix.lower() in EXTENSIONS and path not in marked]
    ignored += [f"{path.relative_to(origin).as_posix()} (in no VIA file)" for path in rest]
    return Found(
        "VIA",
        number_categories(names),
        found,
        tuple(dict.fromkeys(splits.values())) or SPLITS,
        {"ignored": ignored, "missing": missing},
    )


def _read_files(origin: Path) -> list[_Image]:
    images, faults, files = [], [], 0
    for path in walk(origin):
        if path.suffix.lower() != ".json":
            continue
        name = path.relative_to(origin).as_posix()
        try:
            marked = read_via(path)
        except ValueError as error:
            faults.append(f"{name}: {error}")
            continue
        if marked is not None:
            files += 1
            places = (path.parent, *(path.parent / split for split in split_folders(path.parent)))
            images += [_Image(_image(origin, places, each), each.filename, name, each.regions) for each in marked]
    if faults:
        raise InputError(f"{origin}: {len(faults)} VIA files are wrong: {some(faults, ' | ')}; mend them in VIA")
    if not files:
        raise InputError(
            f"{origin}: no VIA file; expected via_region_data.json, as VIA exports annotations, in the folder or below"
        )
    users: dict[Path, list[str]] = {}
    for image in images:
        if image.path:
            users.setdefault(image.path, []).append(image.labels)
    twice = [f"{path.name} in {' and '.join(names)}" for path, names in users.items() if len(names) > 1]
    if twice:
        raise InputError(f"{origin}: images marked twice: {some(twice)}; remove one")
    return images


def _image(origin: Path, places: Sequence[Path], marked: Marked) -> Path | None:
    """An image where its entry says: beside the file, or in a split's folder beside it."""
    stated = Path(marked.filename.replace("\\", "/"))
    for place in places:
        for candidate in (place / stated, place / stated.name):
            normal = Path(os.path.normpath(candidate))
            if normal.is_relative_to(origin) and normal.is_file():
                return normal
    return None


def _name(origin: Path, images: Sequence[_Image]) -> list[list[Shape]]:
    """The shapes of each image, labelled with their classes."""
    regions = [attributes for image in images for _, attributes in image.regions]
    try:
        naming = naming_attribute(regions)
    except ValueError as error:
        raise InputError(f"{origin}: {error}") from None
    if naming is None:
        only = safe(origin.name)
        return [[replace(shape, label=only) for shape, _ in image.regions] for image in images]
    named, faults = [], []
    for image in images:
        mine = []
        for shape, attributes in image.regions:
            try:
                mine.append(replace(shape, label=class_of(attributes, naming)))
            except ValueError as error:
                faults.append(f"{image.labels}: {image.name}, region {shape.number}: {error}")
        named.append(mine)
    if faults:
        raise InputError(f"{origin}: {len(faults)} regions have no class: {some(faults, ' | ')}; name it in VIA")
    return named


def _classes(origin: Path, images: Sequence[_Image], shapes: Sequence[Sequence[Shape]]) -> list[str]:
    users: dict[str, list[str]] = {}
    for image, mine in zip(images, shapes, strict=True):
        for shape in mine:
            if shape.kind not in FLAT:
                users.setdefault(shape.label, []).append(f"{image.name}, region {shape.number}")
    if not users:
        raise InputError(f"{origin}: no region with an area; draw polygons, rectangles, circles or ellipses in VIA")
    legend = read_legend(origin)
    if legend is None:
        return sorted(users)
    listed = [each.name for each in legend.classes]
    if strange := sorted(users.keys() - set(listed)):
        lines = [f"'{name}' ({some(users[name], '; ')})" for name in strange]
        raise InputError(
            f"{origin}: regions of classes that its list lacks: {some(lines)}; rename them or extend the list"
        )
    return listed


def _objects(shapes: Sequence[Shape], category: dict[str, int], height: int, width: int) -> Objects:
    findings = {
        kind: [f"region {shape.number}, {shape.kind}" for shape in strange]
        for kind, strange in odd(shapes, height, width).items()
    }
    return Objects(instances(shapes, category, 0, height, width), findings)


SOURCE = Source(
    summary="your folder of VGG Image Annotator's JSON files: polygons, rectangles, circles, ellipses → COCO instances",
    version=1,
    write=write,
    next_command="make train-det EXP=det/rtmdet-tiny_coco DATA={out}",
    takes_origin=True,
)
