"""One writer an experiment: whoever writes in `work/<experiment>` holds its lock, and a second one is refused."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from train.errors import UsageError

NAME = ".lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the only writer of an experiment's folder inside the block.

    The kernel holds the lock (flock(2)), so it ends with its process, however that ends; the file itself stays.

    Raises:
        UsageError: another process is at work there, which is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(
                f"{folder}: process {file.read().strip() or 'unknown'} is at work here; wait until it ends, or choose another WORK="
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
