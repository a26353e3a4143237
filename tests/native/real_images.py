"""Photographs in every kind of file that both runtimes read: crops of the two photos that scikit-learn carries."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pil
from sklearn.datasets import load_sample_images

#: Height, width and the number of the photo, cut at its middle; odd and even, wide and high, larger and smaller than a graph's input.
CROPS = [(427, 640, 0), (427, 640, 1), (201, 333, 0), (333, 201, 1), (64, 64, 0), (97, 31, 1), (120, 160, 1)]


def crop(height: int, width: int, photo: int) -> np.ndarray:
    """uint8 height×width×3 BGR."""
    image = load_sample_images().images[photo]
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width, ::-1])


def jpeg(image: np.ndarray, quality: int, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *options])[1].tobytes()


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def pil(image: np.ndarray, kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Pil.fromarray(image[..., ::-1]).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Pil.Exif:
    entries = Pil.Exif()
    entries[0x0112] = orientation
    return entries


def files_of(image: np.ndarray) -> dict[str, bytes]:
    """The image as file names → contents."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    alpha = np.dstack([image, np.linspace(0, 255, grey.size).reshape(grey.shape).astype(np.uint8)])
    return {
        "high.jpg": jpeg(image, 95),
        "low.jpeg": jpeg(image, 40),
        "progressive.jpg": jpeg(image, 80, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "greyscale.jpg": jpeg(grey, 90),
        "full chroma.jpg": pil(image, "JPEG", quality=90, subsampling=0),
        "cmyk.jpg": pil(image, "JPEG", "CMYK"),
        "colour.png": png(image),
        "grey.png": png(grey),
        "alpha.png": png(alpha),
        "deep.png": png(image.astype(np.uint16) * 257 + 99),
        "deep-grey.png": png(grey.astype(np.uint16) * 257 + 99),
        "palette.png": pil(image, "PNG", "P"),
    }


def write(folder: Path) -> list[Path]:
    """Write them all, and one photo in all eight orientations; 92 files."""
    contents = {
        f"{height}x{width}-{photo}-{name}": content
        for height, width, photo in CROPS
        for name, content in files_of(crop(height, width, photo)).items()
    }
    photo = crop(201, 333, 1)
    for orientation in range(1, 9):
        contents[f"turned-{orientation}.jpg"] = pil(photo, "JPEG", exif=exif(orientation))
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())
