"""What TensorRT says while it builds: its log, and how far it is."""

import time
from collections import deque
from typing import Any

from deploy.engines.building.spec import LOG, PROGRESS
from train.cli import say

#: Progress is shown at most this often, in seconds.
_EVERY = 2.0
#: How many of the log's last warnings and errors are remembered.
_KEPT = 200


def logger(trt: Any) -> Any:
    """An ILogger that shows errors on stderr, a line each, and remembers warnings: `said()`, `lines`."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=_KEPT)
            self.errors: deque[str] = deque(maxlen=_KEPT)

        def log(self, severity: Any, msg: str) -> None:
            if severity not in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
                return
            line = " ".join(msg.split())
            self.lines.append(line)
            if severity != trt.ILogger.WARNING:
                self.errors.append(line)
                say(f"{LOG}{line[:500]}")

        def said(self) -> str:
            """The last error, shortened; empty where there was none."""
            return self.errors[-1][:300] if self.errors else ""

    return Log()


def monitor(trt: Any) -> Any:
    """An IProgressMonitor that shows on stderr which phases run and how far each is."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, list[int]] = {}
            self.shown = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = [0, num_steps]
            self._show()

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.phases:
                self.phases[phase_name][0] = step + 1
                self._show()
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

        def _show(self) -> None:
            now = time.monotonic()
            if now - self.shown >= _EVERY:
                self.shown = now
                say(PROGRESS + ", ".join(f"{name} {done}/{of}" for name, (done, of) in self.phases.items()))

    return Monitor()
