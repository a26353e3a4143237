"""What a machine is, as far as results depend on it; nothing that names a person, a host or a folder."""

import os
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path


def available_cores() -> int:
    """Cores that this process may use: its CPU affinity, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = (read(Path("/sys/fs/cgroup/cpu.max")) or "max").partition(" ")
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name. `root`: where `proc` lies."""
    match = re.search(r"^model name\s*:\s*(.+)$", read(root / "proc/cpuinfo") or "", re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Versions by distribution name, of those that are installed."""
    found = {}
    for name in sorted(distributions):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def read(path: Path) -> str | None:
    """A small file's text without white space around it, or None where there is no such file to read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
