"""Small real bundles and images of their classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundles import WEIGHT, build_graph, build_manifest, build_segmenter, save, segmenter_manifest, write_bundle

BundleMaker = Callable[..., Path]


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
