"""Index PNG: a label map as a picture whose pixel values are the labels and whose palette gives their colours.

OpenCV writes no palettes. The format: PNG (Portable Network Graphics) Specification, W3C, sections 5 and 11.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Bits a pixel, colour type "palette", and the only compression, filter and interlace methods used.
_INDEXED = bytes([8, 3, 0, 0, 0])


def encode(label_map: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> bytes:
    """A label map, uint8 H×W, and RGB colours, one a label and 256 at most, as a PNG file."""
    height, width = label_map.shape
    unfiltered = np.pad(label_map, ((0, 0), (1, 0)))  # a row begins with its filter's number: 0, none
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">II", width, height) + _INDEXED),
            _chunk(b"PLTE", bytes(np.array(palette, np.uint8))),
            _chunk(b"IDAT", zlib.compress(unfiltered.tobytes())),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
