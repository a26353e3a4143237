"""Where numbers come from: hardware, software and load, and nothing that names a person, a host or a folder."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).parents[1]
#: What every row depends on, whatever its backend.
DISTRIBUTIONS = ("numpy", "opencv-python-headless", "slipway-runtime")


class Gpu(BaseModel):
    """One NVIDIA GPU, as `nvidia-smi` reports it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    driver: str
    memory_mib: str
    power_limit_w: str
    sm_clock_mhz: str
    throttle_reasons: str


class Environment(BaseModel):
    """The environment block of a result. None: this machine does not tell."""

    model_config = ConfigDict(extra="forbid")

    date_utc: str
    cpu_model: str
    cores: int
    threads: int
    governor: str | None
    load_average_1m: float
    memory_gib: float
    os: str
    container: bool
    python: str
    versions: dict[str, str]
    gpus: list[Gpu]
    git_commit: str | None
    git_dirty: bool | None

    def identity(self) -> dict[str, object]:
        """What must be equal for stored numbers to be this machine's."""
        return {
            **self.model_dump(include={"cpu_model", "cores", "threads", "python", "versions"}),
            "gpus": [(gpu.name, gpu.driver) for gpu in self.gpus],
        }


def capture(distributions: Iterable[str], threads: int, device: str) -> Environment:
    """Look at this machine. GPUs are asked for only when `device` is one."""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    return Environment(
        date_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        cpu_model=_cpu_model(),
        cores=available_cores(),
        threads=threads,
        governor=_read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        load_average_1m=round(os.getloadavg()[0], 2),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        os=_os_name(),
        container=any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv")),
        python=platform.python_version(),
        versions=versions({*DISTRIBUTIONS, *distributions}),
        gpus=[] if device == "cpu" else _gpus(),
        git_commit=commit,
        git_dirty=bool(_output("git", "-C", str(ROOT), "status", "--porcelain")) if commit else None,
    )


def available_cores() -> int:
    """Cores that this process may use: its CPU affinity, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = (_read(Path("/sys/fs/cgroup/cpu.max")) or "max").partition(" ")
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Versions by distribution name, of those that are installed."""
    found = {}
    for name in sorted(distributions):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def _os_name() -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read(Path("/etc/os-release")) or "", re.MULTILINE)
    return f"{match[1] if match else platform.system()}, kernel {platform.release()}"


def _gpus() -> list[Gpu]:
    fields = "name,driver_version,memory.total,power.limit,clocks.sm,clocks_event_reasons.active"
    text = _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits") or ""
    names = list(Gpu.model_fields)
    return [Gpu(**dict(zip(names, line.split(", "), strict=True))) for line in text.splitlines()]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _output(*command: str) -> str | None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
