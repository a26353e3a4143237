"""The command line's habits, shared by the three rooms: exit codes, logs on stderr, one JSON object on stdout."""

import errno
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from train.errors import UsageError

#: What the user can mend about a disk.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def say(message: str) -> None:
    """A line for the person at the terminal."""
    print(message, file=sys.stderr, flush=True)


def finish(result: dict[str, Any], *, as_json: bool, lines: Sequence[str], next_command: str | None = None) -> int:
    """Report a verb's result: the lines and the next command on stderr, the result as one JSON object with `--json`."""
    for line in lines:
        say(line)
    if next_command:
        say(f"next: {next_command}")
    if as_json:
        print(json.dumps(result, default=str))
    return 0


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Call a room's `main` and turn errors meant for the user into one line and their exit code.

    An exception is meant for the user when it has an `exit_code` (see `train.errors`). A disk that is full or not ours
    to write gives 3, Ctrl-C 130. Anything else is a defect of ours and keeps its traceback.
    """
    try:
        return main(argv)
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            say(f"error: {error.filename or 'output'}: {error.strerror}; free space or fix the permissions")
            return 3
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        say(f"error: {error}")
        return int(code)


def nearest(name: str, known: Sequence[str], what: str) -> UsageError:
    """A UsageError for an unknown name that suggests the nearest known one."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return UsageError(f"unknown {what} '{name}': {hint}known: {', '.join(sorted(known))}")
