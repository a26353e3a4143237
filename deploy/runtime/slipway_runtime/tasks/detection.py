"""Detection and instance segmentation: boxes in the graph's input → boxes and masks in the image, as mmdet computes them.

Clipping is that of the box coders and heads (`img_shape`), scaling that of `_predict_by_feat_single` in
`mmdet/models/roi_heads/mask_heads/fcn_mask_head.py`; see `slipway_runtime.masks` for the masks.
"""

import colorsys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_runtime import draw, tasks
from slipway_runtime.draw import Colour
from slipway_runtime.errors import VerificationError
from slipway_runtime.manifest import DetectionOutput, Manifest
from slipway_runtime.masks import BoxMasks, ImageMasks, Masks, run_lengths
from slipway_runtime.preprocess import Prepared

#: How many detections `line` names.
_NAMED = 5
#: The part of a turn of hue between one instance and the next: the golden ratio's, so that neighbours differ.
_HUE = 0.618034


@dataclass(frozen=True, eq=False)
class Result(tasks.Result):
    """The detections in one image, best first, those below `score_threshold` too.

    Attributes:
        boxes: float32 N×4, x1, y1, x2, y2 in pixels of the image.
        scores: float32 (N,), between 0 and 1.
        labels: int64 (N,), indices into `names`.
        masks: N masks, bool H×W, each computed when it is asked for; None where the model has none.
        size: height and width of the image.
        names: the name of every class.
        palette: RGB of every class.
        score_threshold: detections below it are in no text and no drawing.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: Masks | None
    size: tuple[int, int]
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    score_threshold: float

    def shown(self) -> list[int]:
        """The indices of the detections with a score of `score_threshold` or more, best first."""
        return np.flatnonzero(self.scores >= np.float32(self.score_threshold)).tolist()

    def to_dict(self) -> dict[str, Any]:
        """`{"task": "detection", "width": …, "height": …, "detections": [{"label", "name", "score", "box", "mask"}, …]}`.

        The detections shown; `box` is x1, y1, x2, y2; `mask`, where the model has any, COCO's uncompressed run lengths
        `{"size": [height, width], "counts": […]}`.
        """
        height, width = self.size
        detections = [self._detection(index) for index in self.shown()]
        return {"task": "detection", "width": width, "height": height, "detections": detections}

    def line(self) -> str:
        """`balloon 0.98  dog 0.95  +3 more`: the five best, then how many more."""
        found = [self._text(index) for index in self.shown()]
        more = [f"+{len(found) - _NAMED} more"] if len(found) > _NAMED else []
        return "  ".join(found[:_NAMED] + more) or f"nothing with a score of {self.score_threshold:g} or more"

    def draw(self, image: NDArray[np.uint8], opacity: float = 0.5) -> NDArray[np.uint8]:
        """Boxes with names and scores, and masks in colour, `opacity` of 0 to 1; the best on top.

        A class has its palette's colour; of masks of the same class everywhere, each has a colour of its own.
        """
        canvas, colours = image.copy(), self._colours()
        worst_first = self.shown()[::-1]
        if self.masks is not None:
            for index in worst_first:
                draw.tint(canvas, self.masks[index], colours[index], opacity)
        for index in worst_first:
            draw.box(canvas, self.boxes[index].tolist(), self._text(index), colours[index])
        return canvas

    def area(self, labels: Collection[int] | None = None) -> NDArray[np.bool_]:
        """The pixels of the detections shown, bool H×W; with labels, of these classes only.

        Raises:
            UsageError: a model without masks.
        """
        if self.masks is None:
            return super().area(labels)
        area = np.zeros(self.size, bool)
        for index in self.shown():
            if labels is None or self.labels[index] in labels:
                area |= self.masks[index]
        return area

    def settle(self) -> None:
        """Paste the masks of the detections shown."""
        if self.masks is not None:
            for index in self.shown():
                self.masks[index]

    def _detection(self, index: int) -> dict[str, Any]:
        label = int(self.labels[index])
        found = {"label": label, "name": self.names[label], "score": float(self.scores[index])}
        found["box"] = self.boxes[index].tolist()
        if self.masks is not None:
            found["mask"] = {"size": list(self.size), "counts": run_lengths(self.masks[index])}
        return found

    def _text(self, index: int) -> str:
        return f"{self.names[self.labels[index]]} {self.scores[index]:.2f}"

    def _colours(self) -> list[Colour]:
        if self.masks is None or len(self.names) > 1:
            return [self.palette[label] for label in self.labels]
        hues = [colorsys.hsv_to_rgb(index * _HUE % 1, 0.8, 1.0) for index in range(len(self.labels))]
        return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in hues]


def predict(manifest: Manifest, batch: Sequence[Prepared], run: tasks.Run) -> list[tasks.Result]:
    """Put the images through the graph; lead each one's detections back to the image.

    Raises:
        VerificationError: a label that is no class.
    """
    output = manifest.postprocess
    assert isinstance(output, DetectionOutput)
    assert manifest.palette
    outputs = run([prepared.array for prepared in batch])
    highest = outputs["labels"].max(initial=-1)
    if highest >= len(manifest.classes):
        raise VerificationError(
            f"{manifest.name}: label {highest}, of {len(manifest.classes)} classes from 0 on; verify the export"
        )
    results: list[tasks.Result] = []
    for index, prepared in enumerate(batch):
        found = outputs["labels"][index] >= 0
        dets, labels = outputs["dets"][index][found], outputs["labels"][index][found]
        boxes = _in_image(dets[:, :4], prepared, output.clip)
        masks = _masks(outputs["masks"][index][found], dets[:, :4], prepared, output) if output.masks else None
        shared = (prepared.original, manifest.classes, manifest.palette, output.score_threshold)
        results.append(Result(boxes, dets[:, 4], labels, masks, *shared))
    return results


def _in_image(boxes: NDArray[np.float32], prepared: Prepared, clip: bool) -> NDArray[np.float32]:
    """Boxes in pixels of the graph's input, N×4 → in pixels of the image."""
    if clip:
        height, width = prepared.content
        boxes = np.clip(boxes, np.float32(0), np.array([width, height] * 2, np.float32))
    scale: NDArray[np.float32] = np.array(prepared.scale_factor * 2, np.float32)
    return boxes / scale


def _masks(
    values: NDArray[np.float32], boxes: NDArray[np.float32], prepared: Prepared, output: DetectionOutput
) -> Masks:
    """What the graph gives for N detections, N×h×w, as masks of the image."""
    assert output.masks
    if output.masks.over == "box":
        # The boxes that the graph drew them over, uncut.
        return BoxMasks(values, _in_image(boxes, prepared, clip=False), prepared.original, output.masks.threshold)
    return ImageMasks(values, prepared, output.masks.threshold)
