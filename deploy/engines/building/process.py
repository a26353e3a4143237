"""Runs the process that builds an engine: its progress shown, its end turned into an error for the user."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from deploy.engines.building.spec import LOG, PROGRESS, Answer, Spec
from train.cli import say
from train.errors import BackendError

_ROOT = Path(__file__).parents[3]
_MODULE = "deploy.engines.building.worker"
#: How often it is said that a build goes on, in seconds, where TensorRT does not say how far it is.
_EVERY = 15.0


def run(spec: Spec, folder: Path) -> Answer:
    """Build in a process of its own, with files in `folder`.

    Raises:
        BackendError: what the process said that the machine or TensorRT lacks, or how it ended.
    """
    spec_file, answer_file = folder / "spec.json", folder / "answer.json"
    spec_file.write_text(spec.model_dump_json())
    child = subprocess.Popen(
        [sys.executable, "-m", _MODULE, str(spec_file), str(answer_file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))},
    )
    done = threading.Event()
    clock = threading.Thread(target=_tell_time, args=(done,), daemon=True)
    clock.start()
    try:
        said = _follow(child, done)
        code = child.wait()
    finally:
        done.set()
        child.kill()
        child.wait()
    if code == 0 and answer_file.is_file():
        return Answer.model_validate_json(answer_file.read_text())
    raise BackendError(_reason(code, said, spec))


def _reason(code: int, said: str, spec: Spec) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        last = f"; it last said: {said}" if said else ""
        cause = ""
        if -code == signal.SIGKILL:
            cause = "; a machine out of memory does that: close other programs, or give it a smaller --batch or --size"
        return f"the process that built the {spec.options.precision} engine was killed by {name}{last}{cause}"
    return said or f"the process that built the {spec.options.precision} engine exited with {code} and said nothing"


def _follow(child: "subprocess.Popen[str]", told: threading.Event) -> str:
    """Show progress and TensorRT's errors until stderr closes; its last other line, or else TensorRT's last error."""
    assert child.stderr is not None
    others: deque[str] = deque(maxlen=1)
    log: deque[str] = deque(maxlen=1)
    for line in map(str.strip, child.stderr):
        if line.startswith(PROGRESS):
            told.set()
            say(f"  {line.removeprefix(PROGRESS)}")
        elif line.startswith(LOG):
            say(f"  {line}")
            log.append(line)
        elif line:
            others.append(line)
    return (others or log or deque([""])).pop().removeprefix("error: ")


def _tell_time(done: threading.Event) -> None:
    began = time.monotonic()
    while not done.wait(_EVERY):
        say(f"  building, {time.monotonic() - began:.0f} s")
