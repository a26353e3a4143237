"""What to measure: `configs/bench/*.yaml`, validated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from benchmarks.timing import TimerSettings
from train.cli import nearest
from train.errors import UsageError

Boundary: TypeAlias = Literal["model", "host", "e2e"]
Scenario: TypeAlias = Literal["stream", "offline"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]
#: What accuracy is compared with: eager PyTorch.
BASELINE: tuple[str, Precision] = ("pytorch", "fp32")
T = TypeVar("T")
NonEmpty = Annotated[tuple[T, ...], Field(min_length=1)]
Pixels = Annotated[int, Field(gt=0, le=1 << 14)]


def _by_backend(value: Any) -> Any:
    """A list of names stands for these backends in fp32, and one precision for a list of one."""
    if isinstance(value, list | tuple):
        return dict.fromkeys(value, ("fp32",))
    if isinstance(value, dict):
        return {name: (each,) if isinstance(each, str) else each for name, each in value.items()}
    return value


class Matrix(BaseModel):
    """The axes and the timer's settings. `configs/bench/default.yaml` explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backends: Annotated[dict[str, NonEmpty[Precision]], BeforeValidator(_by_backend), Field(min_length=1)] = {
        "pytorch": ("fp32",),
        "pytorch-channels-last": ("fp32",),
        "pytorch-compile": ("fp32",),
        "onnxruntime": ("fp32", "int8"),
    }
    batch_sizes: NonEmpty[PositiveInt] = (1, 8)
    shapes: NonEmpty[tuple[Pixels, Pixels] | None] = (None,)
    boundaries: NonEmpty[Boundary] = ("model", "host", "e2e")
    scenarios: NonEmpty[Scenario] = ("stream", "offline")
    stages: bool = True
    repetitions: PositiveInt = 3
    inputs: PositiveInt = 8
    threads: PositiveInt | None = None
    seed: int = 0
    accuracy_batch_size: PositiveInt = 32
    cell_timeout_s: PositiveFloat = 3600
    timer: TimerSettings = TimerSettings()

    @property
    def engines(self) -> list[tuple[str, Precision]]:
        """Every backend in every precision, in the order of the file."""
        return [(name, precision) for name, precisions in self.backends.items() for precision in precisions]


def read(path: Path, overrides: Sequence[str] = ()) -> Matrix:
    """Read a matrix file and put `KEY=VALUE` overrides on top (`batch_sizes=[1]`, `timer.seconds=0.2`).

    Raises:
        UsageError: no such file, no YAML, unknown keys (all of them, each with the nearest valid one) or a value that does not fit.
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
    strangers = [each["loc"] for each in error.errors() if each["type"] == "extra_forbidden"]
    if strangers:
        return UsageError(f"{path}: {'; '.join(map(_unknown, strangers))}")
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    return UsageError(f"{path}: {'.'.join(map(str, first['loc']))}: {reason}, got {first['input']!r}")


def _unknown(place: tuple[int | str, ...]) -> str:
    *parents, key = place
    model: type[BaseModel] = Matrix
    for parent in parents:
        nested = model.model_fields[str(parent)].annotation
        assert isinstance(nested, type)
        model = nested
    return str(nearest(str(key), list(model.model_fields), "key"))
