"""TensorRT plans: what the file beside one says of it, and whether it is for this machine.

A plan `engines/fp16-0123456789abcdef.plan` is what TensorRT's own tools load. Beside it lies `….plan.json`, written last: a plan
without it is none. It is read before TensorRT sees a byte of the plan, which runs code of another version or for another GPU
otherwise. This module needs neither TensorRT nor a GPU.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from slipway_runtime import manifest as manifests
from slipway_runtime.errors import BundleError, SessionError
from slipway_runtime.manifest import Manifest, Sha256, TensorSpec

SCHEMA_VERSION = 1
#: The bundle's folder for plans, and how their files end.
FOLDER = "engines"
SUFFIX = ".plan"
#: How many characters of its key a plan's name shows.
_SHOWN = 16

Precision = Literal["fp32", "fp16", "int8"]
#: "same": GPUs of one compute capability; "ampere+": every one from 8.0 on.
Hardware = Literal["none", "same", "ampere+"]
_Shape = tuple[Annotated[int, Field(gt=0)], ...]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(_Model):
    """What a plan is built with and for.

    Attributes:
        tensorrt: its version, "10.16.1.11".
        cuda: of the runtime library that TensorRT was called with, "13.0".
        driver: the newest CUDA that the GPU's driver knows, "13.0".
        gpu: its name.
        compute_capability: "9.0".
    """

    tensorrt: str
    cuda: str
    driver: str
    gpu: str
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")]

    @property
    def major(self) -> int:
        """TensorRT's major version."""
        return int(self.tensorrt.split(".")[0])


class Profile(_Model):
    """The shapes N×C×H×W of the graph's input that a plan takes: from `minimum` to `maximum`, fastest at `optimum`."""

    minimum: _Shape
    optimum: _Shape
    maximum: _Shape

    @model_validator(mode="after")
    def _ordered(self) -> "Profile":
        shapes = (self.minimum, self.optimum, self.maximum)
        if len({len(shape) for shape in shapes}) != 1:
            raise ValueError(f"shapes of one number of axes are expected, found {shapes}")
        if not all(low <= best <= high for low, best, high in zip(*shapes, strict=True)):
            raise ValueError(f"minimum ≤ optimum ≤ maximum is expected on every axis, found {shapes}")
        return self

    @property
    def fixed(self) -> bool:
        """Whether it takes one shape only."""
        return self.minimum == self.maximum

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a shape lies within it."""
        return len(shape) == len(self.minimum) and all(
            low <= size <= high for low, size, high in zip(self.minimum, shape, self.maximum, strict=True)
        )

    def distance(self, shape: tuple[int, ...]) -> float:
        """How many times more or fewer numbers than its optimum a shape has: the least of several is chosen."""
        ratio = 1.0
        for size, best in zip(shape, self.optimum, strict=True):
            ratio *= max(size / best, best / size)
        return ratio


class Options(_Model):
    """What was asked for.

    Attributes:
        profiles: the shapes that the plan takes.
        tf32: whether float32 layers may round to TF32's 10 bits of mantissa.
        optimization_level: 0 (builds fast) to 5 (runs fast).
        workspace_mib: scratch memory that a layer may use at most; None: all that the GPU has.
        version_compatible: whether later TensorRT of the same major version may load it.
        hardware_compatible: which other GPUs may.
    """

    precision: Precision
    profiles: Annotated[tuple[Profile, ...], Field(min_length=1)]
    tf32: bool = False
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    workspace_mib: Annotated[int, Field(gt=0)] | None = None
    version_compatible: bool = False
    hardware_compatible: Hardware = "none"


class PlanInfo(_Model):
    """The content of `….plan.json`.

    Attributes:
        key: of the content, see `key_of`; the file's name begins with it.
        graph: the bundle's file that the plan was built from, and its hash.
        inputs: of that graph, and `outputs`; the plan's data types may be narrower (TensorRT 8 has no int64).
        layers: how many layers compute in which precision, as the engine inspector tells: {"fp16": 20, "fp32": 3}.
        build_seconds: how long TensorRT took.
    """

    schema_version: Literal[1] = 1
    key: Sha256
    plan_sha256: Sha256
    graph: str
    graph_sha256: Sha256
    machine: Machine
    options: Options
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    layers: dict[str, Annotated[int, Field(ge=0)]]
    build_seconds: FiniteFloat

    def to_json(self) -> str:
        """The file's text: indented JSON with a final newline."""
        return self.model_dump_json(indent=2) + "\n"

    def stranger(self, machine: Machine) -> str | None:
        """Why a machine cannot run the plan; None where it can."""
        own, options = self.machine, self.options
        if own.tensorrt != machine.tensorrt and not (
            options.version_compatible and own.major == machine.major and _version(own) <= _version(machine)
        ):
            return f"built with TensorRT {own.tensorrt}, here is {machine.tensorrt}"
        same = own.compute_capability == machine.compute_capability
        fits = {
            "none": same and own.gpu == machine.gpu,
            "same": same,
            "ampere+": float(machine.compute_capability) >= 8,
        }
        if not fits[options.hardware_compatible]:
            return (
                f"built for {own.gpu} (compute capability {own.compute_capability}), "
                f"here is {machine.gpu} ({machine.compute_capability})"
            )
        return None


