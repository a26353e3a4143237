"""Folders of images and folders of masks, in one of these forms:

1. `images/{train,val}/` and `masks/{train,val}/`, or `img_dir/` and `ann_dir/`: taken as they are.
2. `images/` and `masks/` without such folders: split 8:2 here.
3. `train/` and `val/`, and one other folder that holds the masks in folders of the same names. A prepared set is of this
   form too.

A split's folder may have a longer name (`train2017`, `validation`); others (`test`) are left out. A mask has its image's
name and folder, up to the ending. Without names of classes (see `legend`) they are called by their number.
"""

from collections.abc import Iterable
from pathlib import Path

from train.data import SPLITS, Request, Source, Written, label_maps
from train.data.image_files import EXTENSIONS, folders, some, split_folders
from train.data.legend import Legend, read_legend
from train.data.mask_files import LOSSLESS, by_stem, incomplete, reader, top_label
from train.data.segmented import Found, Segmented, write_label_maps
from train.errors import InputError

PAIRS = (("images", "masks"), ("img_dir", "ann_dir"))
FORMS = "expected images/ and masks/, img_dir/ and ann_dir/, or train/, val/ and a folder of masks that has both too"


def write(folder: Path, request: Request) -> Written:
    """Write the images and masks of the request's folder."""
    assert request.origin is not None
    return write_label_maps(folder, read_folder(request.origin), request)[0]


def read_folder(origin: Path) -> Found:
    """Find the images and masks of a folder in any of the forms. Masks are opened only where no classes are named.

    Raises:
        InputError: no known form, a split that is missing, or images without masks.
    """
    image_root, mask_root = _roots(origin)
    splits = split_folders(image_root)
    pairs: list[tuple[Path, Path, str | None]] = []
    lacking: list[str] = []
    ignored = _left_out(origin, image_root, mask_root, splits)
    unsplit: dict[str, str | None] = {"": None}
    for name, split in (splits or unsplit).items():
        images, masks = by_stem(image_root / name, EXTENSIONS), by_stem(mask_root / name, LOSSLESS)
        shown = (mask_root / name).relative_to(origin)
        lacking += [f"{shown}/{line}" for line in incomplete(images, images, masks)]
        ignored += [f"{shown}/{stem} (no image)" for stem in masks if stem not in images]
        pairs += [(path, masks[stem], split) for stem, path in images.items() if stem in masks]
    if lacking:
        raise InputError(
            f"{origin}: {len(lacking)} of {len(lacking) + len(pairs)} images have no label map: {some(lacking)}; "
            f"expected one of the image's name, ending in {', '.join(sorted(LOSSLESS))}: JPEG alters labels"
        )
    legend = read_legend(mask_root) or read_legend(origin) or _numbered(mask for _, mask, _ in pairs)
    found = [
        Segmented(image, str(image.relative_to(origin)), split, str(mask.relative_to(origin)), reader(mask, legend))
        for image, mask, split in pairs
    ]
    return Found(legend.classes, found, tuple(splits.values()) or SPLITS, {"ignored": ignored})


def _roots(origin: Path) -> tuple[Path, Path]:
    """Where the images and the masks are."""
    for images, masks in PAIRS:
        if (origin / images).is_dir() and (origin / masks).is_dir():
            return origin / images, origin / masks
    splits = split_folders(origin)
    others = [path for path in folders(origin) if path.name not in splits]
    holders = [path for path in others if splits and all((path / name).is_dir() for name in splits)]
    if len(holders) != 1:
        found = ", ".join(f"{path.name}/" for path in holders or folders(origin)) or "no folder"
        raise InputError(f"{origin}: {FORMS}; found {found}")
    return origin, holders[0]


def _left_out(origin: Path, image_root: Path, mask_root: Path, splits: dict[str, str]) -> list[str]:
    """Folders and images beside the splits."""
    if not splits:
        return []
    unused = [
        path
        for path in folders(image_root)
        if path.name not in splits and (image_root != origin or (mask_root / path.name).is_dir())
    ]
    images = [path for path in sorted(image_root.iterdir()) if path.suffix.lower() in EXTENSIONS]
    return [*(f"{path.relative_to(origin)}/ (no split)" for path in unused), *(path.name for path in images)]


def _numbered(masks: Iterable[Path]) -> Legend:
    return Legend(label_maps.coloured([f"class {label}" for label in range(top_label(list(masks)) + 1)]))


SOURCE = Source(
    summary="your folders of images and masks, indexed, grey or in class colours",
    version=1,
    write=write,
    next_command="make train-seg EXP=seg/pspnet-r18_masks DATA={out}",
    takes_origin=True,
)
