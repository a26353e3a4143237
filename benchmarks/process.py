"""Runs one cell as a child process: its progress shown, its crash turned into a reason."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path

from pydantic import ValidationError

from benchmarks import memory
from benchmarks.cell import PROGRESS
from benchmarks.environment import ROOT
from benchmarks.outcome import Outcome, Spec
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
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cell", str(spec_file), str(outcome_file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # CUDA then counts GPUs as their driver does, which telemetry asks.
        env={"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(spec.threads)},
        start_new_session=True,  # so that a program which the cell started ends with it
    )
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        kill(child)

    timer = threading.Timer(timeout_s, expire)
    timer.start()
    try:
        last_line = _follow(child)
        code = child.wait()
    finally:
        timer.cancel()
        kill(child)
        child.wait()
    if expired.is_set():
        return Outcome(status="failed", reason=f"took longer than cell_timeout_s = {timeout_s:g}")
    if code < 0:
        said = f"; it last said: {last_line}" if last_line else ""
        return Outcome(status="failed", reason=f"the process was killed by {signal.Signals(-code).name}{said}")
    outcome = _read(outcome_file)
    if code or outcome is None:
        return Outcome(status="failed", reason=last_line.removeprefix("error: ") or f"the process exited with {code}")
    return outcome


def kill(child: "subprocess.Popen[str]") -> None:
    """End the child's whole session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _follow(child: subprocess.Popen[str]) -> str:
    """Show the child's progress until it closes stderr; its last other line, which says why it failed if it did."""
    assert child.stderr is not None
    others: deque[str] = deque(maxlen=1)
    for line in child.stderr:
        if line.startswith(PROGRESS):
            say(f"      {line.removeprefix(PROGRESS).rstrip()}")
        elif line.strip():
            others.append(line.strip())
    return others.pop() if others else ""


def _read(path: Path) -> Outcome | None:
    try:
        return Outcome.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None
