"""Joules that the platform's own counters gain while something runs.

On the CPU: RAPL, of the whole packages, whatever else runs on them, without memory and power supply. On a GPU: NVML, of the
board, without the CPU that feeds it. So neither is the energy of a machine, and the two are not to be compared.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks import nvml
from train.errors import BackendError

#: Linux's power capping framework: https://docs.kernel.org/power/powercap/powercap.html
POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """Counts joules between `start` and `stop`.

    Attributes:
        source: which counters, as rows show it.
    """

    source: str

    def start(self) -> None:
        """Note where the counters stand."""

    def stop(self) -> float | None:
        """Joules since `start`; None where a counter was not there at either end."""


class Rapl:
    """The packages' counters, which advance about every millisecond (Intel SDM, volume 3, "RAPL interfaces").

    A counter starts again from zero after its `max_energy_range_uj`, minutes at full power; so much at most can be told.
    """

    source = "RAPL package"

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = zones
        self._ranges = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]
        self._before: list[int] | None = None

    def start(self) -> None:
        """Note where the counters stand."""
        self._before = self._read()

    def stop(self) -> float | None:
        """Joules of all packages since `start`; None where a counter could not be read."""
        after = self._read()
        if after is None or self._before is None:
            return None
        gains = zip(self._before, after, self._ranges, strict=True)
        return sum(end - start + (full if end < start else 0) for start, end, full in gains) / 1e6

    def _read(self) -> list[int] | None:
        try:
            return [int((zone / "energy_uj").read_text()) for zone in self._zones]
        except OSError:
            return None


class GpuBoard:
    """A GPU's counter, which its driver advances many times a second, but not every millisecond."""

    source = "NVML"

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._before: float | None = None

    def start(self) -> None:
        """Note where the counter stands."""
        self._before = nvml.joules(self._handle)

    def stop(self) -> float | None:
        """Joules since `start`; None where the driver did not tell."""
        after = nvml.joules(self._handle)
        return None if after is None or self._before is None else after - self._before


def find(device: str, powercap: Path = POWERCAP) -> Meter:
    """The meter for what runs on `device` ("cpu", "cuda").

    Raises:
        BackendError: this machine has none, or it may not be read; the text says which.
    """
    if device != "cpu":
        handle = nvml.used()
        if handle is None:
            raise BackendError("no NVIDIA GPU, or no driver that tells of it")
        if nvml.joules(handle) is None:
            raise BackendError("this GPU counts no energy")
        return GpuBoard(handle)
    # "psys" and, under intel-rapl-mmio, the packages once more would count the same joules twice.
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _name(zone).startswith("package")]
    if not zones:
        raise BackendError("no RAPL counters; virtual machines and most containers have none")
    try:
        for zone in zones:
            (zone / "energy_uj").read_text()
        return Rapl(zones)
    except OSError as error:
        # For root only since CVE-2020-8694.
        raise BackendError(f"RAPL's energy_uj: {error.strerror}; chmod a+r {POWERCAP}/intel-rapl:*/energy_uj")


def meter(device: str) -> Meter | None:
    """As `find`; None where there is none, which the environment block explains."""
    try:
        return find(device)
    except BackendError:
        return None


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""
