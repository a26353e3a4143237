"""`work/<experiment>/bench/results.json`: rows, accuracy, raw samples, and everything that explains them."""

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.environment import Environment
from benchmarks.inputs import Size
from benchmarks.matrix import Boundary, Matrix
from train.errors import InputError
from train.files import write_atomic

SCHEMA_VERSION = 1
#: Raise it whenever a change of this room alters what a number means; stored results are then measured anew.
HARNESS_VERSION = 2
FILE_NAME = "results.json"

Status = Literal["ok", "invalid", "unavailable", "failed"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ratio(_Model):
    """How many times faster than the baseline at the same batch and boundary, with its 95 % interval."""

    value: float
    low: float
    high: float


class Row(_Model):
    """One measured cell at one boundary. A latency is of one call, which handles `batch` units.

    Attributes:
        unit: "window" where the graph takes an image in several parts, at the boundaries of the graph alone.
        sizes: height and width of the different inputs, smallest first: of images for `e2e`, else of what the graph takes.
        status: "ok"; "invalid": the timer did not settle; "unavailable": not on this machine; "failed": it broke.
        reason: of any status but "ok".
        samples: timed calls, over all repetitions.
        latency_ms_p90: None where there are too few samples for it (`benchmarks.stats.min_samples`).
        throughput_ips: images a second, measured over the timed loops; None where the unit is no image.
        speedup: against the baseline; None for the baseline and where either row is not ok.
        peak_rss_mib: the largest of the repetitions' processes.
        artifact_sha256: of the file that was measured.
        bundle_sha256: of the bundle's manifest.
    """

    experiment: str
    backend: str
    device: str
    precision: str
    batch: int
    boundary: Boundary
    unit: Literal["image", "window"] = "image"
    sizes: list[Size] = []
    artifact_sha256: str
    bundle_sha256: str
    status: Status
    reason: str | None = None
    repetitions: int = 0
    samples: int = 0
    latency_ms_median: float | None = None
    latency_ms_p90: float | None = None
    latency_ms_p95: float | None = None
    latency_ms_p99: float | None = None
    throughput_ips: float | None = None
    speedup: Ratio | None = None
    peak_rss_mib: float | None = None

    @property
    def key(self) -> str:
        """What sets the row apart within its experiment, and names its samples: "pytorch cpu fp32 b8 model"."""
        return f"{self.backend} {self.device} {self.precision} b{self.batch} {self.boundary}"


class Accuracy(_Model):
    """A backend's metric values over the whole validation set, in percent, headline first; "name/class": of a class."""

    backend: str
    device: str
    precision: str
    artifact_sha256: str
    images: int
    values: dict[str, float]

    @property
    def headline(self) -> tuple[str, float]:
        """Name and value of the metric that the gate looks at."""
        return next(iter(self.values.items()))


class Results(_Model):
    """The content of `results.json`. `samples_us`: row key → repetition → latency of each call in microseconds."""

    schema_version: Literal[1] = 1
    experiment: str
    task: str
    fingerprint: str
    data_fingerprint: str
    parity_passed: bool | None
    environment: Environment
    matrix: Matrix
    rows: list[Row]
    accuracy: list[Accuracy]
    samples_us: dict[str, list[list[float]]]

    @property
    def ran(self) -> bool:
        """Whether anything could run here at all."""
        return any(row.status != "unavailable" for row in self.rows)

    def summary(self) -> dict[str, Any]:
        """Everything but the raw samples."""
        return self.model_dump(mode="json", exclude={"samples_us"})


def write(path: Path, results: Results) -> None:
    """Write results atomically as JSON, indented, a list of numbers on one line."""
    text = json.dumps(results.model_dump(mode="json"), indent=1, allow_nan=False)
    write_atomic(path, re.sub(r"\[[\d.,\s]+\]", lambda match: " ".join(match[0].split()), text) + "\n")


def read(path: Path) -> Results:
    """Read results.

    Raises:
        InputError: no such file, another schema version, or a field that does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(f"{path}: schema_version {version!r}, this program reads {SCHEMA_VERSION}; measure again")
        return Results.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; measure again with --force")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected benchmark results, found {error}; run python -m benchmarks run first")
