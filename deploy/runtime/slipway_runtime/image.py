"""Decoding: encoded bytes → uint8 H×W×3 BGR, as mmcv's `LoadImageFromFile` with its OpenCV backend does it.

EXIF orientation is applied, grey repeated, alpha dropped, the upper 8 of 16 bits kept. What OpenCV refuses is refused
here with the file's name; since 4.12 that includes truncated JPEG, which older versions filled up with grey.
"""

from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import ImageError

#: A path, encoded bytes, or a decoded uint8 H×W×3 BGR array.
Image: TypeAlias = str | Path | bytes | NDArray[np.uint8]

#: What a folder is searched for.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
#: The most pixels an image may have, before and after resizing: 805 MB as uint8 BGR.
MAX_PIXELS = 1 << 28

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
#: SOF0–SOF15 without DHT, JPG and DAC (ITU-T T.81, table B.1): the segments that hold the size.
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode(image: Image) -> NDArray[np.uint8]:
    """Decode an image; an array is checked and returned as it is.

    Returns:
        uint8 H×W×3, BGR.

    Raises:
        ImageError: a path that cannot be read, content that is no whole image, more than `MAX_PIXELS` pixels, or an
            array of another shape or dtype.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(f"expected a uint8 H×W×3 BGR array, got {image.dtype} {image.shape}")
        return image
    data = image if isinstance(image, bytes) else _read(Path(image))
    name = describe(image)
    check_size(encoded_size(data), name)
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise ImageError(f"{name}: not a readable image ({error.err})")
    if decoded is None:
        raise ImageError(f"{name}: not a whole image ({len(data)} bytes); expected JPEG, PNG, WebP, BMP or TIFF")
    check_size((decoded.shape[1], decoded.shape[0]), name)
    return decoded  # type: ignore[return-value]


def describe(image: Image) -> str:
    """How error texts name an image."""
    if isinstance(image, np.ndarray):
        return f"array {image.shape}"
    return f"{len(image)} encoded bytes" if isinstance(image, bytes) else str(image)


def check_size(size: tuple[int, int] | None, name: str) -> None:
    """Refuse a width×height of no or too many pixels; `None`, an unknown size, passes.

    Raises:
        ImageError: naming the image.
    """
    if size and not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise ImageError(f"{name}: {size[0]}×{size[1]} pixels, expected 1 to {MAX_PIXELS}")


def encoded_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from a PNG's or JPEG's header, before anything is decoded; `None` for any other format.

    WebP cannot exceed 2^28 pixels, and OpenCV itself stops at 2^30 before it allocates.
    """
    if data.startswith(_PNG) and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    at = 2 if data.startswith(_JPEG) else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_SIZE_MARKERS:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        # 0xFF fills up; TEM and RSTn stand alone; any other marker has a length.
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD7
        at += 1 if marker == 0xFF else 2 if alone else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read as an image file ({error.strerror})")
