"""Several processes train one model: as one process would, with one voice, and all end when one does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from train import checkpoint, distributed, launch, loop, runner
from train.errors import UsageError
from train.experiment import Experiment
from train.launch import Nodes

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "configs"
TINY = CONFIGS / "cls" / "tiny_digits.py"
#: An odd number of validation images: two processes validate one of them twice.
ODD = "val_dataloader.dataset.indices=11"


def command(config: Path, work: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "train", *map(str, (config, "--work", work, "--device", "cpu", *arguments))]


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(arguments, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def beside(work: Path, tmp_path: Path) -> Path:
    """A work folder of its own that reuses the session's prepared data."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "data").symlink_to(work / "data")
    return tmp_path


def validated_alone(config: Path, trained: Experiment, work: Path, *options: str) -> dict[str, float]:
    """What one process measures of an experiment's checkpoint."""
    nothing_saved = "default_hooks.checkpoint.save_best=None"
    request = runner.Request(str(config), work=work, device="cpu", options=(nothing_saved, *options))
    planned = runner.plan(request)
    runner.configs.activate(planned.config, planned.file)
    made = loop.build(planned, request)
    checkpoint.load_into(made.model, trained.checkpoint)
    return dict(made.val())


@dataclass(frozen=True)
class Ended:
    experiment: Experiment
    out: str
    err: str


