"""What the machine does while a cell runs, looked at from the process that started it.

A look reads a small file of the kernel a core and, on a GPU, asks its driver six questions; the measured process loses no
more than the time that this takes on one core.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks import nvml
from benchmarks.outcome import Sighting, Trace

INTERVAL_S = 0.5
#: A trace that has so many sightings is thinned to half, and goes on half as often.
MOST = 120


@contextmanager
def watch(cell: str, device: str, root: Path = Path("/"), interval_s: float = INTERVAL_S) -> Iterator[Trace]:
    """Look at the machine now and then every `interval_s` until the block ends.

    Enter before the cell's process starts: the first sighting is the machine without it.

    Args:
        cell: the trace's name.
        device: what the cell runs on; a GPU is asked where it is one.
        root: where `proc` and `sys` lie.
        interval_s: seconds between sightings; twice as many after each thinning.

    Yields:
        The trace, which grows, to `MOST` sightings at most. It is whole when the block has ended.
    """
    trace = Trace(cell=cell, started_s=round(time.time(), 3), sightings=[])
    started = time.monotonic()
    looker = Looker(device, root)
    trace.sightings.append(looker.look(0.0))
    done = threading.Event()

    def run() -> None:
        interval = interval_s
        while not done.wait(interval):
            trace.sightings.append(looker.look(round(time.monotonic() - started, 2)))
            if len(trace.sightings) >= MOST:
                trace.sightings = thin(trace.sightings)
                interval *= 2

    thread = threading.Thread(target=run, name="telemetry", daemon=True)
    thread.start()
    try:
        yield trace
    finally:
        done.set()
        thread.join()


class Looker:
    """Looks at one machine: at the cores that this process may use, and at the GPU that the cell uses."""

    def __init__(self, device: str, root: Path = Path("/")) -> None:
        self._root = root
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._gpu = None if device == "cpu" else nvml.used()

    def look(self, at_s: float) -> Sighting:
        """The machine at this moment."""
        clocks, gpu = self._clocks(), self._gpu
        return Sighting(
            at_s=at_s,
            cpu_mhz=(round(min(clocks)), round(median(clocks)), round(max(clocks))) if clocks else None,
            load=self._load(),
            gpu_mhz=gpu and nvml.sm_clock(gpu),
            gpu_w=gpu and nvml.watts(gpu),
            gpu_mib=gpu and nvml.used_mib(gpu),
            throttle=nvml.throttle(gpu) if gpu else [],
        )

    def _clocks(self) -> list[float]:
        """MHz of each core; empty where nothing tells."""
        folder = self._root / "sys/devices/system/cpu"
        found = [_read(folder / f"cpu{core}/cpufreq/scaling_cur_freq") for core in self._cores]
        clocks = [int(text) / 1e3 for text in found if text.strip().isdecimal()]
        return clocks or _clocks_of(_read(self._root / "proc/cpuinfo"), self._cores)

    def _load(self) -> float | None:
        """Threads that run or want to, the machine's: the fourth field of /proc/loadavg, less the one that reads it."""
        running = _read(self._root / "proc/loadavg").split(" ")[3:4]
        count = running[0].partition("/")[0] if running else ""
        return max(0, int(count) - 1) if count.isdecimal() else None


def thin(sightings: Sequence[Sighting]) -> list[Sighting]:
    """The first sighting, and of every two after it the earlier, with what neither may lose: throttling and the peak."""
    first, *rest = sightings
    pairs = [rest[at : at + 2] for at in range(0, len(rest), 2)]
    return [first, *(_merged(pair) for pair in pairs)]


def _merged(pair: Sequence[Sighting]) -> Sighting:
    reasons = dict.fromkeys(reason for each in pair for reason in each.throttle)
    memory = [each.gpu_mib for each in pair if each.gpu_mib is not None]
    return pair[0].model_copy(update={"throttle": list(reasons), "gpu_mib": max(memory, default=None)})


def _clocks_of(cpuinfo: str, cores: Sequence[int]) -> list[float]:
    """MHz of cores by /proc/cpuinfo; empty in a virtual machine, which shows what its counter of time is set to."""
    found = {}
    for block in cpuinfo.split("\n\n"):
        fields = {
            name.strip(): value.strip() for name, _, value in (line.partition(":") for line in block.splitlines())
        }
        if "hypervisor" in fields.get("flags", "").split():
            return []
        if "processor" in fields and "cpu MHz" in fields:
            found[int(fields["processor"])] = float(fields["cpu MHz"])
    return [found[core] for core in cores if core in found]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
