"""Small real bundles and images of their classes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tiny_bundles import (
    WEIGHT,
    build_detector,
    build_graph,
    build_manifest,
    build_segmenter,
    detector_manifest,
    save,
    segmenter_manifest,
    write_bundle,
)
from trt_fixtures import playing

BundleMaker = Callable[..., Path]


@pytest.fixture
def trt() -> Iterator[ModuleType]:
    """TensorRT's stand-in of one version, for what does not depend on it."""
    with playing() as module:
        yield module


@pytest.fixture
def make_bundle(tmp_path: Path) -> BundleMaker:
    """Call it to write a bundle; `weight` and `shape` change the graph, other arguments the manifest."""

    def make(name: str = "bundle", weight: np.ndarray = WEIGHT, **fields: Any) -> Path:
        shape = fields.get("shape", ("batch", 3, "height", "width"))
        return write_bundle(tmp_path / name, build_graph(weight, shape), build_manifest(**fields))

    return make


@pytest.fixture
def make_segmenter(tmp_path: Path) -> BundleMaker:
    """Call it to write a segmenter's bundle; `weight` and `stride` change the graph, other arguments the manifest."""

    def make(name: str = "segmenter", weight: np.ndarray = WEIGHT, stride: int = 1, **fields: Any) -> Path:
        return write_bundle(tmp_path / name, build_segmenter(weight, stride), segmenter_manifest(**fields))

    return make


@pytest.fixture
def make_detector(tmp_path: Path) -> BundleMaker:
    """Call it with rows (x1, y1, x2, y2, score, label) in an input of 64 pixels to write a detector's bundle.

    `masks`, K×h×w, are over the boxes; other arguments change the manifest.
    """

    def make(
        rows: Sequence[Sequence[float]], masks: np.ndarray | None = None, name: str = "detector", **fields: Any
    ) -> Path:
        table = np.array(rows, np.float32).reshape(-1, 6)
        graph = build_detector(table[:, :5], table[:, 5].astype(np.int64), masks)
        manifest = detector_manifest(None if masks is None else masks.shape[1:], **fields)
        return write_bundle(tmp_path / name, graph, manifest)

    return make


@pytest.fixture
def detector(make_detector: BundleMaker) -> Path:
    """A green thing at the upper left with a whole mask, a red one over all of the right half, and an unlikely blue one."""
    rows = [(8, 8, 24, 24, 0.9, 1), (32, 0, 64, 64, 0.5, 2), (0, 0, 64, 64, 0.25, 0), (0, 0, 0, 0, 0, -1)]
    return make_detector(rows, np.ones((4, 7, 7), np.float32))


@pytest.fixture
def bundle(make_bundle: BundleMaker) -> Path:
    return make_bundle()


@pytest.fixture
def segmenter(make_segmenter: BundleMaker) -> Path:
    return make_segmenter()


@pytest.fixture
def colours(tmp_path: Path) -> dict[str, Path]:
    """An image a colour, named after the class it belongs to."""
    bgr = {"blue": (255, 0, 0), "green": (0, 255, 0), "red": (0, 0, 255), "grey": (255, 255, 255)}
    return {
        name: save(tmp_path / "images" / f"{name}.png", np.full((9, 7, 3), value, np.uint8))
        for name, value in bgr.items()
    }
