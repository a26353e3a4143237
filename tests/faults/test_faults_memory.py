"""Memory that runs out."""

import resource
import shlex
import sys
from functools import partial
from pathlib import Path

import faulty
import pytest
from colour_bench import BRIEF, NAME, write_data, write_graph, write_training
from faulty import Command
from test_memory import LIMIT_KIB, _write_hungry_graph

from benchmarks import cell, journal, process
from benchmarks.journal import Cell

HUNGRY = [*BRIEF, "batch_sizes=[1, 8]", "boundaries=[model]", "accuracy_batch_size=1"]


@pytest.fixture
def measuring(tmp_path: Path) -> Command:
    """A benchmark of a graph that takes 8 MiB at batch 1 and 32 GiB at batch 8."""
    experiment = write_training(NAME, tmp_path)
    write_data(tmp_path / "data")
    write_graph(experiment)
    _write_hungry_graph(experiment)
    arguments = ["run", NAME, "--work", experiment.work, *(f"--set={each}" for each in HUNGRY)]
    return Command("benchmarks", arguments, watched=experiment.bench, log=tmp_path / "log.txt")


def cells(folder: Path) -> dict[int, Cell]:
    """By batch."""
    records = journal.read(folder / journal.FILE_NAME)
    return {record.batch: record for record in records if isinstance(record, Cell)}


def limit_cells(python: Path) -> None:
    """Cells run under a limit of address space (RLIMIT_AS)."""
    python.write_text(f'#!/bin/sh\nulimit -v {LIMIT_KIB}\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    sys.executable = str(python)


@pytest.mark.fault(
    row="memory",
    fault="a benchmark's batch does not fit into memory (RLIMIT_AS)",
    sees="failed: ran out of memory at batch 8, which was not shrunk; choose smaller batch_sizes, shapes or inputs …",
    code=6,
    intact="the cells that fit are measured and reported",
)
def test_the_cell_fails_and_the_run_goes_on(measuring: Command, tmp_path: Path) -> None:
    command = Command(**{**vars(measuring), "before": partial(limit_cells, tmp_path / "python")})
    assert faulty.run(command) == 6, command.log.read_text()
    assert "failed: ran out of memory at batch 8, which was not shrunk" in command.log.read_text()
    found = {batch: each.outcome.status for batch, each in cells(command.watched).items()}
    assert found == {1: "ok", 8: "failed"}
    assert (command.watched / "report.html").is_file()


def measure_here() -> None:
    """Cells are no processes of their own."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_KIB << 10,) * 2)
    process.run = lambda spec, timeout_s: cell.measure(spec)  # type: ignore[assignment]


@pytest.mark.control(row="memory")
def test_control_in_one_process_the_run_ends_with_the_cell(measuring: Command) -> None:
    command = Command(**{**vars(measuring), "before": measure_here})
    assert faulty.run(command) not in (0, 6)
    assert 8 not in cells(command.watched)
    assert not (command.watched / "report.html").exists()
