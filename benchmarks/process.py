"""Runs one cell as a child process: its progress shown, its crash turned into a reason."""

import os
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from benchmarks import memory
from benchmarks.cell import PROGRESS
from benchmarks.outcome import Outcome, Spec
from train import child
from train.cli import say


def run(spec: Spec, timeout_s: float) -> Outcome:
    """Measure a spec in a fresh process.

    Nothing that the child does raises here: an error, a crash or a timeout is an outcome with status "failed" and a
    one-line reason.
    """
    with tempfile.TemporaryDirectory(prefix="cell-") as folder:
        kills = memory.oom_kills()
        outcome = _run(spec, Path(folder), timeout_s)
    if outcome.status != "ok" and (short := memory.explain(outcome.reason, spec, kills, memory.oom_kills())):
        return Outcome(status="failed", reason=short)
    return outcome


def _run(spec: Spec, folder: Path, timeout_s: float) -> Outcome:
    spec_file, outcome_file = folder / "spec.json", folder / "outcome.json"
    spec_file.write_text(spec.model_dump_json())
    # CUDA counts GPUs as their driver does, which telemetry asks, unless the user says otherwise.
    order = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    ended = child.run(
        [sys.executable, "-m", "benchmarks.cell", str(spec_file), str(outcome_file)],
        timeout_s,
        env={"CUDA_DEVICE_ORDER": order, "OMP_NUM_THREADS": str(spec.threads)},
        take=_show,
    )
    if reason := ended.reason(f"cell_timeout_s = {timeout_s:g}"):
        return Outcome(status="failed", reason=reason)
    outcome = _read(outcome_file)
    return outcome or Outcome(status="failed", reason=ended.said or "the process exited with 0")


def _show(line: str) -> bool:
    if line.startswith(PROGRESS):
        say(f"      {line.removeprefix(PROGRESS)}")
    return line.startswith(PROGRESS)


def _read(path: Path) -> Outcome | None:
    try:
        return Outcome.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None
