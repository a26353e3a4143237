"""PASCAL VOC's segmentation sets, and folders of that layout.

    JPEGImages/NAME.jpg                           below the folder itself, `VOC2012/` or `VOCdevkit/VOC2012/`
    SegmentationClass/NAME.png                    indices or colours (also SegmentationClassPNG/)
    ImageSets/Segmentation/{train,val}.txt        a name a line; one other list alone, or none, is split 8:2

Classes are VOC's, or those that the folder names (see `legend`). 255 and VOC's cream border are ignored.

M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010. The SHA-256 of the archive is the
one TensorFlow Datasets records (`tensorflow_datasets/url_checksums/voc.txt`).
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from train.data import SPLITS, Request, Source, Written, label_maps
from train.data.download import Download, extract, fetch
from train.data.image_files import EXTENSIONS, read_lines, some
from train.data.label_maps import IGNORE
from train.data.legend import Legend, read_legend
from train.data.mask_files import LOSSLESS, by_stem, incomplete, reader
from train.data.segmented import Found, Segmented, write_label_maps
from train.errors import InputError

ARCHIVE = Download(
    url="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    size=1_999_639_040,
    licence="photos from Flickr under its terms of use, published for research (PASCAL VOC 2012)",
)
# fmt: off
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
BORDER = label_maps.rgb(label_maps.palette()[IGNORE].tolist())
IMAGES, MASKS, LISTS = "JPEGImages", ("SegmentationClass", "SegmentationClassPNG"), "ImageSets/Segmentation"
FORM = f"expected {IMAGES}/, {MASKS[0]}/ and {LISTS}/{{train,val}}.txt"


def write(folder: Path, request: Request) -> Written:
    """Write the request's folder, or the downloaded archive."""
    if request.origin is not None:
        return write_label_maps(folder, read_folder(request.origin), request)[0]
    archive = fetch(ARCHIVE, request.downloads)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".extracted-") as extracted:
        extract(archive, Path(extracted))
        found = read_folder(Path(extracted))
        images = [replace(image, temporary=True) for image in found.images]
        return write_label_maps(folder, replace(found, images=images), request)[0]


def read_folder(origin: Path) -> Found:
    """Find the images of a folder of VOC's layout and their label maps; none is opened.

    Raises:
        InputError: another layout, or a listed image or label map that is missing.
    """
    root = _root(origin)
    legend = read_legend(root) or read_legend(origin) or Legend(label_maps.coloured(CLASSES), coloured=True)
    if legend.ignore is None and BORDER not in legend.colours:
        legend = replace(legend, ignore=BORDER)
    images = by_stem(root / IMAGES, EXTENSIONS)
    masks = by_stem(_masks(root), LOSSLESS)
    lists, splits = _read_lists(root / LISTS)
    names = lists or {None: [name for name in images if name in masks]}
    if lacking := [line for listed in names.values() for line in incomplete(listed, images, masks)]:
        raise InputError(f"{root}: {len(lacking)} listed images are incomplete: {some(lacking)}; {FORM}")
    found = [
        Segmented(images[name], f"{IMAGES}/{images[name].name}", split, masks[name].name, reader(masks[name], legend))
        for split, listed in names.items()
        for name in listed
    ]
    return Found(legend.classes, found, splits)


def _root(origin: Path) -> Path:
    """The folder that holds `JPEGImages`: the given one, or one or two levels below it."""
    below = sorted(path.parent for depth in ("", "*/", "*/*/") for path in origin.glob(f"{depth}{IMAGES}"))
    roots = [path for path in below if _masks(path).is_dir()]
    if len(roots) != 1:
        found = " and ".join(str(path.relative_to(origin)) for path in roots) or "none"
        raise InputError(f"{origin}: {FORM}, here or in one folder below; found {found}")
    return roots[0]


def _masks(root: Path) -> Path:
    """VOC's name for the label maps, or labelme's for their PNGs."""
    return next((root / name for name in reversed(MASKS) if (root / name).is_dir()), root / MASKS[0])


def _read_lists(folder: Path) -> tuple[dict[str | None, list[str]], tuple[str, ...]]:
    """Split (None: still to be split) → names, empty without a list; and the splits that must hold images."""
    lists = {path.stem: path for path in sorted(folder.glob("*.txt"))}
    named: dict[str | None, Path] = {split: lists[split] for split in SPLITS if split in lists}
    if not named and len(lists) == 1:
        named = {None: next(iter(lists.values()))}
    if lists and not named.keys() & {None, "val"}:
        raise InputError(f"{folder}: expected train.txt and val.txt, or one list alone; found {', '.join(lists)}")
    names = {
        split: list(dict.fromkeys(line.strip() for line in read_lines(path) if line.strip()))
        for split, path in named.items()
    }
    return names, tuple(split for split in SPLITS if split in named) or SPLITS


SOURCE = Source(
    summary="PASCAL VOC 2012's 21 classes: 2 GB download, or --from a folder of its layout, also with other classes",
    version=1,
    write=write,
    next_command="make train-seg EXP=seg/pspnet-r18_masks DATA={out}",
    downloads=(ARCHIVE,),
    takes_origin=True,
)
