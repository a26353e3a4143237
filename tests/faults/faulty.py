"""The rooms' commands in processes that are killed at a moment of their own choice.

Each process is forked from one that has imported the rooms, so that it begins at once. Its steps are what it does to files
below a folder: creating, writing (a megabyte at a time), syncing, renaming and removing.
"""

import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_PIECE = 1 << 20
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


@dataclass(frozen=True)
class Command:
    """`python -m MODULE ARGUMENTS`, its stderr in a file.

    Attributes:
        watched: the folder whose changes are steps.
        die_at: the step before which it kills itself by SIGKILL: its number, or a part of the path it is about to change.
        before: called in the process first: what else is to go wrong there. A function of a module.
    """

    module: str
    arguments: Sequence[object]
    watched: Path
    log: Path
    die_at: int | str | None = None
    before: Callable[[], None] | None = None


def start(command: Command) -> ForkServerProcess:
    """Start it; `exitcode` is -9 where it was killed."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded", "faulty"])
    process = context.Process(target=_run, args=(command,))
    process.start()
    return process


def run(command: Command, seconds: float | None = None) -> int:
    """Run it to its end, or kill it after so many seconds; its exit code."""
    process = start(command)
    process.join(seconds)
    if process.is_alive():
        assert seconds is not None
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def steps(command: Command) -> int:
    """How many steps the last line of its log says it took."""
    return int(command.log.read_text().splitlines()[-1].removeprefix("steps: "))


class _Steps:
    """Counts changes below a folder, and dies at one of them."""

    def __init__(self, watched: Path, die_at: int | str | None) -> None:
        self.watched, self.die_at, self.count = str(watched), die_at, 0

    def install(self) -> None:
        fsync, fdopen = os.fsync, os.fdopen

        def synced(descriptor: int) -> None:
            self.step("fsync")
            fsync(descriptor)

        def opened(descriptor: int, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if mode != "wb":
                return fdopen(descriptor, mode, *arguments, **named)
            return io.BufferedWriter(_Pieces(descriptor, mode, self))

        os.fsync, os.fdopen = synced, opened
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        if event != "open" and event not in _CHANGES:
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        if path.startswith(self.watched):
            self.step(path)

    def step(self, what: str) -> None:
        if self.count == self.die_at or (isinstance(self.die_at, str) and self.die_at in what):
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


class _Pieces(io.FileIO):
    """A file that takes a megabyte a write, as a disk under load may."""

    def __init__(self, descriptor: int, mode: str, owner: _Steps) -> None:
        super().__init__(descriptor, mode)
        self._owner = owner

    def write(self, content: Any) -> int:
        self._owner.step("write")
        return super().write(memoryview(content)[:_PIECE])


def _run(command: Command) -> None:
    log = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.chdir(ROOT)
    if command.before:
        command.before()
    counted = _Steps(command.watched, command.die_at)
    counted.install()
    from train import cli

    code = cli.run(import_module(f"{command.module}.__main__").main, [str(each) for each in command.arguments])
    print(f"steps: {counted.count}", file=sys.stderr, flush=True)
    os._exit(code)