@pytest.fixture(scope="module")
def pair(trained: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The tiny experiment, trained by two processes."""
    work = beside(trained.work, tmp_path_factory.mktemp("pair"))
    process = start(command(TINY, work, "--processes", 2, "--json"))
    out, err = process.communicate()
    assert process.returncode == 0, err
    return Ended(Experiment(trained.name, work), out, err)


def test_two_processes_leave_what_one_leaves(pair: Ended, trained: Experiment) -> None:
    assert names(pair.experiment.train) == names(trained.train)
    assert pair.experiment.config.read_text() == trained.config.read_text()
    ours, alone = pair.experiment.read(), trained.read()
    assert {**vars(ours), **neutral(ours)} == {**vars(alone), **neutral(ours)}
    assert ours.metrics["accuracy/top1"] > 80
    assert not (ROOT / ".dist_test").exists(), "MMEngine's folder of results"


def names(folder: Path) -> list[str]:
    """What lies in a training folder, without the times of day."""
    return sorted("TIME" if path.is_dir() else path.name for path in folder.iterdir())


def neutral(record: Any) -> dict[str, Any]:
    """What two runs in two folders may differ in."""
    return {key: vars(record)[key] for key in ("fingerprint", "data", "checkpoint_sha256", "metrics", "seconds")}


def test_one_voice(pair: Ended) -> None:
    assert json.loads(pair.out)["metrics"] == pair.experiment.read().metrics
    lines = pair.err.splitlines()
    assert len(lines) == len(set(lines))
    assert pair.err.count("Saving checkpoint at 2 epochs") == 1
    assert not [line for line in lines if "OMP_NUM_THREADS" in line or "rank" in line.lower()]


def test_the_metric_is_the_one_that_one_process_measures(pair: Ended, tmp_path: Path) -> None:
    """Also of 359 images, where two processes validate 360; and of averaged batch statistics."""
    alone = validated_alone(TINY, pair.experiment, beside(pair.experiment.work, tmp_path / "w"))
    assert pair.experiment.read().metrics["accuracy/top1"] == alone["accuracy/top1"]


def test_a_batch_that_cannot_be_shared_is_refused_once(pair: Ended, tmp_path: Path) -> None:
    work = beside(pair.experiment.work, tmp_path / "w")
    process = start(command(TINY, work, "--processes", 3))
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.splitlines()[-1] == (
        "error: 3 processes cannot share a batch of 64 images evenly; choose a number of processes that divides it, "
        "or --cfg-options train_dataloader.batch_size=66"
    )
    assert err.count("error") == 1
    assert not (work / "cls").exists()


def test_where_processes_run_is_checked() -> None:
    assert Nodes().total == 1
    assert Nodes(4, 2, 1, "10.0.0.1:29500").total == 8
    for wrong, message in (
        ((0,), "expected 1 or more"),
        ((1, 0), "expected 1 or more"),
        ((2, 1, 1), "add --nodes"),
        ((2, 1, None, "host:1"), "add --nodes"),
        ((2, 2), "each machine needs --node-rank 0 to 1 and --master"),
        ((2, 2, 2, "host:1"), "expected 0 to 1"),
        ((2, 2, 0, "host"), "expected HOST:PORT"),
        ((2, 2, 0, "host:70000"), "expected HOST:PORT"),
    ):
        with pytest.raises(UsageError, match=message):
            Nodes(*wrong)


def test_threads_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert [launch._threads(processes) for processes in (1, 2, 3, 16)] == [8, 4, 2, 1]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert launch._threads(1) == len(os.sched_getaffinity(0))


def test_one_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not distributed.is_member()
    # Kubernetes' training operator sets these two for every pod.
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not distributed.is_member()
    config = object()
    assert distributed.share(config) is config
    assert distributed.in_turn(lambda: 1) == distributed.from_first(lambda: 1) == distributed.size()


def eventually(found: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def processes_of(work: Path) -> dict[int, str]:
    """The processes whose command line names a folder, and their ranks; "" is the one that started them."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(work).encode() not in (folder / "cmdline").read_bytes():
                continue
            told = dict(pair.partition("=")[::2] for pair in (folder / "environ").read_text().split("\0"))
        except OSError:
            continue  # it has ended
        found[int(folder.name)] = told.get("RANK", "")
    return found


@pytest.fixture
def interrupted(pair: Ended, tmp_path: Path) -> Iterator[tuple[Experiment, "subprocess.Popen[str]"]]:
    """A run of two processes after its first epoch's checkpoint."""
    work = beside(pair.experiment.work, tmp_path / "w")
    process = start(command(TINY, work, "--processes", 2))
    experiment = Experiment(pair.experiment.name, work)
    try:
        eventually(lambda: (experiment.train / "epoch_1.pth").exists())
        yield experiment, process
    finally:
        for pid in processes_of(work):
            os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_run_resumes(
    pair: Ended, interrupted: tuple[Experiment, "subprocess.Popen[str]"]
) -> None:
    experiment, process = interrupted
    victim = next(pid for pid, rank in processes_of(experiment.work).items() if rank == "1")
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err.splitlines()[-1] == (
        "error: process 1 was ended by SIGKILL (SIGKILL: out of memory?); "
        "--resume (RESUME=1) goes on from the last whole checkpoint"
    )
    assert "Traceback" not in err
    assert not processes_of(experiment.work)
    assert not (experiment.train / "record.json").exists()
    for path in experiment.train.glob("*.pth"):
        checkpoint.read(path)

    leftover = experiment.train / ".epoch_2.pth.half"  # of a process killed while it wrote
    leftover.write_bytes(b"")
    again = subprocess.run(
        command(TINY, experiment.work, "--processes", 2, "--resume"), cwd=ROOT, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert f"resuming from {experiment.train}/epoch_1.pth" in again.stderr
    assert not leftover.exists()
    assert experiment.read().metrics == pytest.approx(pair.experiment.read().metrics)
    resumed = checkpoint.read(experiment.checkpoint)["state_dict"]
    for key, value in checkpoint.read(pair.experiment.checkpoint)["state_dict"].items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.slow
def test_ctrl_c_ends_all_at_once(interrupted: tuple[Experiment, "subprocess.Popen[str]"]) -> None:
    experiment, process = interrupted
    assert sorted(processes_of(experiment.work).values()) == ["", "0", "1"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted; --resume (RESUME=1) goes on from the last whole checkpoint"
    assert "Traceback" not in err
    assert not processes_of(experiment.work)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["seg/tiny_scenes.py", "det/tiny_scenes.py"])
def test_every_task_validates_each_image_once(config: str, tmp_path: Path) -> None:
    file = CONFIGS / config
    process = start(command(file, tmp_path / "w", "--processes", 2, "--cfg-options", ODD))
    _, err = process.communicate()
    assert process.returncode == 0, err
    experiment = Experiment(config.removesuffix(".py"), tmp_path / "w")
    alone = validated_alone(file, experiment, beside(experiment.work, tmp_path / "alone"), ODD)
    for name, value in experiment.read().metrics.items():
        percent = 100 if config.startswith("det") else 1
        assert value == pytest.approx(percent * alone[name], abs=1e-9)


@pytest.mark.slow
def test_two_machines(pair: Ended, tmp_path: Path) -> None:
    work = beside(pair.experiment.work, tmp_path / "w")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        master = f"localhost:{free.getsockname()[1]}"
    several = ("--processes", 1, "--nodes", 2, "--master", master, "--json")
    machines = [start(command(TINY, work, *several, "--node-rank", rank)) for rank in (0, 1)]
    (out, err), second = (machine.communicate() for machine in machines)
    assert [machine.returncode for machine in machines] == [0, 0], (err, second)
    assert json.loads(out)["metrics"] == pytest.approx(pair.experiment.read().metrics)
    assert second == ("", "")


@pytest.mark.slow
def test_torchrun_itself(pair: Ended, tmp_path: Path) -> None:
    work = beside(pair.experiment.work, tmp_path / "w")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    process = start([*torchrun, *command(TINY, work, "--json")[1:]])
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["metrics"] == pytest.approx(pair.experiment.read().metrics)


@pytest.mark.gpu
@pytest.mark.parametrize("extra", [0, 1])
def test_each_process_has_its_own_gpu(extra: int, tmp_path: Path) -> None:
    """By NCCL; one process more than there are GPUs is refused."""
    gpus = torch.cuda.device_count()
    if gpus + extra < 2:
        pytest.skip("one GPU trains as one process")
    processes = gpus + extra
    batch = f"train_dataloader.batch_size={16 * processes}"
    arguments = command(TINY, tmp_path, "--processes", processes, "--cfg-options", batch)
    arguments[arguments.index("cpu")] = "cuda"
    process = start(arguments)
    _, err = process.communicate()
    if extra:
        assert process.returncode == 4
        assert f"{processes} processes for {gpus} CUDA devices here" in err.splitlines()[-1]
    else:
        assert process.returncode == 0, err
