"""Classification: a score a class → the best classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_runtime import draw, tasks
from slipway_runtime.manifest import ClassificationOutput, Manifest
from slipway_runtime.preprocess import Prepared


@dataclass(frozen=True, eq=False)
class Result(tasks.Result):
    """The best classes of one image, best first; of equal scores the lower label comes first.

    Attributes:
        labels: int64 (K,), indices into the manifest's classes.
        names: the K class names.
        scores: float32 (K,), between 0 and 1.
    """

    labels: NDArray[np.int64]
    names: tuple[str, ...]
    scores: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """`{"task": "classification", "top": [{"label": 3, "name": "cat", "score": 0.98}, …]}`."""
        rows = zip(self.labels.tolist(), self.names, self.scores.tolist(), strict=True)
        top = [{"label": label, "name": name, "score": score} for label, name, score in rows]
        return {"task": "classification", "top": top}

    def line(self) -> str:
        """`cat (0.980)  dog (0.012)`."""
        return "  ".join(f"{name} ({score:.3f})" for name, score in zip(self.names, self.scores, strict=True))

    def draw(self, image: NDArray[np.uint8], opacity: float = 0.5) -> NDArray[np.uint8]:
        """The best class and its score in the upper left corner."""
        return draw.label(image, f"{self.names[0]} {self.scores[0]:.2f}")


def predict(manifest: Manifest, batch: Sequence[Prepared], run: tasks.Run) -> list[tasks.Result]:
    """Sort each image's scores, (N, C), and keep the manifest's `topk` best."""
    output = manifest.postprocess
    assert isinstance(output, ClassificationOutput)
    scores = run([prepared.array for prepared in batch])[manifest.outputs[0].name]
    best = np.argsort(-scores, axis=1, kind="stable")[:, : output.topk]
    return [
        Result(labels, tuple(manifest.classes[label] for label in labels), row[labels])
        for labels, row in zip(best, scores, strict=True)
    ]
