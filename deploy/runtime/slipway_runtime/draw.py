"""Drawing on images, for a person to look at."""

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

#: Red, green, blue.
Colour: TypeAlias = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
#: A legend's line in pixels: a 25th of the image's shorter edge, but no less than what can be read.
_LINES, _SMALLEST_LINE = 25, 12
#: A box's edge in pixels: a 300th of the image's shorter edge; its text's line is a 30th.
_EDGES, _BOX_LINES = 300, 30


def label(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of the image, uint8 H×W×3 BGR, with white text on black in its upper left corner.

    The text is as wide as the image at most and a tenth of its height; the font has ASCII only, the rest shows as ?.
    """
    height, width = image.shape[:2]
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, 1.0, 1)
    scale = min(height / 10 / text_height, width / text_width)
    right, bottom = round(text_width * scale), round((text_height + 2 * below) * scale)
    canvas = image.copy()
    cv2.rectangle(canvas, (0, 0), (right, bottom), _BLACK, cv2.FILLED)
    _write(canvas, text, (0, round((text_height + below) * scale)), scale)
    return canvas


def overlay(
    image: NDArray[np.uint8], label_map: NDArray[np.uint8], palette: Sequence[Colour], opacity: float
) -> NDArray[np.uint8]:
    """The image, uint8 H×W×3 BGR, mixed with the colours of its label map, uint8 H×W; `opacity` is the colours' share."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = np.array(palette, np.uint8)[:, ::-1]
    colours = cv2.applyColorMap(label_map, table)
    return cv2.addWeighted(image, 1 - opacity, colours, opacity, 0)  # type: ignore[return-value]


def legend(image: NDArray[np.uint8], entries: Sequence[tuple[str, Colour]]) -> NDArray[np.uint8]:
    """A copy of the image with a list of names, each after its colour, white on black in the upper left corner.

    It is as wide as the image and half as high at most; of more names the first are listed. ASCII as in `label`.
    """
    height, width = image.shape[:2]
    line = max(_SMALLEST_LINE, min(height, width) // _LINES)
    room = max(1, height // 2 // line)
    if len(entries) > room:
        entries = [*entries[: room - 1], (f"+{len(entries) - room + 1} more", _BLACK)]
    widest = max((cv2.getTextSize(name, _FONT, 1.0, 1)[0][0] for name, _ in entries), default=0)
    text_height = cv2.getTextSize("Hg", _FONT, 1.0, 1)[0][1]
    line = min(line, max(1, int(width * line / (1.5 * line + widest * line * 0.6 / text_height))))
    scale = line * 0.6 / text_height
    canvas = image.copy()
    cv2.rectangle(canvas, (0, 0), (round(1.5 * line + widest * scale), len(entries) * line), _BLACK, cv2.FILLED)
    for row, (name, colour) in enumerate(entries):
        top, inset = row * line, max(1, line // 6)
        swatch = (inset, top + inset), (line - inset, top + line - inset)
        cv2.rectangle(canvas, *swatch, colour[::-1], cv2.FILLED)
        _write(canvas, name, (round(1.2 * line), top + round(0.8 * line)), scale)
    return canvas


def tint(canvas: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour, opacity: float) -> None:
    """Mix a colour into the pixels of a mask, bool H×W, on the canvas itself, uint8 H×W×3 BGR."""
    top, left, height, width = _extent(mask)
    part, inside = canvas[top : top + height, left : left + width], mask[top : top + height, left : left + width]
    mixed = part[inside] * np.float32(1 - opacity) + np.array(colour[::-1], np.float32) * np.float32(opacity)
    part[inside] = np.rint(mixed)


def box(canvas: NDArray[np.uint8], corners: Sequence[float], text: str, colour: Colour) -> None:
    """Draw a box, x1, y1, x2, y2 in pixels, and its text on the canvas itself, uint8 H×W×3 BGR.

    The text stands above the box, or inside where there is no room, on the box's colour, and within the image.
    """
    height, width = canvas.shape[:2]
    shorter = min(height, width)
    # OpenCV's edges go around pixel centres, and its numbers have 32 bits.
    x1, x2 = (round(min(max(x - 0.5, -1), width)) for x in corners[::2])
    y1, y2 = (round(min(max(y - 0.5, -1), height)) for y in corners[1::2])
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour[::-1], max(1, round(shorter / _EDGES)))
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, 1.0, 1)
    line = max(_SMALLEST_LINE, shorter // _BOX_LINES)
    scale = min(line * 0.6 / text_height, width / (text_width + text_height), height / (text_height + 2 * below))
    line, across = round(scale * (text_height + 2 * below)), round(scale * (text_width + text_height))
    left = max(0, min(x1, width - across))
    bottom = min(y1 if y1 >= line else y1 + line, height)
    cv2.rectangle(canvas, (left, bottom - line), (left + across, bottom), colour[::-1], cv2.FILLED)
    at = left + round(scale * text_height / 2), bottom - round(scale * below)
    _write(canvas, text, at, scale, _BLACK if _is_light(colour) else _WHITE)


def _extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, left, height and width of what a mask holds."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return top, left, height, width


def _is_light(colour: Colour) -> bool:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue > 128


def _write(canvas: NDArray[np.uint8], text: str, at: tuple[int, int], scale: float, colour: Colour = _WHITE) -> None:
    cv2.putText(canvas, text, at, _FONT, scale, colour, max(1, round(1.5 * scale)), cv2.LINE_AA)
