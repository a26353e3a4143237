import io
import struct
import zlib
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageOps

from slipway_runtime.errors import ImageError
from slipway_runtime.image import MAX_PIXELS, decode, encoded_size


def picture(height: int = 60, width: int = 90) -> np.ndarray:
    """A smooth BGR picture without any symmetry."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 255 / height, columns * 255 / width, (rows + 2 * columns) * 255 / (height + 2 * width)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def encode(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


def reference(data: bytes) -> np.ndarray:
    return mmcv.imfrombytes(data, flag="color", backend="cv2")


ALPHA = np.dstack([picture(), np.full((60, 90), 100, np.uint8)])
DEEP = picture().astype(np.uint16) * 257 - 100
ENCODED = {
    "jpeg": encode(".jpg", picture()),
    "progressive": encode(".jpg", picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "png": encode(".png", picture()),
    "webp": encode(".webp", picture()),
    "bmp": encode(".bmp", picture()),
    "tiff": encode(".tiff", picture()),
    "grey png": encode(".png", picture()[..., 0]),
    "grey jpeg": encode(".jpg", picture()[..., 0]),
    "rgba png": encode(".png", ALPHA),
    "16-bit png": encode(".png", DEEP),
    "16-bit grey png": encode(".png", DEEP[..., 0]),
    "1×1": encode(".png", picture(1, 1)),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_decodes_as_mmcv_does(kind: str, tmp_path: Path) -> None:
    data = ENCODED[kind]
    path = tmp_path / "image"
    path.write_bytes(data)
    expected = reference(data)
    for source in (data, path, str(path)):
        decoded = decode(source)
        assert decoded.dtype == np.uint8
        assert decoded.shape[2] == 3
        np.testing.assert_array_equal(decoded, expected)


def test_the_conversions_are_the_documented_ones() -> None:
    grey = decode(ENCODED["grey png"])
    np.testing.assert_array_equal(grey, np.repeat(picture()[..., :1], 3, axis=2))
    np.testing.assert_array_equal(decode(ENCODED["rgba png"]), picture())
    np.testing.assert_array_equal(decode(ENCODED["16-bit png"]), DEEP >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    plain = Pil.fromarray(picture()[..., ::-1])
    exif = Pil.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    plain.save(buffer, "JPEG", exif=exif, quality=95, subsampling=0)
    upright = np.asarray(ImageOps.exif_transpose(Pil.open(buffer)))[..., ::-1]
    decoded = decode(buffer.getvalue())
    assert decoded.shape == upright.shape
    # Two JPEG decoders differ by a rounding; a wrong orientation differs by more than ten times that.
    assert np.abs(decoded.astype(int) - upright).mean() < 1


@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.97])
def test_a_cut_off_image_is_refused_and_named(kind: str, kept: float, tmp_path: Path) -> None:
    data = ENCODED[kind]
    path = tmp_path / "broken image.jpg"
    path.write_bytes(data)
    decode(path)  # whole, it decodes
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match=r"broken image\.jpg: ") as error:
        decode(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"not an image", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\xff\xd8" + b"\xff" * 99]
)
def test_no_image_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"x\.jpg"):
        decode(path)
    with pytest.raises(ImageError, match="encoded bytes"):
        decode(content)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    for name in ("folder.jpg", "missing.jpg", "x" * 300):
        with pytest.raises(ImageError, match=f"{name}: cannot be read"):
            decode(tmp_path / name)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2, 3), np.float32),
        np.zeros((0, 2, 3), np.uint8),
    ],
)
def test_an_array_of_another_kind_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected a uint8 H×W×3"):
        decode(array)


def test_an_array_is_returned_as_it_is() -> None:
    image = picture()
    assert decode(image) is image


def png_of(width: int, height: int) -> bytes:
    """A PNG header that promises more than the file holds."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(ENCODED["jpeg"])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("data", [png_of(1 << 15, (1 << 13) + 1), jpeg_of(1 << 15, (1 << 13) + 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(ImageError, match=f"32768×8193 pixels, expected 1 to {MAX_PIXELS}"):
        decode(data)


def test_more_pixels_than_opencv_takes_is_one_line() -> None:
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + b"\0" * 6 + b","
    with pytest.raises(ImageError) as error:
        decode(gif)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png", "grey jpeg", "16-bit png"])
def test_the_size_is_read_from_the_header(kind: str) -> None:
    assert encoded_size(ENCODED[kind]) == (90, 60)


def test_the_size_is_that_of_the_image_not_of_its_thumbnail() -> None:
    exif = Pil.Exif()
    exif[0x010E] = "\xff\xc0" * 40  # looks like a start of frame, inside EXIF
    buffer = io.BytesIO()
    Pil.fromarray(picture()).save(buffer, "JPEG", exif=exif)
    assert encoded_size(buffer.getvalue()) == (90, 60)


def test_real_images_decode_as_mmcv_does(real_data: Path) -> None:
    paths = sorted(real_data.rglob("*.jpg"))[::40]
    assert paths
    for path in paths:
        data = path.read_bytes()
        expected = reference(data)
        np.testing.assert_array_equal(decode(path), expected)
        # EXIF may turn the picture after the header is read.
        assert sorted(encoded_size(data) or ()) == sorted(expected.shape[:2])
        with pytest.raises(ImageError):
            decode(data[: len(data) // 2])
