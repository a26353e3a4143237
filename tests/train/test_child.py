"""A child process: how it ended, in one line, and that nothing of it is left."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from train import child


def run(program: str, timeout_s: float = 30, **options: object) -> child.Ended:
    return child.run([sys.executable, "-c", program], timeout_s, env={"GIVEN": "yes"}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; assert os.environ['GIVEN'] == 'yes'", None),
        ("import sys; sys.exit('error: no such file')", "no such file"),
        ("import sys; sys.exit(3)", "the process exited with 3"),
        ("import os; os.write(2, b'soon\\n'); os.abort()", "the process was killed by SIGABRT; it last said: soon"),
    ],
)
def test_how_it_ended(program: str, reason: str | None) -> None:
    assert run(program).reason("30 s") == reason


def test_lines_that_are_taken_are_no_reason() -> None:
    taken = []

    def take(line: str) -> bool:
        taken.append(line)
        return line.startswith("progress")

    ended = run("import sys; sys.exit('why\\nprogress 2')", take=take)
    assert (ended.said, taken) == ("why", ["why", "progress 2"])


#: Starts a program of its own and says which.
PARENT = (
    "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); open({path!r}, 'w').write(str(p.pid)); p.wait()"
)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.01)
    return False


def test_what_takes_too_long_ends_with_what_it_started(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    ended = run(PARENT.format(path=str(path)), timeout_s=2)
    assert ended.reason("2 s") == "took longer than 2 s"
    assert gone(int(path.read_text()))


def test_all_children_can_be_ended(tmp_path: Path) -> None:
    path, children, ended = tmp_path / "pid", child.Children(), []
    thread = threading.Thread(target=lambda: ended.append(run(PARENT.format(path=str(path)), children=children)))
    thread.start()
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    children.end()
    thread.join(10)
    assert ended[0].code < 0
    assert gone(int(path.read_text()))
    assert run("import time; time.sleep(60)", children=children).code < 0, "none starts any more"
