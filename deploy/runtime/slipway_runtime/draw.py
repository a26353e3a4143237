"""Drawing on images, for a person to look at."""

import cv2
import numpy as np
from numpy.typing import NDArray

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def label(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of the image, uint8 H×W×3 BGR, with white text on black in its upper left corner.

    The text is as wide as the image at most and a tenth of its height; the font has ASCII only, the rest shows as ?.
    """
    height, width = image.shape[:2]
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, 1.0, 1)
    scale = min(height / 10 / text_height, width / text_width)
    right, bottom = round(text_width * scale), round((text_height + 2 * below) * scale)
    canvas = image.copy()
    cv2.rectangle(canvas, (0, 0), (right, bottom), (0, 0, 0), cv2.FILLED)
    baseline = round((text_height + below) * scale)
    cv2.putText(canvas, text, (0, baseline), _FONT, scale, (255, 255, 255), max(1, round(scale)), cv2.LINE_AA)
    return canvas
