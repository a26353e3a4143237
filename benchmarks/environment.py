"""Where numbers come from: hardware, software and load, and nothing that names a person, a host or a folder."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmarks import energy, nvml
from train.errors import BackendError
from train.machine import available_cores, cpu_model, read, versions

ROOT = Path(__file__).parents[1]
#: What every row depends on, whatever its backend.
DISTRIBUTIONS = ("numpy", "opencv-python-headless", "slipway-runtime")
#: Of a CPU's features those that decide how fast each precision is, under Linux's names for x86 and Arm; and "hypervisor",
#: which says that this is a virtual machine.
CPU_FLAGS = (
    *(
        "fma",
        "f16c",
        "avx",
        "avx2",
        "avx_vnni",
        "avx_vnni_int8",
        "avx512f",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_fp16",
    ),
    *("amx_int8", "amx_bf16", "amx_fp16", "hypervisor"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme"),
)


class Gpu(BaseModel):
    """One NVIDIA GPU, as its driver reports it. None: it does not tell.

    Attributes:
        driver: its version; `cuda`: the newest CUDA that it knows, "13.0".
        power_limit_w: what the board may draw.
        sm_clock_mhz: of the multiprocessors, before the run; `max_sm_clock_mhz`: what they have at most;
            `application_clock_mhz`: what someone has set; `memory_clock_mhz`: of its memory, before the run.
        throttle_reasons: what held the clock back before the run.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    driver: str
    cuda: str | None = None
    compute_capability: str | None
    memory_mib: int | None
    power_limit_w: float | None
    sm_clock_mhz: float | None
    max_sm_clock_mhz: float | None
    application_clock_mhz: float | None
    memory_clock_mhz: float | None = None
    ecc: bool | None
    persistence: bool | None
    throttle_reasons: list[str]


class Environment(BaseModel):
    """The environment block of a result. None: this machine does not tell.

    Attributes:
        cpu_flags: of `CPU_FLAGS` those that it has.
        cpu_max_mhz: the highest clock of its cores, lowest first where they differ.
        energy_source: what counts joules here, or None and `energy_reason`.
    """

    model_config = ConfigDict(extra="forbid")

    date_utc: str
    cpu_model: str
    cpu_flags: list[str] = []
    cpu_max_mhz: list[float] = []
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
    energy_source: str | None = None
    energy_reason: str | None = None
    git_commit: str | None
    git_dirty: bool | None

    def identity(self) -> dict[str, object]:
        """What must be equal for stored numbers to be this machine's."""
        return {
            **self.model_dump(include={"cpu_model", "cpu_flags", "cores", "threads", "python", "versions"}),
            "gpus": [(gpu.name, gpu.driver) for gpu in self.gpus],
        }


def capture(distributions: Iterable[str], threads: int, device: str, root: Path = Path("/")) -> Environment:
    """Look at this machine. GPUs are asked for only when `device` is one. `root`: where `proc`, `sys` and `etc` lie."""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    cpuinfo = read(root / "proc/cpuinfo") or ""
    source, reason = _energy(device, root)
    return Environment(
        date_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        cpu_model=cpu_model(root),
        cpu_flags=_cpu_flags(cpuinfo),
        cpu_max_mhz=_cpu_max_mhz(root),
        cores=available_cores(),
        threads=threads,
        governor=read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load_average_1m=round(os.getloadavg()[0], 2),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        os=_os_name(),
        container=any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv")),
        python=platform.python_version(),
        versions=versions({*DISTRIBUTIONS, *distributions}),
        gpus=[] if device == "cpu" else [_gpu(handle) for handle in nvml.handles()],
        energy_source=source,
        energy_reason=reason,
        git_commit=commit,
        git_dirty=bool(_output("git", "-C", str(ROOT), "status", "--porcelain")) if commit else None,
    )


def _cpu_flags(cpuinfo: str) -> list[str]:
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    found = set(match[1].split()) if match else set()
    return [flag for flag in CPU_FLAGS if flag in found]


def _cpu_max_mhz(root: Path) -> list[float]:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    return sorted({int(text) / 1e3 for text in map(read, files) if text})


def _energy(device: str, root: Path) -> tuple[str | None, str | None]:
    try:
        return energy.find(device, root / "sys/class/powercap").source, None
    except BackendError as error:
        return None, str(error)


def _os_name() -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', read(Path("/etc/os-release")) or "", re.MULTILINE)
    return f"{match[1] if match else platform.system()}, kernel {platform.release()}"


def _gpu(handle: Any) -> Gpu:
    capability = nvml.ask("DeviceGetCudaComputeCapability", handle)
    memory = nvml.ask("DeviceGetMemoryInfo", handle)
    ecc = nvml.ask("DeviceGetEccMode", handle)
    persistence = nvml.ask("DeviceGetPersistenceMode", handle)
    return Gpu(
        name=nvml.ask("DeviceGetName", handle) or "unknown",
        driver=nvml.ask("SystemGetDriverVersion") or "unknown",
        cuda=nvml.cuda_version(),
        compute_capability=capability and "{}.{}".format(*capability),
        memory_mib=memory and memory.total >> 20,
        power_limit_w=nvml.power_limit(handle),
        sm_clock_mhz=nvml.sm_clock(handle),
        max_sm_clock_mhz=nvml.max_sm_clock(handle),
        application_clock_mhz=nvml.application_clock(handle),
        memory_clock_mhz=nvml.memory_clock(handle),
        ecc=None if ecc is None else bool(ecc[0]),
        persistence=None if persistence is None else bool(persistence),
        throttle_reasons=nvml.throttle(handle),
    )


def _output(*command: str) -> str | None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
