"""How much memory a process has had, of the host and of a GPU, and whether it ended for want of it."""

import re
import resource
import sys
from pathlib import Path

from benchmarks.outcome import Spec, Trace

#: What Python, NumPy, C++, Linux, OpenCV, PyTorch, ONNX Runtime and CUDA's libraries say when memory is short.
_SHORT = re.compile(
    r"out of memory|OutOfMemory|MemoryError|bad_alloc|(can't|cannot|failed to|unable to) allocate|ALLOC_FAILED"
    r"|insufficient memory|MemoryAllocation",
    re.IGNORECASE,
)
#: As `process` and `native` tell it.
_KILLED = re.compile(r"killed by SIGKILL|exited with -9")
VMSTAT = Path("/proc/vmstat")


def peak_rss_mib(pid: int | None = None) -> float | None:
    """Most resident memory that a process, by default this one, has had, in MiB; None where the system does not tell.

    Linux's `VmHWM`, because `getrusage` still holds the parent's peak after fork and exec; `getrusage` elsewhere.
    """
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    if pid is not None:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peak_device_mib(trace: Trace, until_s: float | None = None) -> float | None:
    """Most memory of the GPU that was taken beyond what was taken before the cell started, in MiB; None on the CPU.

    Counted by the driver for the whole board, so alike for every engine: contexts, pools and libraries, in processes of
    their own too, in containers too, where no process can be told from another. Pools do not shrink, so sightings this
    far apart see their peak. Another program that uses the GPU meanwhile counts as well, and spoils the timing besides.

    Args:
        trace: what was seen, the first time before the cell started.
        until_s: look no further than this moment, in seconds since the epoch.
    """
    end = float("inf") if until_s is None else until_s - trace.started_s
    seen = [each.gpu_mib for each in trace.sightings if each.at_s <= end and each.gpu_mib is not None]
    return round(max(seen) - seen[0], 1) if seen else None


def oom_kills(vmstat: Path = VMSTAT) -> int | None:
    """Processes that Linux has killed for want of memory, of the machine or of a control group, since it was started.

    None where it does not tell. https://docs.kernel.org/admin-guide/cgroup-v2.html has the same count by group.
    """
    try:
        fields = dict(line.split() for line in vmstat.read_text().splitlines())
        return int(fields["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def explain(reason: str | None, spec: Spec, kills_before: int | None, kills_after: int | None) -> str | None:
    """What to tell of a cell that did not end well, if memory was short; None if nothing says so.

    Args:
        reason: the last thing that the cell said.
        spec: what it was to measure.
        kills_before: `oom_kills` before it started.
        kills_after: `oom_kills` after its end.
    """
    reason = reason or ""
    # The count is the machine's: another process may have died of it, but hardly while this one was killed too.
    killed = kills_before != kills_after and _KILLED.search(reason) is not None
    if not killed and not _SHORT.search(reason):
        return None
    what = "batch_sizes, shapes or inputs" + (", or accuracy_batch_size" if spec.accuracy_batch_size else "")
    why = "Linux killed it for want of memory" if killed else reason
    return f"ran out of memory at batch {spec.batch}, which was not shrunk; choose smaller {what} ({why})"
