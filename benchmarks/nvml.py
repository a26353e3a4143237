"""NVIDIA GPUs, asked through the driver's own library (NVML). What a GPU or its driver does not tell is None.

https://docs.nvidia.com/deploy/nvml-api
"""

import os
from functools import cache
from typing import Any

#: Why a GPU holds its clock back, by NVML's bit and under `nvidia-smi`'s names. An idle GPU's low clock is none of them.
THROTTLE = {
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
#: NVML_CLOCK_SM and NVML_CLOCK_MEM
_SM, _MEMORY = 1, 2


def ask(name: str, *arguments: Any) -> Any:
    """Call a function of NVML by its name without `nvml`; None where driver or GPU does not know it."""
    import pynvml

    try:
        return getattr(pynvml, f"nvml{name}")(*arguments)
    except pynvml.NVMLError:
        return None


@cache
def handles() -> tuple[Any, ...]:
    """Every GPU that the driver shows, in the order of the PCI bus; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    return tuple(ask("DeviceGetHandleByIndex", index) for index in range(ask("DeviceGetCount") or 0))


def used() -> Any:
    """The GPU that is "cuda" to every engine: the first of `CUDA_VISIBLE_DEVICES`, by number or UUID, else the first.

    CUDA counts GPUs as NVML does under `CUDA_DEVICE_ORDER=PCI_BUS_ID` only, which cells are started with. None where there
    is no such GPU.
    """
    found = handles()
    name = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not name.isdecimal():
        return ask("DeviceGetHandleByUUID", name) if found and name else None
    return found[int(name)] if int(name) < len(found) else None


def sm_clock(handle: Any) -> float | None:
    """The clock of the multiprocessors at this moment, in MHz."""
    return ask("DeviceGetClockInfo", handle, _SM)


def max_sm_clock(handle: Any) -> float | None:
    """The highest clock that the multiprocessors have, in MHz."""
    return ask("DeviceGetMaxClockInfo", handle, _SM)


def application_clock(handle: Any) -> float | None:
    """The multiprocessors' clock that someone has set for applications, in MHz."""
    return ask("DeviceGetApplicationsClock", handle, _SM)


def memory_clock(handle: Any) -> float | None:
    """The clock of the GPU's memory at this moment, in MHz."""
    return ask("DeviceGetClockInfo", handle, _MEMORY)


def cuda_version() -> str | None:
    """The newest CUDA that the driver knows, "13.0"."""
    found = ask("SystemGetCudaDriverVersion_v2")
    return found and f"{found // 1000}.{found % 1000 // 10}"


def watts(handle: Any) -> float | None:
    """What the board draws at this moment."""
    return _thousandths(ask("DeviceGetPowerUsage", handle))


def power_limit(handle: Any) -> float | None:
    """What the board may draw, in watts."""
    return _thousandths(ask("DeviceGetEnforcedPowerLimit", handle))


def joules(handle: Any) -> float | None:
    """What the board has drawn since the driver was loaded; from Volta on."""
    return _thousandths(ask("DeviceGetTotalEnergyConsumption", handle))


def used_mib(handle: Any) -> float | None:
    """Memory that is taken, by whatever process."""
    memory = ask("DeviceGetMemoryInfo", handle)
    return memory and memory.used / 2**20


def throttle(handle: Any) -> list[str]:
    """The reasons to hold the clock back at this moment."""
    bits = ask("DeviceGetCurrentClocksEventReasons", handle)
    bits = ask("DeviceGetCurrentClocksThrottleReasons", handle) if bits is None else bits  # drivers before 535
    return [name for bit, name in THROTTLE.items() if (bits or 0) & bit]


def _thousandths(value: int | None) -> float | None:
    return None if value is None else value / 1e3
