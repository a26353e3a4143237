"""What one process is asked to measure, and what it found: all that goes in and out of a cell."""

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, PositiveInt

from benchmarks.inputs import Size
from benchmarks.matrix import Boundary, Precision, Scenario
from benchmarks.timing import TimerSettings, Timing

#: What happens to an image from file to prediction, in order.
Stage: TypeAlias = Literal["decode", "preprocess", "h2d", "compute", "d2h", "postprocess"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Spec(_Model):
    """What one process measures.

    Attributes:
        shape: height and width that inputs are resized to; None: as the test pipeline gives them.
        inputs: different batches that take turns.
        threads: inside an operator.
        stages: take `e2e` apart, besides.
        accuracy_batch_size: measure accuracy too, with this batch.
    """

    work: Path
    experiment: str
    backend: str
    precision: Precision
    device: str
    batch: PositiveInt
    shape: Size | None = None
    repetition: int
    boundaries: tuple[Boundary, ...]
    scenarios: tuple[Scenario, ...] = ("stream",)
    stages: bool = False
    inputs: PositiveInt
    threads: PositiveInt
    seed: int
    timer: TimerSettings
    accuracy_batch_size: PositiveInt | None = None


class Outcome(_Model):
    """What one process found.

    Attributes:
        status: "unavailable": this machine or this graph cannot do it. "failed": it should have worked.
        reason: why not, or why not all boundaries, in one line.
        built: how the artifact was built, in one line, where it is built of the bundle's graph.
        timings: one a boundary; of a boundary that could not be timed there is none, and a reason.
        offline: of `e2e`, a sample being a pass over `offline_images` images that are all there at once.
        stages_us: each stage of single images, one after the other in one thread.
        sizes: a boundary's different inputs, height and width: of images for `e2e`, else of what the graph takes.
        peak_rss_mib: most resident memory of the process until the timing ended, in MiB.
        peak_device_mib: of the GPU's memory, likewise; None on the CPU or where nothing tells.
        timed_until_s: when the timing ended, in seconds since the epoch.
        images: images that accuracy was counted over.
        accuracy: metric values, headline first; empty where this process measured none.
        per_image: what the metric keeps of each image, packed (`deploy.metrics`), for paired comparisons.
    """

    status: Literal["ok", "unavailable", "failed"] = "ok"
    reason: str | None = None
    built: str | None = None
    timings: dict[Boundary, Timing] = {}
    offline: Timing | None = None
    offline_images: int = 0
    stages_us: dict[Stage, list[float]] = {}
    sizes: dict[Boundary, list[Size]] = {}
    peak_rss_mib: float | None = None
    peak_device_mib: float | None = None
    timed_until_s: float | None = None
    images: int = 0
    accuracy: dict[str, float] = {}
    per_image: str | None = None


class Sighting(_Model):
    """The machine at one moment of a cell; None: it does not tell.

    Attributes:
        at_s: seconds since the cell's process started.
        cpu_mhz: lowest, median and highest clock of the cores that may be used.
        load: threads that run or want to at this moment, the whole machine's, without the one that looks.
        gpu_mhz: the clock of the GPU's multiprocessors.
        gpu_w: what the GPU's board draws.
        gpu_mib: its memory that is taken, by whatever process.
        throttle: the GPU's reasons to hold its clock back, by name.
    """

    at_s: float
    cpu_mhz: tuple[float, float, float] | None = None
    load: float | None = None
    gpu_mhz: float | None = None
    gpu_w: float | None = None
    gpu_mib: float | None = None
    throttle: list[str] = []


class Trace(_Model):
    """What the machine did while a cell ran. `started_s`: since the epoch."""

    cell: str
    started_s: float
    sightings: list[Sighting]
