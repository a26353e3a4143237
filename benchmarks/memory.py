"""How much memory a process has had."""

import resource
import sys
from pathlib import Path


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
