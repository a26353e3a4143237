"""What `ort_infer --benchmark --json` prints: one JSON object."""

from typing import TypeAlias

from pydantic import BaseModel, PositiveInt, ValidationError

from benchmarks.inputs import Size
from benchmarks.matrix import Boundary
from benchmarks.timing import Timing
from train.errors import MeasurementError


class Timed(BaseModel):
    """One boundary; `invalid` alone where the images give no batch for it."""

    samples_us: list[float] = []
    wall_s: float = 0.0
    warmup_us: list[float] = []
    invalid: str | None = None
    sizes: list[Size] = []

    def timing(self) -> Timing:
        """As the harness's own timer gives it."""
        return Timing(
            samples_us=[round(value, 1) for value in self.samples_us],
            wall_s=self.wall_s,
            warmup_us=[round(value, 1) for value in self.warmup_us],
            invalid=self.invalid,
        )


class Folder(BaseModel):
    """Rounds over all images: seconds of the graph alone, and of all from file to prediction, one after the other."""

    images: PositiveInt
    graph_s: list[float]
    whole_s: list[float]


#: An output's name → the SHA-256 of its bytes in C order, float16 as float32; of one batch.
Hashes: TypeAlias = dict[str, str]


class Answers(BaseModel):
    """What was answered, in the order of the inputs.

    Attributes:
        e2e: for each image, the line that `--json` prints of it, without its end.
        label_maps: for each image of a segmenter, the SHA-256 of the uint8 label map of H×W bytes.
        model, host: for each batch, its outputs.
    """

    e2e: list[str] = []
    label_maps: list[str] = []
    model: list[Hashes] = []
    host: list[Hashes] = []


class Stages(BaseModel):
    """Microseconds of each stage of one image's way; sample k of each is of image k modulo their number."""

    decode: list[float]
    preprocess: list[float]
    compute: list[float]
    postprocess: list[float]


class Report(BaseModel):
    """What was measured.

    Attributes:
        boundaries: sample k of each is of input k modulo their number.
        folder: where that was measured.
        answers: those of the last timed calls.
        expected: those of the graph on the same batches, `model` and `host`, when no clock runs.
        stages_us, stages_invalid: the stages, and why they must not be trusted.
        peak_rss_mib: of the program's process.
    """

    boundaries: dict[Boundary, Timed] = {}
    folder: Folder | None = None
    answers: Answers | None = None
    expected: Answers | None = None
    stages_us: Stages | None = None
    stages_invalid: str | None = None
    peak_rss_mib: float


def read(printed: str, boundary: str) -> Report:
    """Parse a report of one boundary, which may be "folder".

    Raises:
        MeasurementError: that is no such report.
    """
    try:
        report = Report.model_validate_json(printed)
    except ValidationError:
        report = None
    if report is None or boundary not in {*report.boundaries, *(["folder"] if report.folder else [])}:
        raise MeasurementError(f"ort_infer printed no measurement of {boundary}: {excerpt(printed)}")
    return report


def excerpt(printed: str) -> str:
    """The last line of what was printed, cut short, for a message."""
    last = next((line for line in reversed(printed.splitlines()) if line.strip()), "")
    return repr(last[:200]) if last else "nothing"
