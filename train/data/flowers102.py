"""Oxford's 102 flowers: 1020 training and 1020 validation images, the split the authors published.

M.-E. Nilsback and A. Zisserman, "Automated Flower Classification over a Large Number of Classes", ICVGIP 2008. The
6149 test images are left out. The SHA-256 sums are those TensorFlow Datasets records
(`tensorflow_datasets/url_checksums/oxford_flowers102.txt`), which also gives the names of the classes.
"""

import tempfile
from pathlib import Path

from train.data import Request, Source, Written, imagefolder
from train.data.download import Download, extract, fetch
from train.data.images import Labelled, Labels, write_images
from train.errors import InputError

BASE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
LICENCE = "none stated; photos from the web, published for research (Nilsback and Zisserman, 2008)"
IMAGES, LABELS, SPLIT_IDS = (
    Download(BASE + name, digest, size, LICENCE)
    for name, size, digest in (
        ("102flowers.tgz", 344_862_509, "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246"),
        ("imagelabels.mat", 502, "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d"),
        ("setid.mat", 14_989, "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd"),
    )
)
#: Split → the name of its image numbers in `setid.mat`.
SPLIT_KEYS = {"train": "trnid", "val": "valid"}
# fmt: off
CLASSES = (
    "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold", "tiger lily",
    "moon orchid", "bird of paradise", "monkshood", "globe thistle", "snapdragon", "colt's foot", "king protea",
    "spear thistle", "yellow iris", "globe-flower", "purple coneflower", "peruvian lily", "balloon flower",
    "giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger", "grape hyacinth",
    "corn poppy", "prince of wales feathers", "stemless gentian", "artichoke", "sweet william", "carnation",
    "garden phlox", "love in the mist", "mexican aster", "alpine sea holly", "ruby-lipped cattleya", "cape flower",
    "great masterwort", "siam tulip", "lenten rose", "barbeton daisy", "daffodil", "sword lily", "poinsettia",
    "bolero deep blue", "wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion", "petunia",
    "wild pansy", "primula", "sunflower", "pelargonium", "bishop of llandaff", "gaura", "geranium", "orange dahlia",
    "pink-yellow dahlia", "cautleya spicata", "japanese anemone", "black-eyed susan", "silverbush",
    "californian poppy", "osteospermum", "spring crocus", "bearded iris", "windflower", "tree poppy", "gazania",
    "azalea", "water lily", "rose", "thorn apple", "morning glory", "passion flower", "lotus", "toad lily",
    "anthurium", "frangipani", "clematis", "hibiscus", "columbine", "desert-rose", "tree mallow", "magnolia",
    "cyclamen", "watercress", "canna lily", "hippeastrum", "bee balm", "ball moss", "foxglove", "bougainvillea",
    "camellia", "mallow", "mexican petunia", "bromelia", "blanket flower", "trumpet creeper", "blackberry lily",
)
# fmt: on


def write(folder: Path, request: Request) -> Written:
    """Write the request's folder, with the authors' files or in one of imagefolder's forms, or the downloads."""
    if request.origin is not None:
        origin = request.origin
        if not any((origin / item.name).is_file() for item in (LABELS, SPLIT_IDS)):
            return imagefolder.write(folder, request)
        return write_images(folder, read_labels(origin, origin / LABELS.name, origin / SPLIT_IDS.name), request)
    archive, labels, split_ids = (fetch(item, request.downloads) for item in (IMAGES, LABELS, SPLIT_IDS))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".extracted-") as extracted:
        extract(archive, Path(extracted))
        return write_images(folder, read_labels(Path(extracted), labels, split_ids), request, temporary=True)


def read_labels(images: Path, labels: Path, split_ids: Path) -> Labels:
    """Read the authors' two MATLAB files; the images are `jpg/image_00001.jpg` and on, below `images`.

    Raises:
        InputError: a file that is missing or is not what the authors published.
    """
    label_of = _read_mat(labels, "labels")
    found = []
    for split, key in SPLIT_KEYS.items():
        for number in _read_mat(split_ids, key):
            if not 1 <= number <= len(label_of) or not 1 <= label_of[number - 1] <= len(CLASSES):
                raise InputError(f"{split_ids}: image {number} has no label from 1 to {len(CLASSES)} in {labels}")
            name = f"jpg/image_{number:05d}.jpg"
            found.append(Labelled(images / name, name, split, label_of[number - 1] - 1))
    return Labels(CLASSES, found, every_class=False)


def _read_mat(path: Path, key: str) -> list[int]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise InputError(f"{path}: missing; expected jpg/, {LABELS.name} and {SPLIT_IDS.name} in one folder")
    try:
        return [int(value) for value in loadmat(path)[key].ravel()]
    except (MatReadError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path}: expected a MATLAB file with '{key}' ({error}); copy it from {BASE}")


SOURCE = Source(
    summary="2040 photos of 102 flowers; 345 MB download, or --from a folder with jpg/ and the two .mat files",
    version=1,
    write=write,
    next_command="make train-cls EXP=cls/resnet50_flowers102 DATA={out}",
    downloads=(IMAGES, LABELS, SPLIT_IDS),
    takes_origin=True,
)
