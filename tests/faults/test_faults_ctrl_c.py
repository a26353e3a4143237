"""Ctrl-C in every verb: SIGINT to the whole foreground group, as a terminal sends it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import engine_bundles
import numpy as np
import pytest
import tiny_bundles
from colour_bench import BRIEF, NAME, write_data, write_graph, write_training
from test_runtime_video import _make as make_video
from tiny_training import data as data
from tiny_training import make
from trt_fixtures import stand_in_environment

from slipway_runtime import manifest
from train.experiment import Experiment

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py"
#: What the table promises.
SECONDS = 3.0


@dataclass
class Run:
    """A verb at work; `said` is its stderr."""

    child: "subprocess.Popen[bytes]"
    log: Path
    code: int = 0

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert self.child.poll() is None, f"it ended too early: {self.said}"
            time.sleep(0.01)

    def interrupt(self) -> None:
        """Ctrl-C, and it ends in time, without what it waits for a core meanwhile."""
        began, waited = time.monotonic(), waiting(self.child.pid)
        os.killpg(self.child.pid, signal.SIGINT)
        last = waited
        while self.child.poll() is None:
            last = waiting(self.child.pid) or last
            assert time.monotonic() - began - (last - waited) < SECONDS, self.said
            time.sleep(0.01)
        self.code = self.child.returncode


def waiting(pid: int) -> float:
    """Seconds that a process has been ready to run without a core (proc(5): schedstat)."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # it has ended
        return 0.0


@contextmanager
def started(log: Path, *command: object, **environment: str) -> Iterator[Run]:
    """A process group of its own that is there until the block ends."""
    with log.open("wb") as stderr:
        child = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
            # A shell's background job hands down that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield Run(child, log)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def completes(log: Path, *command: object, **environment: str) -> str:
    """The same command, run again; what it says."""
    with started(log, *command, **environment) as run:
        assert run.child.wait() == 0, run.said
        return run.said


def assert_interrupted(run: Run, *words: str) -> None:
    assert run.code == 130, run.said
    assert "Traceback" not in run.said
    for each in ("interrupted", *words):
        assert each in run.said.splitlines()[-1]


