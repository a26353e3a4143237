"""Joules: RAPL's files as Linux shows them, a counter that starts again, counters that may not be read, and the timer."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import energy, nvml
from benchmarks.timing import TimerSettings, measure
from train.errors import BackendError

BRIEF = TimerSettings(seconds=0.01, window_ms=1, window_calls=1, settled_windows=2, tolerance=1e9)
#: What Linux shows on a server with two processors: `name`, `energy_uj`, `max_energy_range_uj`.
ZONES = {
    "intel-rapl:0": ("package-0", 1_000_000, 262_143_328_850),
    "intel-rapl:0:0": ("dram", 5_000_000, 65_712_999_613),
    "intel-rapl:1": ("package-1", 262_143_000_000, 262_143_328_850),
    "intel-rapl:2": ("psys", 7_000_000, 262_143_328_850),
    "intel-rapl-mmio:0": ("package-0", 9_000_000, 262_143_328_850),
}


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    for zone, (name, count, most) in ZONES.items():
        folder = tmp_path / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{most}\n")
        _set(tmp_path, zone, count)
    return tmp_path


def _set(powercap: Path, zone: str, microjoules: int) -> None:
    (powercap / zone / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_added_up_and_nothing_twice(powercap: Path) -> None:
    meter = energy.find("cpu", powercap)
    meter.start()
    for zone, gained in zip(ZONES, (2_500_000, 100, 300_000, 200, 400), strict=True):
        _set(powercap, zone, ZONES[zone][1] + gained)
    assert meter.stop() == pytest.approx(2.8)
    assert meter.source == "RAPL package"


def test_a_counter_that_starts_again(powercap: Path) -> None:
    meter = energy.find("cpu", powercap)
    meter.start()
    _set(powercap, "intel-rapl:1", 671_150)
    # 262 143.328850 J is where it starts again: 0.328850 J before that, 0.671150 J after.
    assert meter.stop() == pytest.approx(1.0)
    meter.start()
    assert meter.stop() == 0, "each start is a new beginning"


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no RAPL counters; virtual machines"):
        energy.find("cpu", tmp_path)
    with pytest.raises(BackendError, match="no RAPL counters"):
        energy.find("cpu", tmp_path / "none")


def test_counters_for_root_only_say_so(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    file.chmod(0)
    if os.access(file, os.R_OK):  # root reads everything

        def read_text(path: Path, **options: Any) -> str:
            if path.name == "energy_uj":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            with path.open(**options) as opened:
                return opened.read()

        monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(BackendError, match=r"RAPL's energy_uj: Permission denied; chmod a\+r"):
        energy.find("cpu", powercap)


def test_a_counter_that_vanishes_gives_nothing(powercap: Path) -> None:
    meter = energy.find("cpu", powercap)
    meter.start()
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.stop() is None


class Steps:
    """A meter that notes when it is read."""

    source = "steps"

    def __init__(self, joules: float | None) -> None:
        self.joules = joules
        self.read_ns: list[int] = []

    def start(self) -> None:
        self.read_ns.append(time.perf_counter_ns())
        time.sleep(0.02)

    def stop(self) -> float | None:
        time.sleep(0.02)
        self.read_ns.append(time.perf_counter_ns())
        return self.joules


def test_the_timer_reads_it_outside_every_sample() -> None:
    meter, calls = Steps(3.5), []
    timed = measure([lambda: calls.append(time.perf_counter_ns())], BRIEF, meter=meter)
    assert (timed.energy_j, timed.energy_source) == (3.5, "steps")
    start, stop = meter.read_ns
    assert len([at for at in calls if start < at < stop]) == len(timed.samples_us), "the warm-up does not count"
    assert max(calls) < stop
    # Both readings took 20 ms: neither is in the samples nor in the loop's own time.
    assert timed.wall_s < (stop - start) / 1e9 - 0.04


def test_the_timer_without_a_meter_or_a_number() -> None:
    for meter in (None, Steps(None)):
        timed = measure([lambda: None], BRIEF, meter=meter)
        assert (timed.energy_j, timed.energy_source) == (None, None)


@pytest.mark.skipif(bool(nvml.handles()), reason="a GPU is here")
def test_without_a_gpu_there_is_no_meter_for_one() -> None:
    assert energy.meter("cuda") is None
    with pytest.raises(BackendError, match="no NVIDIA GPU"):
        energy.find("cuda")


@pytest.mark.gpu
def test_a_gpu_counts_what_its_work_costs() -> None:
    import torch

    meter = energy.find("cuda")
    meter.start()
    matrix = torch.rand(4096, 4096, device="cuda")
    end = time.monotonic() + 1
    while time.monotonic() < end:
        matrix @ matrix
        torch.cuda.synchronize()
    joules = meter.stop()
    assert joules is not None
    assert 5 < joules < 2000
