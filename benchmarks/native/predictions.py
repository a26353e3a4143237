"""What `ort_infer --json` prints of each image → the results that the metrics take."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.native.reports import excerpt
from slipway_runtime.manifest import DetectionOutput, Manifest
from slipway_runtime.masks import Mask, Masks
from slipway_runtime.tasks import Result, classification, detection, segmentation
from train.data import label_maps
from train.errors import InputError, MeasurementError

#: What one line says.
Line: TypeAlias = dict[str, Any]


class Reader:
    """Makes results of lines.

    Args:
        manifest: the bundle's.
        folder: an empty one, for what the program writes.

    Attributes:
        options: what the program is called with besides `--json`.
    """

    options: tuple[object, ...] = ()

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self.manifest = manifest
        self.folder = folder

    def names(self, paths: Sequence[Path]) -> list[Path]:
        """The names under which the program gets these images."""
        return list(paths)

    def read(self, line: str, path: Path) -> Result:
        """The result for the image of that name.

        Raises:
            MeasurementError: the line is none of that image and this task.
        """
        try:
            said = json.loads(line)
            if (said["image"], said["task"]) == (str(path), self.manifest.task):
                return self.result(said, path)
        except (ValueError, KeyError, TypeError, InputError):
            pass
        raise MeasurementError(f"ort_infer printed no {self.manifest.task} of {path}: {excerpt(line)}")

    def result(self, said: Line, path: Path) -> Result:
        """What the line says, as `slipway_runtime` has it."""
        raise NotImplementedError


class _Classification(Reader):
    def __init__(self, manifest: Manifest, folder: Path) -> None:
        super().__init__(manifest, folder)
        self.options = ("--topk", len(manifest.classes))

    def result(self, said: Line, path: Path) -> Result:
        top = said["top"]
        return classification.Result(
            np.array([each["label"] for each in top], np.int64),
            tuple(each["name"] for each in top),
            np.array([each["score"] for each in top], np.float32),
        )


class _Detection(Reader):
    options = ("--score", 0)

    def result(self, said: Line, path: Path) -> Result:
        assert self.manifest.palette
        output, found = self.manifest.postprocess, said["detections"]
        assert isinstance(output, DetectionOutput)
        return detection.Result(
            np.array([each["box"] for each in found], np.float32).reshape(-1, 4),
            np.array([each["score"] for each in found], np.float32),
            np.array([each["label"] for each in found], np.int64),
            RunLengths([each["mask"] for each in found]) if output.masks else None,
            (said["height"], said["width"]),
            self.manifest.classes,
            self.manifest.palette,
            output.score_threshold,
        )


class _Segmentation(Reader):
    """Label maps are files; each is removed when it is read."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        super().__init__(manifest, folder)
        self.out = folder / "out"
        self.options = ("--out", self.out)

    def names(self, paths: Sequence[Path]) -> list[Path]:
        """Links, since images of several folders may have one name, and label maps lie in one folder."""
        links = [self.folder / f"{index}{path.suffix}" for index, path in enumerate(paths)]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.resolve())
        return links

    def result(self, said: Line, path: Path) -> Result:
        assert self.manifest.palette
        drawing = self.out / path.name
        label_map = drawing.with_suffix(segmentation.BESIDE[0])
        result = segmentation.Result(label_maps.load(label_map), self.manifest.classes, self.manifest.palette)
        drawing.unlink()
        label_map.unlink()
        return result


@dataclass(frozen=True, eq=False)
class RunLengths(Masks):
    """Masks from COCO's uncompressed run lengths, `{"size": [height, width], "counts": […]}`."""

    encoded: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.encoded)

    def _at(self, index: int) -> Mask:
        counts = self.encoded[index]["counts"]
        flat: NDArray[np.bool_] = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return flat.reshape(self.encoded[index]["size"], order="F")


READERS: dict[str, Callable[[Manifest, Path], Reader]] = {
    "classification": _Classification,
    "detection": _Detection,
    "segmentation": _Segmentation,
}


def reader(manifest: Manifest, folder: Path) -> Reader:
    """The reader of a bundle's task."""
    return READERS[manifest.task](manifest, folder)
