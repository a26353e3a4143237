"""Data preparation, export, engine build and benchmark that are killed.

SIGKILL at moments from a seed: before random changes that the process makes to its files, and at random times.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import engine_bundles
import faulty
import pytest
from colour_bench import BRIEF, NAME, write_data, write_graph, write_training
from faulty import Command
from trt_fixtures import play_for_good

from benchmarks import journal
from benchmarks.journal import Cell
from slipway_runtime import manifest
from slipway_runtime import plan as plans
from train import data as sets
from train import files
from train.experiment import Experiment
from train.files import sha256

TINY = Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py"
AGAIN = "nothing; the same command, run again, completes"


def killed(command: Command, made: str, check: Callable[[], None], by_step: int, by_time: int) -> None:
    """Let it end once, then kill it so often, `check` each time what is there, and let it end again.

    Args:
        command: what to kill.
        made: what it makes below its watched folder, a pattern; removed each time, unlike what a killed process left beside.
        check: that all under its final name is whole.
        by_step: kills before a change of its files, by number.
        by_time: kills at a time.
    """
    began = time.monotonic()
    assert faulty.run(command) == 0, command.log.read_text()
    took, count = time.monotonic() - began, faulty.steps(command)
    check()
    moments = random.Random(9)
    kills = 0
    while kills < by_step + by_time:
        for path in command.watched.glob(made):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if kills < by_step:
            code = faulty.run(replace(command, die_at=moments.randrange(count)))
        else:
            code = faulty.run(command, seconds=moments.uniform(0, took))
        assert code in (0, -9), command.log.read_text()  # 0: it was done before that moment
        kills += code == -9
        check()
    assert faulty.run(command) == 0, command.log.read_text()
    check()
    assert left(command.watched) == [], "temporary files that the last run should have cleared"


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".*") if path.name != ".lock"]


def whole_set(root: Path) -> None:
    """A prepared set is absent, or what its checksums say."""
    if root.exists():
        sets.load(root)
        for line in (root / sets.CHECKSUMS).read_text().splitlines():
            assert sha256(root / line[66:]) == line[:64]


def preparing(tmp_path: Path) -> Command:
    folder = tmp_path / "data"
    folder.mkdir()
    return Command("train.data", ["digits", "--out", folder / "digits"], watched=folder, log=tmp_path / "log.txt")


@pytest.mark.fault(
    row="killed-making",
    fault="SIGKILL while data are prepared, at 12 random moments",
    sees=AGAIN,
    code=None,
    intact="no set, or a whole one; what was begun lies hidden and is removed by the next run",
)
def test_data(tmp_path: Path) -> None:
    command = preparing(tmp_path)
    killed(command, "digits", lambda: whole_set(command.watched / "digits"), by_step=8, by_time=4)


@pytest.mark.fault(
    row="killed-making",
    fault="SIGKILL during an export, at 6 random moments",
    sees=AGAIN,
    code=None,
    intact="no bundle, or a whole and verified one",
)
def test_export(tmp_path: Path, trained: Experiment) -> None:
    experiment = Experiment(trained.name, tmp_path / "work")
    shutil.copytree(trained.train, experiment.train)
    arguments = ["export", TINY, "--work", tmp_path / "work"]
    command = Command("deploy", arguments, watched=experiment.root, log=tmp_path / "log.txt")

    def check() -> None:
        if experiment.bundle.exists():
            manifest.check_files(experiment.bundle, manifest.read(experiment.bundle))
            assert (experiment.bundle / "parity.json").is_file()

    killed(command, "bundle", check, by_step=4, by_time=2)


@pytest.mark.fault(
    row="killed-replacing",
    fault="SIGKILL while an export takes the place of an old one, at each of its last 12 changes of files",
    sees=AGAIN,
    code=None,
    intact="the old bundle or the new one: one of the two, every time",
)
def test_an_export_over_another(tmp_path: Path, trained: Experiment) -> None:
    command, bundle = exporting_again(tmp_path, trained)
    count = faulty.steps(command)
    for moment in range(count - 12, count):
        assert faulty.run(replace(command, die_at=moment)) == -9
        manifest.check_files(bundle, manifest.read(bundle))
    assert faulty.run(command) == 0
    assert left(bundle.parent) == []


@pytest.mark.control(row="killed-replacing")
def test_control_in_two_steps_there_is_a_moment_without_any(tmp_path: Path, trained: Experiment) -> None:
    command, bundle = exporting_again(tmp_path, trained)
    assert faulty.run(replace(command, before=killed_between_two_renames)) == -9
    assert not bundle.exists()


def exporting_again(tmp_path: Path, trained: Experiment) -> tuple[Command, Path]:
    """What exports once more, where there is a bundle already, and that."""
    experiment = Experiment(trained.name, tmp_path / "work")
    shutil.copytree(trained.train, experiment.train)
    arguments = ["export", TINY, "--work", tmp_path / "work", "--force"]
    command = Command("deploy", arguments, watched=experiment.root, log=tmp_path / "log.txt")
    for _ in range(2):  # the second has an old one to remove
        assert faulty.run(command) == 0, command.log.read_text()
    return command, experiment.bundle


def killed_between_two_renames() -> None:
    rename = os.replace

    def renamed(source: Path, target: Path) -> None:
        rename(source, target)
        if Path(target).name == "old":
            os.kill(os.getpid(), signal.SIGKILL)

    files._exchange = lambda one, other: False  # type: ignore[assignment]
    os.replace = renamed  # type: ignore[assignment]


@pytest.mark.fault(
    row="killed-making",
    fault="SIGKILL during a TensorRT engine's build, at 5 random moments (with a stand-in of TensorRT)",
    sees=AGAIN,
    code=None,
    intact="no plan, or a whole one with its description",
)
def test_engine(tmp_path: Path) -> None:
    experiment, config = engine_bundles.experiment(tmp_path)
    folder = experiment.bundle / plans.FOLDER
    command = Command(
        "deploy",
        ["engine", config, "--work", experiment.work],
        watched=folder,
        log=tmp_path / "log.txt",
        before=play_for_good,
    )

    def check() -> None:
        for path in folder.glob("*.plan"):
            if plans.sidecar(path).is_file():  # a plan without it is none
                assert sha256(path) == plans.read(path).plan_sha256

    killed(command, "*.plan*", check, by_step=4, by_time=1)
    assert len(list(folder.glob("*.plan.json"))) == 1


@pytest.mark.fault(
    row="killed-making",
    fault="SIGKILL during a benchmark, at 4 random moments",
    sees=AGAIN,
    code=None,
    intact="every result that was there; nothing is measured twice",
)
def test_benchmark(tmp_path: Path) -> None:
    experiment = write_training(NAME, tmp_path)
    write_data(tmp_path / "data")
    write_graph(experiment)
    arguments = ["run", NAME, "--work", experiment.work, *(f"--set={each}" for each in BRIEF)]
    path = experiment.bench / journal.FILE_NAME
    command = Command("benchmarks", arguments, watched=experiment.bench, log=tmp_path / "log.txt")

    def check() -> None:
        cells = [each for each in journal.read(path) if isinstance(each, Cell)] if path.exists() else []
        assert len({cell.key for cell in cells}) == len(cells) <= 1

    killed(command, "*", check, by_step=3, by_time=1)
    assert len(journal.cells(journal.read(path))) == 1
    assert (experiment.bench / "report.html").read_text().rstrip().endswith("</html>")


def in_place() -> None:
    @contextmanager
    def folder(path: Path) -> Iterator[Path]:
        path.mkdir()
        yield path

    sets.atomic_folder = folder  # type: ignore[attr-defined]


@pytest.mark.control(row="killed-making")
def test_control_written_in_place_a_part_is_under_the_final_name(tmp_path: Path) -> None:
    command = preparing(tmp_path)
    assert faulty.run(replace(command, before=in_place, die_at=500)) == -9
    assert any((command.watched / "digits").iterdir())
    with pytest.raises(Exception, match="no prepared set"):
        whole_set(command.watched / "digits")
    assert faulty.run(command) == 2, "it is not even replaced"
