"""Plans of small graphs and of the small bundles, built by TensorRT's stand-in (tests/trt)."""

from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
from trt_fixtures import graph, write_plan

from slipway_runtime import manifest as m
from slipway_runtime import open_session
from slipway_runtime import plan as p
from slipway_runtime.sessions.tensorrt import TensorRtSession

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
WIDE: Shapes = ((1, 3, 4, 4), (2, 3, 32, 32), (4, 3, 128, 128))


def planned(
    bundle: Path, trt: ModuleType, profiles: tuple[Shapes, ...] = (WIDE,), name: str = "fp32-1.plan", **options: Any
) -> Path:
    """Build a plan of a bundle's graph where the bundle keeps its own."""
    return write_plan(trt, onnx.load(bundle / m.GRAPH_NAME), bundle / p.FOLDER / name, profiles, **options)


def plan_of(trt: ModuleType, folder: Path, *arguments: Any, profiles: tuple[Shapes, ...] = (), **options: Any) -> Path:
    """Build a plan of a graph of `trt_fixtures.graph`."""
    return write_plan(trt, graph(*arguments), folder / "x.plan", profiles, **options)


def session_of(path: Path) -> TensorRtSession:
    session = open_session(path, device="cuda")
    assert isinstance(session, TensorRtSession)
    return session
