"""TensorFlow's flower photos: 3670 images of daisy, dandelion, roses, sunflowers and tulips (CC BY 2.0).

The SHA-256 is the one TensorFlow Datasets records (`tensorflow_datasets/datasets/tf_flowers/checksums.tsv`).
"""

import shutil
import tempfile
from pathlib import Path

from train.data import Request, Source, Written, imagefolder
from train.data.download import Download, extract, fetch
from train.data.images import write_images

ARCHIVE = Download(
    url="https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
    sha256="4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
    size=228_813_984,
    licence="CC BY 2.0; each photographer is credited in the archive's LICENSE.txt, which is kept beside the images",
)
CREDITS = "LICENSE.txt"


def write(folder: Path, request: Request) -> Written:
    """Write the request's folder, or the downloaded archive."""
    if request.origin is not None:
        return imagefolder.write(folder, request)
    archive = fetch(ARCHIVE, request.downloads)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".extracted-") as extracted:
        extract(archive, Path(extracted))
        photos = Path(extracted, "flower_photos")
        shutil.copyfile(photos / CREDITS, folder / CREDITS)
        return write_images(folder, imagefolder.read_folder(photos), request, temporary=True)


SOURCE = Source(
    summary="3670 photos of 5 flowers; 229 MB download, or --from a copy in one of imagefolder's forms",
    version=1,
    write=write,
    next_command="make train-cls EXP=cls/resnet18_flowers DATA={out}",
    downloads=(ARCHIVE,),
    takes_origin=True,
)
