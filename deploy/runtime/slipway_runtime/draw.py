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


def _write(canvas: NDArray[np.uint8], text: str, at: tuple[int, int], scale: float) -> None:
    cv2.putText(canvas, text, at, _FONT, scale, _WHITE, max(1, round(1.5 * scale)), cv2.LINE_AA)
