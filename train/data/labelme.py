"""A folder of labelme's JSON files → label maps and COCO instances.

Polygons, rectangles, circles and masks count; later shapes cover earlier ones in the label maps, as labelme draws them.
Shapes of one label and one `group_id` are one instance. `__ignore__` becomes 255 and no instance; `_background_` is label
0, which also is everything without a shape, and no instance. The other classes follow, sorted, or in the order of
`labels.txt` (see `legend`). Folders `train/` and `val/` are taken as the splits, otherwise it is 8:2. Written besides:

    OUT/annotations/instances_{train,val}.json      COCO instances; a class has the same number as in the label maps

An image lies where its file says, beside it, or in it (`imageData`). `seg/pspnet-r18_labelme` trains on the label maps,
`det/deformable-detr-r50_labelme` on the instances.
"""

import base64
import binascii
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data import SPLITS, Request, Source, Written, label_maps, walk
from train.data.image_files import EXTENSIONS, some, split_folders
from train.data.images import count_labels
from train.data.instances import write_instances
from train.data.label_maps import IGNORE, Class
from train.data.labelme_files import Labelling, read_labelling
from train.data.legend import IGNORED, read_legend
from train.data.progress import track
from train.data.segmented import Found, LabelMapError, Placed, Segmented, write_label_maps
from train.data.shapes import FLAT, cover, instances, odd
from train.errors import InputError

BACKGROUND = "_background_"


@dataclass(frozen=True)
class _File:
    """A labelme file: its name in messages, what it says, where its image is, and whether only for now."""

    name: str
    labelling: Labelling
    image: Path
    temporary: bool


def write(folder: Path, request: Request) -> Written:
    """Write the request's folder: label maps first, then the instances of the images that were written."""
    assert request.origin is not None
    origin = request.origin.resolve()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".embedded-") as spare:
        files = _read_files(origin, Path(spare))
        classes = _classes(origin, files)
        lookup = {IGNORED: IGNORE, **{each.name: label for label, each in enumerate(classes)}}
        found = _find(origin, files, classes, lookup)
        written, placed = write_label_maps(folder, found, request)
    names = [each.name for each in classes[1:]]
    categories = {name: number for number, name in enumerate(names, start=1)}
    labellings = {file.name: file.labelling for file in files}
    shown: list[tuple[str, int]] = []
    findings: dict[str, list[str]] = {"outside": [], "flat": []}
    for split in SPLITS:
        images = [each for each in placed if each.image.split == split]
        annotations = []
        for i, each in enumerate(images, start=1):
            shapes = labellings[each.image.labels].shapes
            annotations += instances(shapes, categories, i, *each.size)
            for kind, strange in odd(shapes, *each.size).items():
                findings[kind] += [f"{each.image.labels} ({shape})" for shape in strange]
        write_instances(folder, split, "labelme", names, [_image(i, p) for i, p in enumerate(images, 1)], annotations)
        shown += [(split, annotation["category_id"] - 1) for annotation in annotations]
    return replace(
        written,
        classes=tuple(names),
        labels=count_labels(names, shown),
        findings={**written.findings, **{kind: lines for kind, lines in findings.items() if lines}},
    )


def _read_files(origin: Path, spare: Path) -> list[_File]:
    """Every labelme file of a folder; images that only exist embedded are written to `spare`.

    Raises:
        InputError: files that cannot be read, two for one image, or none.
    """
    paths = [path for path in walk(origin) if path.suffix.lower() == ".json"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(_read_file, origin, spare), paths)
        read = list(track(results, len(paths), "reading labelme files"))
    faults = [result for result in read if isinstance(result, str)]
    if faults:
        raise InputError(
            f"{len(faults)} of {len(paths)} labelme files are wrong: {some(faults, ' | ')}; mend them in labelme"
        )
    files = [result for result in read if isinstance(result, _File)]
    users: dict[Path, list[str]] = {}
    for file in files:
        users.setdefault(file.image, []).append(file.name)
    twice = [f"{' and '.join(names)} both label {image.name}" for image, names in users.items() if len(names) > 1]
    if twice:
        raise InputError(f"{origin}: {some(twice)}; remove one")
    if not files:
        raise InputError(
            f"{origin}: no labelme file; expected *.json with 'shapes' and 'imagePath', here or in folders below"
        )
    return files


def _read_file(origin: Path, spare: Path, path: Path) -> _File | str | None:
    """A file, what is wrong with it, or None where it is of something else."""
    name = path.relative_to(origin).as_posix()
    try:
        labelling = read_labelling(path)
        if labelling is None:
            return None
        image = _image_beside(origin, path, labelling)
        temporary = image is None
        if image is None:
            image = _image_within(labelling, spare / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}" / path.stem)
        return _File(name, replace(labelling, embedded=None), image, temporary)
    except ValueError as error:
        return f"{name}: {error}"


