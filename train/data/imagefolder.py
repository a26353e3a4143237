"""A folder of images in one of three forms.

1. `<class>/*.jpg`: split 8:2 here, class by class.
2. `train/<class>/*.jpg` and `val/<class>/*.jpg`: taken as it is.
3. `train.txt` and `val.txt`, or one list alone (`val.txt`, `ann.txt`, or the only `*.txt`), which is then val: lines
   "FILE LABEL" with a label from 0, the files in the folder, in `images/` or in `train/` and `val/`. Labels keep their
   numbers, gaps and all. A prepared set is of this form too.

`classes.txt`, one name a line, gives the order of the classes; without it they are sorted, or numbers in form 3.
"""

from pathlib import Path

from train.data import SPLITS, Request, Source, Written, walk
from train.data.image_files import EXTENSIONS, folders, read_lines, some
from train.data.images import Labelled, Labels, write_images
from train.errors import InputError

CLASSES = "classes.txt"
MAX_CLASSES = 100_000
FORMS = "expected <class>/*.jpg, or train/<class>/ and val/<class>/, or train.txt and val.txt with lines 'FILE LABEL'"


def write(folder: Path, request: Request) -> Written:
    """Write the images of the request's folder."""
    assert request.origin is not None
    return write_images(folder, read_folder(request.origin), request)


def read_folder(origin: Path) -> Labels:
    """Find the labelled images of a folder in any of the three forms; none is opened.

    Raises:
        InputError: no known form, a split or a class that is missing, or a list that cannot be read.
    """
    lists = _lists(origin)
    if lists:
        return _read_lists(origin, lists)
    splits = [split for split in SPLITS if (origin / split).is_dir()]
    if not splits:
        return _read_classes(origin, {None: origin})
    if len(splits) < len(SPLITS):
        found = ", ".join(f"{path.name}/" for path in folders(origin))
        raise InputError(f"{origin}: expected train/ and val/, found {found}; rename or add the missing one")
    return _read_classes(origin, {split: origin / split for split in splits})


def _read_classes(origin: Path, roots: dict[str | None, Path]) -> Labels:
    """Forms 1 and 2: a folder a class, below each root."""
    names = sorted({path.name for root in roots.values() for path in folders(root)})
    if not names:
        raise InputError(f"{origin}: no class folders found; {FORMS}")
    listed = _read_class_names(origin)
    if listed and sorted(listed) != names:
        differing = some(sorted(set(listed).symmetric_difference(names))) or "a name is there twice"
        raise InputError(
            f"{origin / CLASSES}: its names must be those of the class folders; they differ in: {differing}"
        )
    classes = listed or tuple(names)
    images, ignored = [], []
    for split, root in roots.items():
        ignored += [path.name for path in sorted(root.iterdir()) if path.is_file() and _is_image(path)]
        for label, name in enumerate(classes):
            for path in walk(root / name):
                shown = str(path.relative_to(origin))
                if _is_image(path):
                    images.append(Labelled(path, shown, split, label))
                else:
                    ignored.append(shown)
    return Labels(classes, images, ignored=ignored)


def _lists(origin: Path) -> dict[str, Path]:
    """Form 3's lists by split; empty when the folder is of another form."""
    named = {split: origin / f"{split}.txt" for split in SPLITS if (origin / f"{split}.txt").is_file()}
    if "val" in named:
        return named
    if named:
        raise InputError(f"{origin}: found train.txt without val.txt; add it, or remove both to use class folders")
    if (origin / "ann.txt").is_file():
        return {"val": origin / "ann.txt"}
    if any(path.name != "images" for path in folders(origin)):
        return {}
    others = [path for path in sorted(origin.glob("*.txt")) if path.name != CLASSES]
    return {"val": others[0]} if len(others) == 1 else {}


def _read_lists(origin: Path, lists: dict[str, Path]) -> Labels:
    images = []
    for split, path in lists.items():
        places = [place for place in (origin, origin / "images", origin / split) if place.is_dir()]
        for number, line in enumerate(read_lines(path), start=1):
            if line.strip():
                name, label = _parse(line, f"{path}:{number}")
                found = next((place / name for place in places if (place / name).is_file()), origin / name)
                images.append(Labelled(found, f"{split}: {name}" if len(lists) > 1 else name, split, label))
    top = max((image.label for image in images), default=-1)
    classes = _read_class_names(origin) or tuple(map(str, range(top + 1)))
    if top >= len(classes):
        raise InputError(f"{origin}: label {top} has no name: {CLASSES} has {len(classes)} lines, for labels from 0")
    return Labels(classes, images, every_class=False)


def _parse(line: str, where: str) -> tuple[str, int]:
    """One line, "FILE LABEL": the file may hold spaces."""
    parts = line.strip().rsplit(maxsplit=1)
    if len(parts) != 2 or not parts[1].isascii() or not parts[1].isdigit():
        raise InputError(f"{where}: expected 'FILE LABEL' with a label from 0, found {line.strip()!r}; {FORMS}")
    name, label = parts[0], int(parts[1])
    if label >= MAX_CLASSES:
        raise InputError(f"{where}: label {label}; expected a class number below {MAX_CLASSES}")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{where}: {name!r} leads out of the folder; expected a path relative to it")
    return name, label


def _read_class_names(origin: Path) -> tuple[str, ...]:
    path = origin / CLASSES
    return tuple(line.strip() for line in read_lines(path)) if path.is_file() else ()


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


SOURCE = Source(
    summary="your folder: a folder a class, already split or not, or lists of files and labels",
    version=1,
    write=write,
    next_command="make train-cls EXP=cls/resnet18_flowers DATA={out}",
    takes_origin=True,
)
