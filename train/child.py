"""A child process that may take only so long, and that nothing of outlives its end."""

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        said: its last line on stderr, as far as it was not taken.
        expired: whether it was killed for taking too long.
    """

    code: int
    said: str
    expired: bool

    def reason(self, limit: str) -> str | None:
        """Why it did not end well, in one line, or None. `limit`: what it took longer than, in words."""
        if self.expired:
            return f"took longer than {limit}"
        if self.code < 0:
            said = f"; it last said: {self.said}" if self.said else ""
            return f"the process was killed by {signal.Signals(-self.code).name}{said}"
        if self.code:
            return self.said.removeprefix("error: ") or f"the process exited with {self.code}"
        return None


@dataclass
class Children:
    """The children that run now, so that all of them can be ended from another thread."""

    alive: set["subprocess.Popen[str]"] = field(default_factory=set)
    ended: bool = False

    def end(self) -> None:
        """Kill them, and whichever starts from now on."""
        self.ended = True
        for child in tuple(self.alive):
            kill(child)


def run(
    command: Sequence[str],
    timeout_s: float,
    *,
    env: Mapping[str, str],
    out: IO[str] | None = None,
    take: Callable[[str], bool] = lambda line: False,
    children: Children | None = None,
) -> Ended:
    """Run a command of this checkout to its end, or kill it, with every program that it started.

    Args:
        command: the program and its arguments.
        timeout_s: how long it may take.
        env: on top of this process's own environment.
        out: a file for its stdout.
        take: called with each line of its stderr; whether the line is dealt with.
        children: where it is noted while it runs.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    child = subprocess.Popen(
        command,
        stdout=out or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": path, **env},
        start_new_session=True,  # so that what it starts ends with it
    )
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        kill(child)

    timer = threading.Timer(timeout_s, expire)
    timer.start()
    try:
        with _noted(child, children):
            said = _follow(child, take)
            code = child.wait()
    finally:
        timer.cancel()
        kill(child)
        child.wait()
    return Ended(code, said, expired.is_set())


def kill(child: "subprocess.Popen[str]") -> None:
    """End the child's whole session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


@contextlib.contextmanager
def _noted(child: "subprocess.Popen[str]", children: Children | None) -> Iterator[None]:
    if children is None:
        yield
        return
    children.alive.add(child)
    try:
        if children.ended:
            kill(child)
        yield
    finally:
        children.alive.discard(child)


def _follow(child: "subprocess.Popen[str]", take: Callable[[str], bool]) -> str:
    """Read stderr until it is closed; the last line that was not taken, which says why the child failed if it did."""
    assert child.stderr is not None
    others: deque[str] = deque(maxlen=1)
    for line in child.stderr:
        if not take(line.rstrip()) and line.strip():
            others.append(line.strip())
    return others.pop() if others else ""
