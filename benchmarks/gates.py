"""Whether results may be relied on: what makes a run end with an exit code other than 0. `configs/bench/gates.yaml`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from benchmarks.matrix import BASELINE, Boundary, Precision, Scenario
from benchmarks.results import Accuracy, Interval, Results, Row
from train.cli import nearest
from train.errors import BackendError, MeasurementError, SlipwayError, UsageError, VerificationError

#: A difference of counts, divided: below this it is the division's rounding.
_ROUNDING = 1e-9
Status: TypeAlias = Literal["pass", "fail", "undecided"]
NotNegative = Annotated[float, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AccuracyLimit(_Model):
    """One of the two: `points`, how far the headline may lie off, or `percent`, the least share of the baseline's."""

    points: NotNegative | None = None
    percent: Annotated[float, Field(ge=0, le=100)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "AccuracyLimit":
        if (self.points is None) == (self.percent is None):
            raise ValueError("expected either points or percent")
        return self

    def holds(self, value: float, base: float) -> bool:
        """Whether a headline keeps the limit; both in percent."""
        if self.points is not None:
            return abs(value - base) <= self.points + _ROUNDING
        assert self.percent is not None
        return value >= base * self.percent / 100 - _ROUNDING

    def __str__(self) -> str:
        return f"at most {self.points} points off" if self.points is not None else f"at least {self.percent} % of it"


class SpeedLimit(_Model):
    """A speed-up that one row must reach."""

    backend: str
    precision: Precision = "fp32"
    boundary: Boundary = "model"
    batch: PositiveInt = 1
    scenario: Scenario = "stream"
    against: Literal["strongest", "eager"] = "strongest"
    min_speedup: PositiveFloat

    def is_of(self, row: Row) -> bool:
        """Whether the limit is a row's; shapes of `--set shapes=…` are not judged."""
        wanted = (self.backend, self.precision, self.boundary, self.batch, self.scenario, None)
        return wanted == (row.backend, row.precision, row.boundary, row.batch, row.scenario, row.shape)


class DiffLimits(_Model):
    """What `diff` lets pass."""

    slower_percent: NotNegative = 5
    lost_points: NotNegative = 0.05


_ACCURACY: dict[Precision, AccuracyLimit] = {
    "fp32": AccuracyLimit(points=0.05),
    "bf16": AccuracyLimit(percent=99.9),
    "fp16": AccuracyLimit(percent=99.9),
    "int8": AccuracyLimit(percent=99),
}


class Gates(_Model):
    """All limits. `configs/bench/gates.yaml` explains each."""

    accuracy: dict[Precision, AccuracyLimit] = _ACCURACY
    speed: tuple[SpeedLimit, ...] = ()
    diff: DiffLimits = DiffLimits()

    @field_validator("accuracy")
    @classmethod
    def _complete(cls, value: dict[Precision, AccuracyLimit]) -> dict[Precision, AccuracyLimit]:
        return {**_ACCURACY, **value}


DEFAULT = Gates()
_ANEW = "make that graph anew with a higher GATE= or other images (CALIBRATION=), see docs/precision.md"
#: What to do about lost accuracy.
_MENDS: dict[Precision, str] = {
    "fp32": "verify the bundle with python -m deploy verify, or export again",
    "bf16": "leave the row out, or ask for less in gates.yaml",
    "fp16": _ANEW,
    "int8": _ANEW,
}


@dataclass(frozen=True)
class Check:
    """One limit and one number: whether it holds, in one line, and what to do where it does not."""

    kind: Literal["accuracy", "speed"]
    status: Status
    text: str
    mend: str = ""


def read(path: Path) -> Gates:
    """Read a file of gates.

    Raises:
        UsageError: no such file, no YAML, unknown keys (all of them, each with the nearest valid one) or a value that does not fit.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Gates.model_validate({} if raw is None else raw)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected gates, found {error}; see configs/bench/gates.yaml")
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}")
    except ValidationError as error:
        # Unknown keys say more than the fields that they are not.
        strangers = [each for each in error.errors() if each["type"] == "extra_forbidden"]
        raise UsageError(f"{path}: {'; '.join(map(_explain, strangers or error.errors()[:1]))}")


def _explain(error: ErrorDetails) -> str:
    place = error["loc"]
    if not place:
        return f"expected keys, found {type(error['input']).__name__}; see configs/bench/gates.yaml"
    models: dict[str, type[BaseModel]] = {"accuracy": AccuracyLimit, "speed": SpeedLimit, "diff": DiffLimits}
    if error["type"] == "extra_forbidden":
        model = models[str(place[0])] if len(place) > 1 else Gates
        return str(nearest(str(place[-1]), list(model.model_fields), "key"))
    if place[-1] == "[key]":
        return str(nearest(str(place[-2]), list(DEFAULT.accuracy), "precision"))
    return f"{'.'.join(map(str, place))}: {error['msg'].removeprefix('Value error, ')}, got {error['input']!r}"


def accuracy_deltas(results: Results) -> list[tuple[Accuracy, Accuracy, float]]:
    """(entry, baseline's entry, headline difference in percentage points) for every entry but the baseline's."""
    return _deltas(results.accuracy)


def _deltas(accuracy: Sequence[Accuracy]) -> list[tuple[Accuracy, Accuracy, float]]:
    base = next((entry for entry in accuracy if (entry.backend, entry.precision) == BASELINE), None)
    others = [entry for entry in accuracy if entry is not base]
    return [(entry, base, entry.headline[1] - base.headline[1]) for entry in others] if base else []


def lost(accuracy: Sequence[Accuracy], gates: Gates = DEFAULT) -> list[Accuracy]:
    """The entries that do not hold the baseline's accuracy."""
    return [entry for entry, base, _ in _deltas(accuracy) if not _holds(entry, base, gates)]


def _holds(entry: Accuracy, base: Accuracy, gates: Gates) -> bool:
    return gates.accuracy[entry.precision].holds(entry.headline[1], base.headline[1])


def checks(results: Results, gates: Gates = DEFAULT) -> list[Check]:
    """Every limit that is about these results, accuracy first."""
    made = [_accuracy(entry, base, gates) for entry, base, _ in _deltas(results.accuracy)]
    return made + [_speed(row, limit) for limit in gates.speed for row in results.rows if limit.is_of(row)]


def _accuracy(entry: Accuracy, base: Accuracy, gates: Gates) -> Check:
    (name, value), (_, expected) = entry.headline, base.headline
    found = entry.difference
    within = f" [{found.points.low:+.3f}, {found.points.high:+.3f}]" if found else ""
    text = (
        f"{name.removesuffix('_percent')} of {entry.backend} {entry.precision} is {value:.3f} %, of {base.backend} "
        f"{base.precision} {expected:.3f} %: {value - expected:+.3f} points{within}, {gates.accuracy[entry.precision]}"
    )
    return Check("accuracy", "pass" if _holds(entry, base, gates) else "fail", text, _MENDS[entry.precision])


def _speed(row: Row, limit: SpeedLimit) -> Check:
    ratio = row.speedup if limit.against == "strongest" else row.speedup_eager
    base = "the strongest PyTorch row" if limit.against == "strongest" else "eager PyTorch"
    if row.key == row.strongest and limit.against == "strongest":
        ratio = Interval(value=1.0, low=1.0, high=1.0)
    asked = f"at least {limit.min_speedup:g}× asked"
    if ratio is None:
        why = f"it is {row.status}: {row.reason}" if row.status != "ok" else f"{base} gave no valid row"
        return Check("speed", "fail", f"{row.key}: no ratio, {asked}; {why}")
    status = decide(ratio, limit.min_speedup)
    doubt = "; the interval holds the limit, more repetitions narrow it" if status == "undecided" else ""
    shown = f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"
    return Check("speed", status, f"{row.key}: {shown} as fast as {base}, {asked}{doubt}")


def decide(found: Interval, least: float) -> Status:
    """Whether a value is at least as large as it must be, as far as its interval tells."""
    if found.low >= least:
        return "pass"
    return "fail" if found.high < least else "undecided"


def verdict(results: Results, gates: Gates = DEFAULT) -> SlipwayError | None:
    """The error that a run with these results ends with, or None when they are good.

    In this order: nothing ran (exit 4), accuracy lost (5), a row that failed, no valid row at all, or one that is too slow
    (6). What is undecided is no error.
    """
    name, rows = results.experiment, results.rows
    if not results.ran:
        reasons = dict.fromkeys(f"{row.backend}: {row.reason}" for row in rows)
        return BackendError(f"{name}: nothing could be measured. {'; '.join(reasons)}")
    made = checks(results, gates)
    broken = _first(made, "accuracy")
    if broken:
        return VerificationError(f"{name}: {broken.text}; {broken.mend}")
    failed = next((row for row in rows if row.status == "failed"), None)
    if failed is not None:
        return MeasurementError(f"{name}: {failed.key} failed: {failed.reason}")
    if not any(row.status == "ok" for row in rows):
        return MeasurementError(
            f"{name}: no row is valid; first: {next(row.reason for row in rows if row.reason)}. "
            "Close other programs, or raise timer.max_windows or timer.window_ms"
        )
    slow = _first(made, "speed")
    return MeasurementError(f"{name}: {slow.text} (speed in gates.yaml)") if slow else None


def _first(made: Iterable[Check], kind: str) -> Check | None:
    """The first limit that is broken, or None."""
    return next((check for check in made if check.kind == kind and check.status == "fail"), None)
