"""`work/<experiment>/bench/results.jsonl`: one JSON object a line, appended and never altered.

A `run` line says what was planned and on what machine; a `cell` line is one finished process. A run that was stopped, by
Ctrl-C or SIGKILL, goes on behind the last whole line: a planned cell whose key is there is not run again.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.environment import Environment
from benchmarks.inputs import Size
from benchmarks.matrix import Matrix, Precision
from benchmarks.outcome import Outcome, Trace
from train.errors import InputError

#: Of every line. Raise it when a line's fields change their names or meaning.
SCHEMA_VERSION = 2
FILE_NAME = "results.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[2] = 2


class Cell(_Line):
    """One process: what it measured and what it found.

    Attributes:
        key: the hash of everything that its numbers depend on; equal keys are the same measurement.
        artifact_sha256: of the file that was measured.
        trace: what the machine did meanwhile.
    """

    kind: Literal["cell"] = "cell"
    key: str
    backend: str
    device: str
    precision: Precision
    batch: int
    shape: Size | None
    repetition: int
    artifact_sha256: str
    outcome: Outcome
    trace: Trace | None = None


class Plan(BaseModel):
    """One cell that a run is to measure; `baseline`: in PyTorch."""

    model_config = ConfigDict(extra="forbid")
    key: str
    backend: str
    precision: Precision
    batch: int
    shape: Size | None
    repetition: int
    artifact_sha256: str
    baseline: bool = False


class Run(_Line):
    """What was asked for, on what machine; `plan` in the order of the matrix, not of time."""

    kind: Literal["run"] = "run"
    date_utc: str
    experiment: str
    task: str
    windows: bool
    device: str
    bundle_sha256: str
    data_fingerprint: str
    parity_passed: bool | None
    environment: Environment
    matrix: Matrix
    plan: list[Plan]


Record: TypeAlias = Run | Cell
_KINDS: dict[str, type[Run] | type[Cell]] = {"run": Run, "cell": Cell}


def append(path: Path, record: Record) -> None:
    """Add a line, on disk when this returns. Half a line that a crash left behind is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record.model_dump(mode="json"), allow_nan=False, separators=(",", ":")) + "\n").encode()
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """Every line, in order; a line that was cut short while it was written is left out.

    Raises:
        InputError: no such file, another schema version, or a field that does not fit.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: expected benchmark results, found {error}; run python -m benchmarks run first")
    return [record for number, line in enumerate(lines, start=1) if (record := _parse(path, number, line))]


def cells(records: Sequence[Record]) -> dict[str, Cell]:
    """Key → the newest cell of that key."""
    return {record.key: record for record in records if isinstance(record, Cell)}


def _parse(path: Path, number: int, line: str) -> Record | None:
    try:
        raw = json.loads(line)
    except ValueError:
        return None  # cut short: lines are written whole or as a beginning
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION or raw.get("kind") not in _KINDS:
        found = f"schema_version {version!r}, kind {raw.get('kind')!r}" if isinstance(raw, dict) else repr(raw)[:60]
        raise InputError(f"{path}:{number}: {found}; this program reads schema_version {SCHEMA_VERSION}; measure again")
    try:
        return _KINDS[raw["kind"]].model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}:{number}: {where}: {first['msg']}; move the file away and measure again")
