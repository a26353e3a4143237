"""What to measure: `configs/bench/*.yaml`, validated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from benchmarks.timing import TimerSettings
from train.cli import nearest
from train.errors import UsageError

Boundary = Literal["model", "host", "e2e"]
T = TypeVar("T")
NonEmpty = Annotated[tuple[T, ...], Field(min_length=1)]


class Gates(BaseModel):
    """Limits that fail the run (exit 5)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy_points: NonNegativeFloat = 0.05


class Matrix(BaseModel):
    """The axes, the timer's settings and the gates. `configs/bench/default.yaml` explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backends: NonEmpty[str] = ("pytorch", "onnxruntime")
    baseline: str = "pytorch"
    batch_sizes: NonEmpty[PositiveInt] = (1, 8)
    boundaries: NonEmpty[Boundary] = ("model", "host", "e2e")
    repetitions: PositiveInt = 3
    inputs: PositiveInt = 8
    threads: PositiveInt | None = None
    seed: int = 0
    accuracy_batch_size: PositiveInt = 32
    cell_timeout_s: PositiveFloat = 3600
    timer: TimerSettings = TimerSettings()
    gates: Gates = Gates()


def read(path: Path, overrides: Sequence[str] = ()) -> Matrix:
    """Read a matrix file and put `KEY=VALUE` overrides on top (`batch_sizes=[1]`, `timer.seconds=0.2`).

    Raises:
        UsageError: no such file, no YAML, an unknown key (the nearest valid one is named) or a value that does not fit.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a benchmark configuration, found {error}; see configs/bench/default.yaml")
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}")
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: expected keys, found {type(raw).__name__}; see configs/bench/default.yaml")
    for override in overrides:
        _override(raw, override)
    try:
        return Matrix.model_validate(raw)
    except ValidationError as error:
        raise _explain(path, error)


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes KEY=VALUE, got '{override}'; for instance --set batch_sizes=[1,4]")
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise UsageError(f"--set {override}: '{parent}' holds a value, no keys")
    try:
        raw[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {override}: '{text}' is not a YAML value")


def _explain(path: Path, error: ValidationError) -> UsageError:
    first = error.errors()[0]
    *parents, key = first["loc"]
    if first["type"] != "extra_forbidden":
        return UsageError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}")
    model: type[BaseModel] = Matrix
    for parent in parents:
        nested = model.model_fields[str(parent)].annotation
        assert isinstance(nested, type)
        model = nested
    return UsageError(f"{path}: {nearest(str(key), list(model.model_fields), 'key')}")
