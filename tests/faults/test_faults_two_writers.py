"""Two writers on one experiment."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import engine_bundles
import faulty
import pytest
from colour_bench import BRIEF, NAME, write_data, write_graph, write_training
from faulty import Command
from tiny_training import data as data
from tiny_training import make
from trt_fixtures import play_for_good

from slipway_runtime import plan as plans
from train import lock

INTACT = "what the first one writes, and all that is there; the lock ends with its process, also when that is killed"
SEES = "error: …/NAME: process 4711 is at work here; wait until it ends, or choose another WORK="


def pid(folder: Path) -> int | None:
    """Of the process that says in the folder's lock that it is at work there."""
    path = folder / ".lock"
    return int(path.read_text() or 0) if path.exists() else None


def wait_for(condition, process: ForkServerProcess) -> None:
    while not condition():
        assert process.exitcode is None, "it ended too early"
        time.sleep(0.01)


@pytest.fixture
def first(tmp_path: Path, data: Path) -> Iterator[ForkServerProcess]:
    """A long training of `cls/tiny_digits`, at work since its first checkpoint."""
    command = make(tmp_path / "work", data)
    long = [*command.arguments, "train_cfg.max_epochs=1000", "param_scheduler.total_steps=1000"]
    process = faulty.start(Command("train", long, watched=command.watched, log=tmp_path / "first.txt"))
    try:
        wait_for(lambda: list(tmp_path.glob("work/cls/tiny_digits/train/epoch_*.pth")), process)
        yield process
    finally:
        process.kill()
        process.join()


def refused(command: Command, by: int | None) -> None:
    assert faulty.run(command) == 2, command.log.read_text()
    assert f"process {by} is at work here; wait until it ends, or choose another WORK=" in command.log.read_text()


@pytest.mark.fault(
    row="two-writers",
    fault="training or export begins where another process trains the same experiment",
    sees=SEES,
    code=2,
    intact=INTACT,
)
def test_a_second_training_and_an_export_are_refused(first: ForkServerProcess, tmp_path: Path, data: Path) -> None:
    second = make(tmp_path / "work", data)
    assert pid(tmp_path / "work" / "cls" / "tiny_digits") == first.pid
    refused(second, first.pid)
    refused(Command("deploy", ["export", *second.arguments[:3]], watched=second.watched, log=second.log), first.pid)
    first.kill()
    first.join()
    anew = [each for each in second.arguments if each != "--resume"]
    assert faulty.run(replace(second, arguments=anew)) == 0, second.log.read_text()


@pytest.mark.fault(
    row="two-writers",
    fault="a benchmark begins where another process measures the same experiment",
    sees=SEES,
    code=2,
    intact=INTACT,
)
def test_a_second_benchmark_is_refused(tmp_path: Path) -> None:
    experiment = write_training(NAME, tmp_path)
    write_data(tmp_path / "data")
    write_graph(experiment)
    arguments = ["run", NAME, "--work", experiment.work, *(f"--set={each}" for each in BRIEF)]
    command = Command("benchmarks", arguments, watched=experiment.bench, log=tmp_path / "log.txt")
    with lock.only_writer(experiment.root):
        refused(command, pid(experiment.root))
        assert not experiment.bench.exists()
    assert faulty.run(command) == 0, command.log.read_text()


@pytest.mark.fault(
    row="two-writers",
    fault="an engine's build begins where another process exports the same experiment (with a stand-in of TensorRT)",
    sees=SEES,
    code=2,
    intact=INTACT,
)
def test_an_engine_is_refused(tmp_path: Path) -> None:
    experiment, config = engine_bundles.experiment(tmp_path)
    folder = experiment.bundle / plans.FOLDER
    arguments = ["engine", config, "--work", experiment.work]
    command = Command("deploy", arguments, watched=folder, log=tmp_path / "log.txt", before=play_for_good)
    with lock.only_writer(experiment.root):
        refused(command, pid(experiment.root))
        assert not folder.exists()
    assert faulty.run(command) == 0, command.log.read_text()


def unlocked() -> None:
    lock.only_writer = lambda folder: contextlib.nullcontext()  # type: ignore[assignment]


@pytest.mark.control(row="two-writers")
def test_control_without_the_lock_the_second_removes_the_firsts_checkpoints(
    first: ForkServerProcess,
    tmp_path: Path,
    data: Path,
) -> None:
    known = make(tmp_path / "work", data)
    anew = [each for each in known.arguments if each != "--resume"]
    command = Command("train", anew, watched=known.watched, log=known.log, before=unlocked)
    assert faulty.run(replace(command, die_at="train/epoch_")) == -9, "about to remove epoch_1.pth"
