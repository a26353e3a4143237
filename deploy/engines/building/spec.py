"""What the process that builds is told, and what it answers: two JSON files."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from slipway_runtime.plan import Options

#: How a line of progress begins, and a line of TensorRT's own log, on the process's stderr.
PROGRESS = "progress: "
LOG = "tensorrt: "


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spec(_Model):
    """What to build.

    Attributes:
        graph: an ONNX file, as this TensorRT is given it.
        input: the name of the graph's input.
        options: precision, profiles and the rest.
        plan: where to write the plan.
        timing_cache: where measured kernels are kept from one build to the next.
        parent: the process that waits for the answer.
    """

    graph: Path
    input: str
    options: Options
    plan: Path
    timing_cache: Path
    parent: int


class Answer(_Model):
    """What was built.

    Attributes:
        inspector: what the engine inspector says, TensorRT's JSON.
        build_seconds: how long TensorRT took.
        timing_cache: "new": there was none; "damaged": nor was what lay there one.
    """

    inspector: str
    build_seconds: float
    timing_cache: Literal["reused", "new", "damaged"]