def _image_beside(origin: Path, path: Path, labelling: Labelling) -> Path | None:
    """The image of a labelme file: where it says, if that is in `origin`, else beside the file."""
    stated = Path(labelling.image_path.replace("\\", "/"))
    for candidate in (path.parent / stated, path.parent / stated.name):
        normal = Path(os.path.normpath(candidate))
        if normal.is_relative_to(origin) and normal.is_file():
            return normal
    return None


def _image_within(labelling: Labelling, stem: Path) -> Path:
    """Write the embedded image to a file of its format.

    Raises:
        ValueError: there is none, or none that can be read.
    """
    from PIL import Image

    if labelling.embedded is None:
        raise ValueError(f"its image {labelling.image_path!r} is not there, and none is embedded")
    try:
        content = base64.b64decode(labelling.embedded)
        with Image.open(io.BytesIO(content)) as image:
            ending = f".{str(image.format).lower()}"
    except (binascii.Error, TypeError, OSError) as error:
        raise ValueError(f"its embedded image cannot be read: {error}")
    stem.parent.mkdir(parents=True)
    path = stem.with_name(stem.name + ending)
    path.write_bytes(content)
    return path


def _classes(origin: Path, files: Iterable[_File]) -> tuple[Class, ...]:
    """`_background_` and the classes after it.

    Raises:
        InputError: no class at all, or shapes of a class that the folder's list lacks.
    """
    users: dict[str, list[str]] = {}
    for file in files:
        for shape in file.labelling.shapes:
            if shape.kind not in FLAT and shape.label not in (IGNORED, BACKGROUND):
                users.setdefault(shape.label, []).append(file.name)
    legend = read_legend(origin)
    if legend is None:
        if not users:
            raise InputError(f"{origin}: no shape with an area; draw polygons, rectangles or circles in labelme")
        return label_maps.coloured((BACKGROUND, *sorted(users)))
    listed = [each for each in legend.classes if each.name != BACKGROUND]
    strange = sorted(users.keys() - {each.name for each in listed})
    if strange:
        lines = [f"'{name}' ({some(list(dict.fromkeys(users[name])))})" for name in strange]
        raise InputError(
            f"{origin}: shapes of classes that its list lacks: {some(lines)}; rename them or extend the list"
        )
    if not legend.coloured:
        return label_maps.coloured((BACKGROUND, *(each.name for each in listed)))
    ground = next((each for each in legend.classes if each.name == BACKGROUND), Class(BACKGROUND, (0, 0, 0)))
    return (ground, *listed)


def _find(origin: Path, files: list[_File], classes: tuple[Class, ...], lookup: dict[str, int]) -> Found:
    splits = split_folders(origin)
    images, ignored = [], []
    for file in files:
        split = splits.get(Path(file.name).parts[0])
        if splits and not split:
            ignored.append(f"{file.name} (no split)")
            continue
        shown = file.name if file.temporary else file.image.relative_to(origin).as_posix()
        images.append(
            Segmented(file.image, shown, split, file.name, partial(_draw, file.labelling, lookup), file.temporary)
        )
    used = {image.name for image in images}
    unlabelled = [path.relative_to(origin).as_posix() for path in walk(origin) if path.suffix.lower() in EXTENSIONS]
    ignored += [f"{name} (no labelme file)" for name in unlabelled if name not in used]
    # labelme shows photos upright, so that shapes have followed the EXIF orientation: nothing to warn of.
    return Found(classes, images, tuple(splits.values()) or SPLITS, {"ignored": ignored, "turned": []})


def _draw(labelling: Labelling, lookup: dict[str, int], height: int, width: int) -> NDArray[np.uint8]:
    """A label map: the shapes, one over the other (see `Segmented.draw`)."""
    from pycocotools import mask as coco_mask

    if labelling.size and labelling.size != (height, width):
        raise LabelMapError(
            f"drawn on an image of {labelling.size[1]}×{labelling.size[0]} pixels, its image has {width}×{height}",
            "restore the image, or draw the shapes again",
        )
    labels = np.zeros((height, width), np.uint8)
    for shape in labelling.shapes:
        if shape.kind not in FLAT:
            labels[coco_mask.decode(cover(shape, height, width)) > 0] = lookup[shape.label]
    return labels


def _image(number: int, placed: Placed) -> dict[str, Any]:
    height, width = placed.size
    return {"id": number, "file_name": placed.target.split("/")[1], "width": width, "height": height}


SOURCE = Source(
    summary="your folder of labelme files: polygons, rectangles, circles → label maps and COCO instances",
    version=1,
    write=write,
    next_command="make train-seg EXP=seg/pspnet-r18_masks DATA={out}",
    takes_origin=True,
)
