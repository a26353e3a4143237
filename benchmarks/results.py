"""What was measured, as reports and gates see it: rows, accuracy, raw samples, and everything that explains them.

All of it is worked out anew from `results.jsonl` (`benchmarks.journal`, `benchmarks.rows`) whenever it is asked for.
"""

from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from benchmarks.environment import Environment
from benchmarks.inputs import Size
from benchmarks.matrix import Boundary, Matrix, Precision, Scenario
from benchmarks.outcome import Trace
from train.errors import InputError

Status: TypeAlias = Literal["ok", "invalid", "unavailable", "failed", "pending"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Interval(_Model):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Row(_Model):
    """One measured cell at one boundary. A latency is of one call, which handles `batch` units.

    Attributes:
        shape: the height and width that inputs were resized to for timing; None: as the test pipeline gives them.
        scenario: "stream": a call after another, each timed. "offline": all images are there at once; latencies are of a
            pass over them.
        unit: "window" where the graph takes an image in several parts, at the boundaries of the graph alone.
        sizes: height and width of the different inputs, smallest first: of images for `e2e`, else of what the graph takes.
        status: "ok"; "invalid": the timer did not settle; "unavailable": not on this machine; "failed": it broke;
            "pending": an interrupted run did not come to it.
        reason: of any status but "ok".
        samples: timed calls, over all repetitions.
        latency_ms_median: with its bootstrap interval.
        latency_ms_p90: None where there are too few samples for it (`benchmarks.stats`).
        throughput_ips: images a second, measured over the timed loops; None where the unit is no image.
        speedup: against the strongest PyTorch row of the same batch, shape, scenario and boundary; None where there is no
            other such row, or either is not ok.
        strongest: the key of that row.
        speedup_eager: against eager PyTorch in fp32.
        speedup_fp32: against the same backend in fp32.
        peak_rss_mib: the largest of the repetitions' processes.
        peak_device_mib: of the GPU's memory, the same.
        energy_j_per_image: over the timed loops, of what the platform counts (`energy_source`); None where it counts none.
        stages_ms: the median of each step from file to prediction, on `e2e` rows of the stream: decode, preprocess, h2d,
            compute, d2h, postprocess; empty where they were not taken apart.
        artifact_sha256: of the file that was measured.
        built: how that file was built of the bundle's graph, where it was.
        bundle_sha256: of the bundle's manifest.
    """

    experiment: str
    backend: str
    device: str
    precision: Precision
    batch: int
    shape: Size | None = None
    scenario: Scenario = "stream"
    boundary: Boundary
    unit: Literal["image", "window"] = "image"
    sizes: list[Size] = []
    artifact_sha256: str
    built: str | None = None
    bundle_sha256: str
    status: Status
    reason: str | None = None
    repetitions: int = 0
    samples: int = 0
    latency_ms_median: Interval | None = None
    latency_ms_p90: float | None = None
    latency_ms_p95: float | None = None
    latency_ms_p99: float | None = None
    throughput_ips: float | None = None
    speedup: Interval | None = None
    strongest: str | None = None
    speedup_eager: Interval | None = None
    speedup_fp32: Interval | None = None
    peak_rss_mib: float | None = None
    peak_device_mib: float | None = None
    energy_j_per_image: float | None = None
    energy_source: str | None = None
    stages_ms: dict[str, float] = {}

    @property
    def key(self) -> str:
        """What sets the row apart within its experiment, and names its samples: "pytorch cpu fp32 b8 model"."""
        return row_key(self.backend, self.device, self.precision, self.batch, self.shape, self.scenario, self.boundary)

    @property
    def group(self) -> tuple[int, Size | None, Scenario, Boundary]:
        """What rows share that are compared with one another."""
        return self.batch, self.shape, self.scenario, self.boundary


def row_key(
    backend: str, device: str, precision: str, batch: int, shape: Size | None, scenario: Scenario, boundary: Boundary
) -> str:
    """The name of a row within its experiment."""
    words = [backend, device, precision, f"b{batch}", "{}x{}".format(*shape) if shape else "", boundary]
    return " ".join(filter(None, [*words, "offline" if scenario == "offline" else ""]))


class Comparison(_Model):
    """How an artifact's accuracy differs from the baseline's on the same images, image by image.

    Attributes:
        points: difference of the headline metric, in percentage points, with its 95 % interval.
        method: how the interval was made, "paired bootstrap over images, 2000 resamples".
        p_value: of McNemar's exact test, for top-1; None for other metrics.
        better, worse: images that only this one, or only the baseline has right (top-1).
    """

    points: Interval
    method: str
    p_value: float | None = None
    better: int | None = None
    worse: int | None = None


class Accuracy(_Model):
    """A backend's metric values over the whole validation set, in percent, headline first; "name/class": of a class.

    Attributes:
        interval: of the headline, by bootstrap over images; None where the metric keeps nothing by image.
        difference: from the baseline; None for itself and where either keeps nothing by image.
    """

    backend: str
    device: str
    precision: Precision
    artifact_sha256: str
    images: int
    values: dict[str, float]
    interval: Interval | None = None
    difference: Comparison | None = None

    @property
    def headline(self) -> tuple[str, float]:
        """Name and value of the metric that the gate looks at."""
        return next(iter(self.values.items()))


class Results(_Model):
    """All of one experiment.

    Attributes:
        samples_us: row key → repetition → latency of each call in microseconds.
        traces: what the machine did while cells ran, one a cell, in the order in which they ran.
    """

    experiment: str
    task: str
    device: str
    date_utc: str
    bundle_sha256: str
    data_fingerprint: str
    parity_passed: bool | None
    environment: Environment
    matrix: Matrix
    rows: list[Row]
    accuracy: list[Accuracy]
    samples_us: dict[str, list[list[float]]]
    traces: list[Trace] = []

    @property
    def ran(self) -> bool:
        """Whether anything could run here at all."""
        return any(row.status not in ("unavailable", "pending") for row in self.rows)

    def accuracy_of(self, row: Row) -> Accuracy | None:
        """The accuracy of what a row measured."""
        return next((a for a in self.accuracy if (a.backend, a.precision) == (row.backend, row.precision)), None)

    def summary(self) -> dict[str, Any]:
        """Everything but raw samples and traces."""
        return self.model_dump(mode="json", exclude={"samples_us", "traces"})


def read(path: Path) -> Results:
    """The results that a journal holds.

    Raises:
        InputError: see `journal.read`; or there is no run in it.
    """
    from benchmarks import journal, rows

    records = journal.read(path)
    if not any(isinstance(record, journal.Run) for record in records):
        raise InputError(f"{path}: expected benchmark results, found no run; run python -m benchmarks run first")
    return rows.assemble(records)
