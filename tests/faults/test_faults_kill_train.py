"""Training that is killed.

Fifty kills of real processes by SIGKILL, at moments from a seed: forty before a random change that training makes to its
files (checkpoint writes are most of them, a megabyte at a time), ten at random times.
"""

import json
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import faulty
import pytest
import torch
from faulty import run
from tiny_training import EPOCHS, make
from tiny_training import data as data

from train import checkpoint
from train.errors import InputError
from train.experiment import Experiment

KILLS = 50
AT_A_TIME = 5  # every fifth


class Trained(NamedTuple):
    """An uninterrupted run."""

    losses: dict[int, float]
    weights: dict[str, torch.Tensor]
    metrics: dict[str, float]
    steps: int
    seconds: float


def losses(experiment: Experiment) -> dict[int, float]:
    """The loss of each step, of whatever run logged it last."""
    found = {}
    for path in sorted(experiment.train.glob("*/vis_data/scalars.json"), key=lambda path: path.stat().st_mtime_ns):
        for line in path.read_text().splitlines():
            if line.endswith("}") and "loss" in (point := json.loads(line)):
                found[point["step"]] = point["loss"]
    return found


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    command = make(tmp_path_factory.mktemp("whole") / "work", data)
    run(make(tmp_path_factory.mktemp("first") / "work", data))  # starts the server
    began = time.monotonic()
    assert run(command) == 0, command.log.read_text()
    seconds = time.monotonic() - began
    experiment = Experiment("cls/tiny_digits", command.watched.parent)
    weights = checkpoint.read(experiment.checkpoint)["state_dict"]
    found = losses(experiment)
    assert sorted(found) == list(range(1, 13))
    return Trained(found, weights, experiment.read().metrics, faulty.steps(command), seconds)


def epoch(experiment: Experiment) -> int:
    """Of the newest checkpoint, which must be whole, as must every other be that is under its name; 0 without one."""
    for path in experiment.train.glob("*.pth"):
        checkpoint.read(path)
    newest = checkpoint.latest(experiment.train)
    if (experiment.train / "record.json").exists():
        experiment.read()
    return checkpoint.read(newest)["meta"]["epoch"] if newest else 0


def check(experiment: Experiment, wanted: Trained) -> None:
    """What a run that was interrupted leaves is what an uninterrupted one does."""
    assert losses(experiment) == pytest.approx(wanted.losses, abs=1e-5)
    assert experiment.read().metrics == pytest.approx(wanted.metrics)
    found = checkpoint.read(experiment.checkpoint)["state_dict"]
    for key, value in wanted.weights.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=key)
    assert not list(experiment.train.glob(".*.pth.*")), "temporary files"


@pytest.mark.fault(
    row="killed-training",
    fault="SIGKILL at 50 random moments of training: 40 before a random change of its files, 10 at random times",
    sees="the newest whole checkpoint after RESUME=1: resuming from …/epoch_2.pth",
    code=None,
    intact="the previous checkpoint, every time; RESUME=1 ends with the losses (1e-5) and the weights of an uninterrupted run",
)
def test_killed_fifty_times_the_previous_checkpoint_is_whole(
    data: Path, uninterrupted: Trained, tmp_path: Path
) -> None:
    moments = random.Random(9)
    killed = finished = reached = 0
    while killed < KILLS or reached:
        folder = tmp_path / str(finished)
        share = moments.random() * max(1 - reached / EPOCHS, 1 / 2)  # of a run from the beginning
        if killed >= KILLS:
            code = run(make(folder, data))
        elif killed % AT_A_TIME == 0:
            code = run(make(folder, data), seconds=share * uninterrupted.seconds)
        else:
            code = run(make(folder, data, die_at=int(share * uninterrupted.steps)))
        assert code in (0, -9), (folder / "log.txt").read_text()
        experiment = Experiment("cls/tiny_digits", folder)
        if code == 0:
            check(experiment, uninterrupted)
            finished, reached = finished + 1, 0
            continue
        killed += 1
        now = epoch(experiment)
        assert now >= reached, "the newest checkpoint was lost"
        reached = now
    assert finished >= 3


def naive() -> None:
    """MMEngine's own way: remove the old checkpoint, then write the new one in place."""
    from mmengine.fileio import LocalBackend

    checkpoint.AtomicBackend.put = LocalBackend.put  # type: ignore[method-assign]
    checkpoint.AtomicBackend.remove = LocalBackend.remove  # type: ignore[method-assign]


@pytest.mark.control(row="killed-training")
@pytest.mark.parametrize("before", [None, naive], ids=["atomic", "naive"])
def test_control_mmengines_own_checkpoints_are_lost(data: Path, tmp_path: Path, before: Any) -> None:
    """Killed when the second epoch's checkpoint is about to be written."""
    command = make(tmp_path / "work", data, die_at="epoch_2.pth", before=before)
    assert run(command) == -9
    experiment = Experiment("cls/tiny_digits", tmp_path / "work")
    assert epoch(experiment) == (0 if before else 1)


@pytest.mark.control(row="killed-training")
def test_control_half_a_checkpoint_is_noticed(data: Path, tmp_path: Path) -> None:
    command = make(tmp_path / "work", data, die_at="epoch_2.pth")
    assert run(command) == -9
    experiment = Experiment("cls/tiny_digits", tmp_path / "work")
    (path,) = experiment.train.glob("epoch_1.pth")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="truncated"):
        epoch(experiment)
