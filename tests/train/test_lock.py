"""One writer a folder: the second is told who the first one is, and a dead one holds nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from train.errors import UsageError
from train.lock import only_writer

HOLD = (
    "import sys; from pathlib import Path; from train.lock import only_writer\n"
    "with only_writer(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
)


def _holder(folder: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_the_second_is_refused_with_the_first_ones_pid_until_that_ends(tmp_path: Path) -> None:
    child = _holder(tmp_path / "x")
    with pytest.raises(UsageError, match=f"process {child.pid} is at work here"), only_writer(tmp_path / "x"):
        pytest.fail("two at once")
    with only_writer(tmp_path / "y"):
        pass
    child.communicate()
    with only_writer(tmp_path / "x"):
        assert (tmp_path / "x" / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    child = _holder(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with only_writer(tmp_path):
        pass


def test_who_is_refused_otherwise_leaves_no_empty_experiment(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "cls" / "x"
    with pytest.raises(UsageError, match="no such thing"), only_writer(folder):
        raise UsageError("no such thing")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="no such thing"), only_writer(tmp_path / "mine"):
        raise UsageError("no such thing")
    assert (tmp_path / "mine").exists()
    with only_writer(folder):
        (folder / "made").touch()
    assert (folder / "made").exists()
