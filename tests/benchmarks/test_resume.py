"""A run that is stopped at any moment goes on where it was, and measures nothing twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from colour_bench import BRIEF, NAME

from benchmarks import journal, results
from benchmarks.environment import ROOT
from benchmarks.journal import Cell
from train.experiment import Experiment

CELLS = 6


def _start(experiment: Experiment, *arguments: str) -> "subprocess.Popen[str]":
    overrides = [f"--set={override}" for override in (*BRIEF, "repetitions=3", "batch_sizes=[1, 2]")]
    command = [sys.executable, "-m", "benchmarks", "run", NAME, "--work", str(experiment.work), *overrides, *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell's background job hands down that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _cells(path: Path) -> list[Cell]:
    return [record for record in journal.read(path) if isinstance(record, Cell)] if path.exists() else []


def _stop_after(child: "subprocess.Popen[str]", path: Path, count: int, how: int) -> None:
    while child.poll() is None and len(_cells(path)) < count:
        time.sleep(0.01)
    assert child.poll() is None, "it ended before it could be stopped"
    if how == signal.SIGKILL:
        os.killpg(child.pid, how)
    else:
        child.send_signal(how)
    child.communicate()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "Ctrl-C"])
def test_a_stopped_run_goes_on_without_repeating_a_cell(colours: Experiment, how: int) -> None:
    path = colours.bench / "results.jsonl"
    child = _start(colours)
    _stop_after(child, path, 2, how)
    assert how == signal.SIGKILL or child.returncode == 130
    before, measured = path.read_bytes(), {cell.key for cell in _cells(path)}
    assert 2 <= len(measured) < CELLS
    half = results.read(path)
    assert "pending" in {row.status for row in half.rows}
    assert "the same command goes on" in next(row.reason or "" for row in half.rows if row.status == "pending")

    _, said = (again := _start(colours)).communicate()
    assert again.returncode == 0, said
    # What was being written when the end came may lack its end; nothing before it is touched.
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    counts = Counter(cell.key for cell in _cells(path))
    assert len(counts) == CELLS
    assert set(counts.values()) == {1}
    assert f"[1/{CELLS - len(measured)}]" in said
    assert {row.status for row in results.read(path).rows} == {"ok"}
    assert (colours.bench / "report.html").is_file()


def test_control_forced_everything_is_measured_again(colours: Experiment) -> None:
    path = colours.bench / "results.jsonl"
    _stop_after(_start(colours), path, 1, signal.SIGKILL)
    assert _start(colours, "--force").wait() == 0
    assert max(Counter(cell.key for cell in _cells(path)).values()) == 2


def test_another_backend_leaves_what_is_measured(colours: Experiment) -> None:
    """The key of a cell holds what its own numbers depend on, not what else was asked for."""
    path = colours.bench / "results.jsonl"
    assert _start(colours, "--set=batch_sizes=[1]").wait() == 0
    assert len(_cells(path)) == 3
    assert _start(colours, "--set=backends={onnxruntime: [fp32, int8]}", "--set=batch_sizes=[1]").wait() == 0
    cells = _cells(path)
    assert len(cells) == 6
    assert [cell.precision for cell in cells[3:]] == ["int8"] * 3
    assert {cell.outcome.status for cell in cells[3:]} == {"unavailable"}
    assert "PRECISION=int8" in (cells[-1].outcome.reason or "")
