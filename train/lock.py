"""One writer an experiment: whoever writes in `work/<experiment>` holds its lock, and a second one is refused."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from train.errors import UsageError

NAME = ".lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the only writer of an experiment's folder inside the block.

    The kernel holds the lock (flock(2)), so it ends with its process, however that ends. Who writes nothing leaves
    nothing: neither the lock's file nor folders that were not there before.

    Raises:
        UsageError: another process is at work there, which is named.
    """
    path = folder / NAME
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    with _locked(path) as file:
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            if {each.name for each in folder.iterdir()} == {NAME}:
                path.unlink()
                with contextlib.suppress(OSError):  # that it is not empty
                    for each in missing:
                        each.rmdir()


def _locked(path: Path) -> TextIO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:  # removed by the one before, with its folder
            continue
        except BlockingIOError:
            file.seek(0)
            said = file.read().strip() or "unknown"
            file.close()
            raise UsageError(
                f"{path.parent}: process {said} is at work here; wait until it ends, or choose another WORK="
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # of the one before, who has removed it
