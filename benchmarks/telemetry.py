"""What the machine does while a cell runs, looked at from the process that started it.

A look reads a small file of the kernel a core and, on a GPU, asks its driver six questions; the measured process loses no
more than the time that this takes on one core.
"""

import os
import re
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
    looker = Looker(device, root)
    trace = Trace(cell=cell, started_s=round(time.time(), 3), sightings=[])
    started = time.monotonic()
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
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        files = [f"{root}/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq" for core in cores]
        self._cpufreq = [file for file in files if _read(file)]
        self._cpuinfo, self._loadavg = f"{root}/proc/cpuinfo", f"{root}/proc/loadavg"
        # A virtual machine's clocks there are what its counter of time is set to.
        self._cores = [] if self._cpufreq or _virtual(_read(self._cpuinfo)) else cores
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
        if self._cpufreq:
            return [int(text) / 1e3 for text in map(_read, self._cpufreq) if text.strip().isdecimal()]
        return _clocks_of(_read(self._cpuinfo), self._cores) if self._cores else []

    def _load(self) -> float | None:
        """Threads that run or want to, the machine's: the fourth field of /proc/loadavg, less the one that reads it."""
        # "0/0" is a sandbox's way not to tell.
        found = re.search(r" (\d+)/[1-9]\d* ", _read(self._loadavg))
        return max(0, int(found[1]) - 1) if found else None


def thin(sightings: Sequence[Sighting]) -> list[Sighting]:
    """The first sighting, and of every two after it the earlier, with what neither may lose: throttling and the peak."""
    first, *rest = sightings
    pairs = [rest[at : at + 2] for at in range(0, len(rest), 2)]
    return [first, *(_merged(pair) for pair in pairs)]


def _merged(pair: Sequence[Sighting]) -> Sighting:
    reasons = dict.fromkeys(reason for each in pair for reason in each.throttle)
    memory = [each.gpu_mib for each in pair if each.gpu_mib is not None]
    return pair[0].model_copy(update={"throttle": list(reasons), "gpu_mib": max(memory, default=None)})


def _virtual(cpuinfo: str) -> bool:
    return re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) is not None


def _clocks_of(cpuinfo: str, cores: Sequence[int]) -> list[float]:
    """MHz of cores by /proc/cpuinfo."""
    found = re.findall(r"^processor\s*:\s*(\d+)$|^cpu MHz\s*:\s*([\d.]+)$", cpuinfo, re.MULTILINE)
    clocks = {}
    core = -1
    for number, mhz in found:
        if number:
            core = int(number)
        else:
            clocks[core] = float(mhz)
    return [clocks[core] for core in cores if core in clocks]


def _read(file: str) -> str:
    # Not by pathlib, which takes twice as long: there is a file a core.
    try:
        with open(file, "rb", buffering=0) as opened:  # noqa: PTH123
            return opened.read().decode()
    except OSError:
        return ""
