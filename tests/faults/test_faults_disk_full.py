"""A full disk: a small tmpfs, filled."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import faulty
import pytest
from colour_bench import BRIEF, NAME, write_data, write_graph, write_training
from faulty import Command
from tiny_training import TINY, make
from tiny_training import data as data

from benchmarks import journal
from slipway_runtime import manifest
from train import checkpoint
from train import data as sets
from train.experiment import Experiment
from train.files import sha256

SEES = "error: …: No space left on device; free space or fix the permissions"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


@contextmanager
def filled(disk: Path, leave: int = 0) -> Iterator[None]:
    """Leave only so many bytes free meanwhile."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        if free(disk) > leave:
            os.posix_fallocate(file.fileno(), 0, free(disk) - leave)
    yield
    filler.unlink(missing_ok=True)


def full(command: Command) -> None:
    """The command ends with the exit code 3 and one line about it."""
    code, said = faulty.run(command), command.log.read_text()
    assert code == 3, said
    assert os.strerror(errno.ENOSPC) in said
    assert "Traceback" not in said


def hidden(folder: Path) -> list[str]:
    """Temporary files below a folder."""
    return [str(path) for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.mark.fault(
    row="disk-full",
    fault="no space left while data are prepared",
    sees="error: cannot prepare …: [Errno 28] No space left on device …; free space, fix the permissions or choose another --out",
    code=3,
    intact="the set of before, every file of it; no temporary file is left; with space, the same command completes",
)
def test_data(disk: Path, tmp_path: Path) -> None:
    before = sets.prepare("digits", disk / "digits")
    arguments = ["digits", "--out", disk / "digits", "--seed", 1]
    command = Command("train.data", arguments, watched=disk, log=tmp_path / "log.txt")
    with filled(disk, leave=1 << 20):
        full(command)
        assert hidden(disk) == []
    assert sets.load(disk / "digits") == before
    assert_whole(disk / "digits")
    assert faulty.run(command) == 0, command.log.read_text()
    assert sets.load(disk / "digits").fingerprint != before.fingerprint


def assert_whole(root: Path) -> None:
    """A prepared set is what its checksums say."""
    for line in (root / sets.CHECKSUMS).read_text().splitlines():
        assert sha256(root / line[66:]) == line[:64]


@pytest.mark.fault(
    row="disk-full", fault="no space left while a checkpoint is written", sees=SEES, code=3,
    intact="the checkpoint of before; no temporary file is left; with space, RESUME=1 goes on from it",
)  # fmt: skip
def test_training(disk: Path, tmp_path: Path, data: Path) -> None:
    whole = make(disk / "work", data)
    command = replace(whole, log=tmp_path / "log.txt")
    with filled(disk, leave=14 << 20):  # one checkpoint to resume from and the best one, not two
        full(command)
        experiment = Experiment("cls/tiny_digits", disk / "work")
        newest = checkpoint.latest(experiment.train)
        assert newest is not None
        assert newest.name == "epoch_1.pth"
        checkpoint.read(newest)
        assert hidden(experiment.root) == []
        assert not (experiment.train / "record.json").exists()
    assert faulty.run(command) == 0, command.log.read_text()
    assert "epoch_1.pth" in command.log.read_text()


@pytest.mark.fault(
    row="disk-full", fault="no space left while a bundle is exported", sees=SEES, code=3,
    intact="the bundle of before, by its hashes; no temporary file is left; with space, the same command completes",
)  # fmt: skip
def test_export(disk: Path, tmp_path: Path, trained: Experiment) -> None:
    experiment = Experiment(trained.name, disk / "work")
    experiment.root.mkdir(parents=True)
    subprocess.run(["cp", "-r", trained.train, experiment.train], check=True)
    arguments = ["export", TINY, "--work", disk / "work", "--force"]
    command = Command("deploy", arguments, watched=experiment.root, log=tmp_path / "log.txt")
    assert faulty.run(command) == 0, command.log.read_text()
    before = manifest.read(experiment.bundle)
    with filled(disk, leave=300 << 10):
        full(command)
        assert hidden(experiment.root) == []
    assert manifest.read(experiment.bundle) == before
    manifest.check_files(experiment.bundle, before)


@pytest.mark.fault(
    row="disk-full", fault="no space left while results of a benchmark are written", sees=SEES, code=3,
    intact="results and report of before; with space, the same command goes on behind them",
)  # fmt: skip
def test_benchmark(disk: Path, tmp_path: Path) -> None:
    experiment = write_training(NAME, disk)
    write_data(disk / "data")
    write_graph(experiment)

    def measure(*sets: str) -> Command:
        overrides = [f"--set={each}" for each in (*BRIEF, *sets)]
        arguments = ["run", NAME, "--work", experiment.work, *overrides]
        return Command("benchmarks", arguments, watched=experiment.root, log=tmp_path / "log.txt")

    assert faulty.run(measure()) == 0
    path = experiment.bench / journal.FILE_NAME
    before, report = path.read_bytes(), (experiment.bench / "report.html").read_bytes()
    more = measure("batch_sizes=[2]")
    with filled(disk):
        full(more)
        assert path.read_bytes().startswith(before)
        assert (experiment.bench / "report.html").read_bytes() == report
        assert hidden(experiment.root) == []
    assert faulty.run(more) == 0, more.log.read_text()
    assert len(journal.cells(journal.read(path))) == 2


def in_place() -> None:
    """Write where the set of before lies, as one would; another program takes the space that it leaves."""

    @contextmanager
    def folder(path: Path) -> Iterator[Path]:
        shutil.rmtree(path)
        path.mkdir()
        with filled(path.parent, leave=1 << 20):
            yield path

    sets.atomic_folder = folder  # type: ignore[attr-defined]


@pytest.mark.control(row="disk-full")
@pytest.mark.parametrize("before", [None, in_place], ids=["beside", "in place"])
def test_control_written_in_place_the_set_of_before_is_lost(
    disk: Path, tmp_path: Path, before: Callable[[], None] | None
) -> None:
    sets.prepare("digits", disk / "digits")
    arguments = ["digits", "--out", disk / "digits", "--seed", 1]
    with filled(disk, leave=1 << 20):
        full(Command("train.data", arguments, watched=disk, log=tmp_path / "log.txt", before=before))
    assert (disk / "digits" / sets.RECORD).exists() == (before is None)