def key_of(graph_sha256: str, options: Options, machine: Machine, version: int) -> str:
    """The content address of a plan: the hash of everything that it depends on; drivers do not count.

    Args:
        graph_sha256: of the bundle's graph.
        options: what is asked for.
        machine: what it is built with and for.
        version: of the code that builds.
    """
    return _sha256_json(
        [
            version,
            graph_sha256,
            options.model_dump(mode="json"),
            machine.model_dump(include={"tensorrt", "cuda", "gpu", "compute_capability"}),
        ]
    )


def path_of(bundle: Path, precision: str, key: str) -> Path:
    """Where a plan lies in its bundle."""
    return bundle / FOLDER / f"{precision}-{key[:_SHOWN]}{SUFFIX}"


def sidecar(plan: Path) -> Path:
    """The file beside a plan that describes it."""
    return plan.with_name(f"{plan.name}.json")


def read(plan: Path) -> PlanInfo:
    """Read what is said of a plan; the plan itself is not looked at.

    Raises:
        BundleError: no such file, no JSON, an unknown schema version or a field that does not fit.
    """
    path = sidecar(plan)
    try:
        return PlanInfo.model_validate_json(path.read_text(encoding="utf-8"), strict=True)
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); a plan without it is none: build it again")
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "file"
        raise BundleError(f"{path}: {field}: {first['msg']}; build the plan again")


def check(plan: Path, info: PlanInfo, machine: Machine) -> None:
    """Refuse a plan that this machine must not load.

    Raises:
        SessionError: another TensorRT or another GPU.
        BundleError: no such plan, or other content than its description's.
    """
    reason = info.stranger(machine)
    if reason:
        raise SessionError(f"{plan}: {reason}; {command(plan, info)}")
    try:
        found = manifests.sha256(plan)
    except OSError as error:
        raise BundleError(f"{plan}: cannot be read ({error.strerror}); {command(plan, info)}")
    if found != info.plan_sha256:
        raise BundleError(
            f"{plan}: content was altered or cut off (sha256 {found[:12]}…, {sidecar(plan).name} says "
            f"{info.plan_sha256[:12]}…); {command(plan, info)}"
        )


def find(bundle: Path, described: Manifest, precision: str, machine: Machine) -> tuple[Path, PlanInfo]:
    """The newest plan of a precision that this machine can run and that was built from the bundle's graph of today.

    Raises:
        SessionError: there is none; the text says why each that is there is not it, and how to build one.
    """
    reasons = []
    for path in sorted((bundle / FOLDER).glob(f"*{SUFFIX}"), key=_age):
        try:
            info = read(path)
        except BundleError:
            reasons.append(f"{path.name} was left without a description")
            continue
        if info.options.precision != precision:
            continue
        reason = info.stranger(machine) if of_today(info, described) else "built from another graph"
        if reason is None:
            return path, info
        reasons.append(f"{path.name} was {reason}")
    raise SessionError(
        f"{bundle}: no TensorRT plan in {precision} for this machine{_list(reasons)}; {rebuild(described, precision)}"
    )


def of_today(info: PlanInfo, described: Manifest) -> bool:
    """Whether a plan was built from a graph that its bundle still has."""
    return described.files.get(info.graph) == info.graph_sha256


def command(plan: Path, info: PlanInfo, variables: str = "") -> str:
    """The command that builds a plan again, as errors end with it, with more variables of `make` where given."""
    try:
        described = manifests.read(plan.parent.parent)
    except BundleError:  # a plan that was taken out of its bundle
        described = None
    return rebuild(described, info.options.precision, variables)


def rebuild(described: Manifest | None, precision: str, variables: str = "") -> str:
    """The command that builds a plan of a precision, as errors end with it."""
    kind, name = (described.kind, described.name) if described else ("cls|det|seg", "…")
    return f"build one with `make engine-{kind} {' '.join((f'EXP={name} PRECISION={precision}', variables)).strip()}`"


def _version(machine: Machine) -> tuple[int, ...]:
    return tuple(int(part) for part in machine.tensorrt.split(".")[:3])


def _age(path: Path) -> float:
    return -path.stat().st_mtime


def _list(reasons: Iterable[str]) -> str:
    text = "; ".join(reasons)
    return f" ({text})" if text else ""


def _sha256_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
