"""Whether the harness can be believed: each backend is audited as it is measured, in a process of its own.

Four checks, one file each, after MLPerf Inference's compliance tests TEST01 and TEST04
(github.com/mlcommons/inference, compliance/nvidia):

- `answers`: what lies there after timed calls is what accuracy is counted on.
- `caching`: an input that was seen before is not answered faster than one that never was.
- `timer`: a stage of known duration, added to the backend's own calls, is measured.
- `synchronisation`: a call returns when its outputs are finished.

`program` makes those of them that can be made from outside, of a program of its own. `run` audits experiments.
"""

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, PositiveInt

from benchmarks.matrix import Boundary, Precision
from benchmarks.timing import TimerSettings

CheckName: TypeAlias = Literal["answers", "caching", "timer", "synchronisation"]
#: A measurement that noise can spoil is made up to this many times; the best one counts.
TRIES = 3


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Spec(_Model):
    """What one process audits, one image at a time where the graph allows it. `inputs`: different ones that take turns."""

    work: Path
    experiment: str
    backend: str
    precision: Precision
    device: str
    boundaries: tuple[Boundary, ...]
    inputs: PositiveInt
    threads: PositiveInt
    seed: int
    timer: TimerSettings


class Finding(_Model):
    """One check at one boundary.

    Attributes:
        passed: None: the check cannot be made, `detail` says why.
        value: what was measured; it passes up to `limit`.
        detail: what the value is, in words.
    """

    check: CheckName
    boundary: Boundary
    passed: bool | None
    value: float | None = None
    limit: float | None = None
    detail: str

    @classmethod
    def of(cls, check: CheckName, boundary: Boundary, value: float, limit: float, detail: str) -> "Finding":
        """A check that was made. A value that is no number does not pass."""
        finite = value == value and abs(value) != float("inf")
        return cls(
            check=check,
            boundary=boundary,
            passed=value <= limit,
            value=value if finite else None,
            limit=limit,
            detail=detail if finite else f"{detail}: {value}",
        )

    @classmethod
    def impossible(cls, check: CheckName, boundary: Boundary, reason: str) -> "Finding":
        """A check that cannot be made."""
        return cls(check=check, boundary=boundary, passed=None, detail=f"not applicable: {reason}")


class Audit(_Model):
    """One backend in one precision. `status`: "unavailable": not on this machine; "failed": it broke."""

    backend: str
    precision: Precision
    status: Literal["ok", "unavailable", "failed"] = "ok"
    reason: str | None = None
    findings: list[Finding] = []

    @property
    def passed(self) -> bool:
        """Nothing that could be checked was wrong."""
        return self.status != "failed" and all(finding.passed is not False for finding in self.findings)