def hidden(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.mark.fault(
    row="ctrl-c", fault="Ctrl-C in training", code=130,
    sees="interrupted; --resume (RESUME=1) goes on from the last whole checkpoint",
    intact="the newest checkpoint; RESUME=1 completes",
)  # fmt: skip
def test_train(tmp_path: Path, data: Path) -> None:
    command = make(tmp_path / "work", data)
    verb = ("-m", "train", *command.arguments)
    with started(tmp_path / "log.txt", *verb) as run:
        run.wait_for(lambda: list(command.watched.glob("*/train/epoch_1.pth")))
        run.interrupt()
        assert_interrupted(run, "--resume (RESUME=1) goes on from the last whole checkpoint")
    assert hidden(command.watched) == []
    assert "resuming from" in completes(tmp_path / "log.txt", *verb)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of one photo many times, in two classes; half a minute's work."""
    rng = np.random.default_rng(0)
    one = tiny_bundles.save(tmp_path / "photos" / "a" / "0.png", rng.integers(0, 255, (600, 600, 3), np.uint8))
    for index in range(1, 3000):
        link = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        link.parent.mkdir(exist_ok=True)
        link.hardlink_to(one)
    return tmp_path / "photos"


@pytest.mark.fault(
    row="ctrl-c", fault="Ctrl-C while data are prepared", code=130,
    sees="interrupted; run the same command again to go on",
    intact="no set, or the one of before; no temporary file is left",
)  # fmt: skip
def test_data(tmp_path: Path, photos: Path) -> None:
    verb = ("-m", "train.data", "imagefolder", "--from", photos, "--out", tmp_path / "out" / "set")
    with started(tmp_path / "log.txt", *verb) as run:
        run.wait_for(lambda: list(tmp_path.glob("out/.set.tmp-*")) and threads(run.child.pid) > 1)
        run.interrupt()
        assert_interrupted(run, "run the same command again to go on")
    assert list((tmp_path / "out").iterdir()) == []
    for number, path in enumerate(sorted(photos.glob("*/*.png"))):
        path.unlink()
        if number % 300 == 0:
            tiny_bundles.save(path, np.full((8, 8, 3), number // 12, np.uint8))
    completes(tmp_path / "log.txt", *verb)


def threads(pid: int) -> int:
    """Of a process, those that check images too."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.fault(
    row="ctrl-c", fault="Ctrl-C in an export", code=130,
    sees="interrupted; run the same command again to go on",
    intact="no bundle, or the one of before; no temporary file is left",
)  # fmt: skip
def test_export(tmp_path: Path, trained: Experiment) -> None:
    experiment = Experiment(trained.name, tmp_path / "work")
    experiment.root.mkdir(parents=True)
    experiment.train.symlink_to(trained.train)
    verb = ("-m", "deploy", "export", TINY, "--work", tmp_path / "work")
    with started(tmp_path / "log.txt", *verb) as run:
        run.wait_for(lambda: "verifying: " in run.said)
        run.interrupt()
        assert_interrupted(run, "run the same command again to go on")
    assert hidden(experiment.root) == []
    assert not experiment.bundle.exists()
    completes(tmp_path / "log.txt", *verb)
    manifest.check_files(experiment.bundle, manifest.read(experiment.bundle))


@pytest.mark.fault(
    row="ctrl-c", fault="Ctrl-C in an engine's build (with a stand-in of TensorRT)", code=130,
    sees="interrupted; run the same command again to go on",
    intact="no plan, or the one of before; the process that builds has ended; no temporary file is left",
)  # fmt: skip
def test_engine(tmp_path: Path) -> None:
    experiment, config = engine_bundles.experiment(tmp_path)
    verb = ("-m", "deploy", "engine", config, "--work", experiment.work)
    with started(tmp_path / "log.txt", *verb, **stand_in_environment(build_seconds=60)) as run:
        run.wait_for(lambda: "Building Engine" in run.said)
        run.interrupt()
        assert_interrupted(run, "run the same command again to go on")
        assert not group(run.child.pid)
    assert hidden(experiment.bundle) == []
    assert not list(experiment.bundle.glob("engines/*.plan"))
    assert "built: " in completes(tmp_path / "log.txt", *verb, **stand_in_environment())


def group(pid: int) -> list[str]:
    """The processes of a group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, leader = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(leader) == pid and state != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.fault(
    row="ctrl-c", fault="Ctrl-C in a benchmark", code=130,
    sees="interrupted; run the same command again to go on",
    intact="every cell that was measured; the same command measures the rest",
)  # fmt: skip
def test_benchmark(tmp_path: Path) -> None:
    experiment = write_training(NAME, tmp_path)
    write_data(tmp_path / "data")
    write_graph(experiment)
    overrides = [f"--set={each}" for each in (*BRIEF, "repetitions=2")]
    verb = ("-m", "benchmarks", "run", NAME, "--work", experiment.work, *overrides)
    with started(tmp_path / "log.txt", *verb) as run:
        run.wait_for(lambda: "[2/2]" in run.said)
        run.interrupt()
        assert_interrupted(run, "run the same command again to go on")
    assert "[1/1]" in completes(tmp_path / "log.txt", *verb)


@pytest.mark.fault(
    row="ctrl-c", fault="Ctrl-C while a folder of images is predicted", code=130,
    sees="interrupted: 17 of 3000 files are done",
    intact="the lines and the drawings that are there, each whole",
)  # fmt: skip
def test_infer_images(tmp_path: Path, photos: Path) -> None:
    bundle = tiny_bundles.write_bundle(
        tmp_path / "b", tiny_bundles.build_segmenter(), tiny_bundles.segmenter_manifest()
    )
    verb = ("-m", "slipway_runtime", bundle, photos, "--out", tmp_path / "drawn")
    with started(tmp_path / "log.txt", *verb) as run:
        run.wait_for(lambda: len(list(tmp_path.glob("drawn/a/*.png"))) > 4)
        run.interrupt()
        assert_interrupted(run, "files are done")
    done = int(run.said.splitlines()[-1].split()[1])
    assert 4 <= 2 * done <= len(list(tmp_path.glob("drawn/*/*.png"))) <= 2 * done + 2  # two drawings a photo
    assert hidden(tmp_path / "drawn") == []
    drawn = list((tmp_path / "drawn").rglob("*.png"))
    assert all(cv2.imread(str(path)) is not None for path in drawn)
    for path in list(photos.glob("*/*.png"))[5:]:
        path.unlink()
    completes(tmp_path / "log.txt", *verb)


@pytest.mark.fault(
    row="ctrl-c", fault="Ctrl-C while a video is drawn on", code=130,
    sees="interrupted: 0 of 1 files are done",
    intact="the parts that are done, each whole; the same command goes on behind them",
)  # fmt: skip
def test_infer_video(tmp_path: Path) -> None:
    bundle = tiny_bundles.write_bundle(
        tmp_path / "b", tiny_bundles.build_segmenter(), tiny_bundles.segmenter_manifest()
    )
    clip = make_video(tmp_path / "a.mkv", tuple(range(0, 40 * 400, 40)), (480, 640))
    verb = ("-m", "slipway_runtime", bundle, clip, "--out", tmp_path / "drawn")
    with started(tmp_path / "log.txt", *verb) as run:
        run.wait_for(lambda: list(tmp_path.glob("drawn/.a.mp4.parts/*.npz")))
        run.interrupt()
        assert_interrupted(run, "0 of 1 files are done")
    assert not (tmp_path / "drawn" / "a.mp4").exists()
    said = completes(tmp_path / "log.txt", *verb)
    assert re.search(r"400 frames \([0-9]+ of them before an interruption\)", said)


@pytest.mark.control(row="ctrl-c")
@pytest.mark.parametrize("guarded", [True, False])
def test_control_a_verb_called_without_its_guard_ends_with_a_traceback(
    tmp_path: Path, photos: Path, guarded: bool
) -> None:
    call = "run(main)" if guarded else "main()"
    program = f"from train.cli import run; from train.data.__main__ import main; raise SystemExit({call})"
    arguments = ("imagefolder", "--from", photos, "--out", tmp_path / "out" / "set")
    with started(tmp_path / "log.txt", "-c", program, *arguments) as run:
        run.wait_for(lambda: list(tmp_path.glob("out/.set.tmp-*")) and threads(run.child.pid) > 1)
        run.interrupt()
    assert (run.code == 130) == guarded
    assert ("Traceback" in run.said) == (not guarded)
