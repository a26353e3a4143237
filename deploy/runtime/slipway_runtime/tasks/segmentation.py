"""Semantic segmentation: logits → a label a pixel, at the image's own size, as mmseg computes it.

The order of operations is that of `mmseg/models/segmentors/encoder_decoder.py` (`slide_inference`), of the heads'
`predict_by_feat`, and of `mmseg/models/segmentors/base.py` (`postprocess_result`). Resizing and comparing go block by
block of rows and class by class: logits at the image's size would be 1.2 GB for 150 classes at 1080×1920.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_runtime import draw, files, png, tasks
from slipway_runtime.manifest import Manifest, SegmentationOutput, Window
from slipway_runtime.preprocess import Prepared
from slipway_runtime.resize import Resize, rows
from slipway_runtime.sigmoid import highest_outside

#: Endings of what `Result.beside` holds.
BESIDE = (".labels.png",)

#: Pixels of one block; 4 bytes each, a few such blocks stay in a core's cache.
_BLOCK = 1 << 17
#: How many classes `line` names.
_NAMED = 5


@dataclass(frozen=True, eq=False)
class Result(tasks.Result):
    """The label of each pixel of one image.

    Attributes:
        label_map: uint8 H×W at the image's own size, indices into `names`.
        names: the name of every class.
        palette: RGB of every class.
    """

    label_map: NDArray[np.uint8]
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def pixels(self) -> dict[int, int]:
        """Label → number of pixels, for the classes present; most pixels first, of equal ones the lower label."""
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")
        return {label: count for label, count in zip(order.tolist(), counts[order].tolist(), strict=True) if count}

    def to_dict(self) -> dict[str, Any]:
        """`{"task": "segmentation", "width": …, "height": …, "classes": [{"label", "name", "pixels", "share"}, …]}`.

        The classes present, most pixels first; `share` is of the image's pixels, between 0 and 1.
        """
        height, width = self.label_map.shape
        classes = [
            {"label": label, "name": self.names[label], "pixels": count, "share": count / self.label_map.size}
            for label, count in self.pixels().items()
        ]
        return {"task": "segmentation", "width": width, "height": height, "classes": classes}

    def line(self) -> str:
        """`road 45.2 %  sky 30.1 %`: the five largest classes, then how many more."""
        of = self.label_map.size
        found = [f"{self.names[label]} {100 * count / of:.1f} %" for label, count in self.pixels().items()]
        more = [f"+{len(found) - _NAMED} more"] if len(found) > _NAMED else []
        return "  ".join(found[:_NAMED] + more)

    def draw(self, image: NDArray[np.uint8], opacity: float = 0.5) -> NDArray[np.uint8]:
        """The image under its classes' colours, `opacity` of 0 to 1, with the names of the classes present."""
        entries = [(self.names[label], self.palette[label]) for label in self.pixels()]
        return draw.legend(draw.overlay(image, self.label_map, self.palette, opacity), entries)

    def area(self, labels: Collection[int] | None = None) -> NDArray[np.bool_]:
        """The pixels of these classes, bool H×W; of all, every pixel."""
        wanted = np.zeros(len(self.names), bool)
        wanted[slice(None) if labels is None else list(labels)] = True
        return wanted[self.label_map]

    def beside(self) -> dict[str, bytes]:
        """The label map as an index PNG."""
        return {BESIDE[0]: self.to_png()}

    def to_png(self) -> bytes:
        """The label map as an index PNG with the palette: a pixel's value is its label."""
        return png.encode(self.label_map, self.palette)

    def save(self, path: str | Path) -> None:
        """Write the label map as an index PNG with the palette, whole or not at all.

        Raises:
            UsageError: a place that cannot be written to.
        """
        files.write(Path(path), self.to_png())


def predict(manifest: Manifest, batch: Sequence[Prepared], run: tasks.Run) -> list[tasks.Result]:
    """Put the images, or their windows in turn, through the graph, and label each pixel of each image."""
    output = manifest.postprocess
    assert isinstance(output, SegmentationOutput)
    assert manifest.palette
    name = manifest.outputs[0].name
    if output.window:
        logits = _slide(batch, lambda arrays: run(arrays)[name], output.window, output.align_corners)
    else:
        logits = run([prepared.array for prepared in batch])[name]
    return [
        Result(_labels(own, prepared, output), manifest.classes, manifest.palette)
        for own, prepared in zip(logits, batch, strict=True)
    ]


def inputs(manifest: Manifest, prepared: Prepared) -> list[NDArray[np.float32]]:
    """The whole image, or its windows, row by row."""
    output = manifest.postprocess
    assert isinstance(output, SegmentationOutput)
    if not output.window:
        return [prepared.array]
    return [prepared.array[:, down, across] for down, across in _windows(prepared.array.shape[1:], output.window)]


def _windows(size: tuple[int, ...], window: Window) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each window: at each stride, moved back where it would end outside the image."""
    height, width = size
    for top in _starts(height, window.height, window.stride_height):
        for left in _starts(width, window.width, window.stride_width):
            yield slice(top, min(top + window.height, height)), slice(left, min(left + window.width, width))


def _starts(size: int, window: int, stride: int) -> list[int]:
    last = max(size - window, 0)
    return [min(start, last) for start in range(0, last + stride, stride)]


def _slide(
    batch: Sequence[Prepared],
    run: Callable[[Sequence[NDArray[np.float32]]], NDArray[np.float32]],
    window: Window,
    align_corners: bool,
) -> NDArray[np.float32]:
    """Logits of images, N×C×H×W, averaged over the windows that hold a pixel."""
    height, width = batch[0].array.shape[1:]
    count = np.zeros((height, width), np.float32)
    total: NDArray[np.float32] | None = None
    for down, across in _windows((height, width), window):
        logits = run([prepared.array[:, down, across] for prepared in batch])
        if total is None:
            total = np.zeros((*logits.shape[:2], height, width), np.float32)
        part, size = total[:, :, down, across], (down.stop - down.start, across.stop - across.start)
        if logits.shape[2:] == size:
            part += logits
        else:
            enlarge = Resize(logits.shape[2:], size, align_corners)
            for at in np.ndindex(logits.shape[:2]):
                part[at] += enlarge(logits[at])
        count[down, across] += 1
    assert total is not None
    total /= count
    return total


def _labels(logits: NDArray[np.float32], prepared: Prepared, output: SegmentationOutput) -> NDArray[np.uint8]:
    """C×h×w logits of one image → its label map, at the image's own size."""
    size: tuple[int, int] = prepared.array.shape[1:]
    steps = [Resize(prepared.content, prepared.original, output.align_corners)]
    if logits.shape[1:] != size:
        steps.insert(0, Resize(logits.shape[1:], size, output.align_corners))
    height, width = prepared.original
    labels = np.zeros((height, width), np.uint8)
    step = max(1, _BLOCK // width)
    for start in range(0, height, step):
        stop = min(start + step, height)
        planes = (rows(plane, steps, start, stop) for plane in logits)
        block = labels[start:stop]
        if output.threshold is None:
            _argmax(planes, block)
        else:
            block[:] = next(planes) > highest_outside(output.threshold)
    return labels


def _argmax(planes: Iterator[NDArray[np.float32]], labels: NDArray[np.uint8]) -> None:
    """Write for each pixel which plane is the largest, the first of equal ones; `labels` holds zeros."""
    best = next(planes).copy()
    for label, plane in enumerate(planes, 1):
        np.copyto(labels, label, where=plane > best)
        np.maximum(best, plane, out=best)
