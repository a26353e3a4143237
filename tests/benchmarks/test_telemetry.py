"""What is seen of the machine: the kernel's files as they are, clocks that a virtual machine makes up, a bounded trace."""

import os
import threading
import time
from pathlib import Path

import pytest

from benchmarks import telemetry
from benchmarks.memory import peak_device_mib
from benchmarks.outcome import Sighting, Trace

CORES = sorted(os.sched_getaffinity(0))
CPUINFO = """processor\t: {core}
model name\t: AMD EPYC
cpu MHz\t\t: {mhz}
flags\t\t: fpu avx2 {flag}

"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`proc` of a machine that runs two threads besides the one that looks, and no `sys`."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("0.42 0.38 0.37 3/1132 20742\n")
    return tmp_path


def _cpuinfo(root: Path, flag: str = "") -> None:
    # One core more than may be used: a clock that must not be seen.
    clocks = [(core, 2000 + 100 * index) for index, core in enumerate(CORES)] + [(max(CORES) + 1, 9999)]
    (root / "proc/cpuinfo").write_text("".join(CPUINFO.format(core=core, mhz=mhz, flag=flag) for core, mhz in clocks))


def test_clocks_of_the_cores_that_may_be_used(root: Path) -> None:
    for index, core in enumerate([*CORES, max(CORES) + 1]):
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{1_500_000 + 250_000 * index}\n")
    _cpuinfo(root)
    seen = telemetry.Looker("cpu", root).look(1.5)
    highest = 1500 + 250 * (len(CORES) - 1)
    assert seen == Sighting(at_s=1.5, cpu_mhz=(1500, round((1500 + highest) / 2), highest), load=2)


def test_clocks_by_cpuinfo_where_there_is_no_cpufreq(root: Path) -> None:
    _cpuinfo(root)
    highest = 2000 + 100 * (len(CORES) - 1)
    assert telemetry.Looker("cpu", root).look(0).cpu_mhz == (2000, (2000 + highest) / 2, highest)


def test_a_virtual_machines_clock_is_none(root: Path) -> None:
    _cpuinfo(root, flag="hypervisor")
    assert telemetry.Looker("cpu", root).look(0).cpu_mhz is None


@pytest.mark.parametrize(
    ("text", "load"),
    [("0.00 0.01 0.05 1/80 7\n", 0), ("0.00 0.00 0.00 0/0 0\n", None), ("0.1 0.1 0.1", None), ("", None)],
)
def test_load(root: Path, text: str, load: float | None) -> None:
    (root / "proc/loadavg").write_text(text)
    assert telemetry.Looker("cpu", root).look(0).load == load


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert telemetry.Looker("cpu", tmp_path / "none").look(0) == Sighting(at_s=0)


def test_this_machine_is_busy_with_what_runs_on_it() -> None:
    if telemetry.Looker("cpu").look(0).load is None:
        pytest.skip("no /proc/loadavg")
    done = threading.Event()
    spinner = threading.Thread(target=lambda: [None for _ in iter(done.is_set, True)])
    spinner.start()
    try:
        with telemetry.watch("cell", "cpu", interval_s=0.005) as trace:
            time.sleep(0.3)
    finally:
        done.set()
        spinner.join()
    assert max(each.load or 0 for each in trace.sightings) >= 1


def test_a_trace_begins_before_the_block_and_ends_with_it() -> None:
    before = time.time()
    with telemetry.watch("a key", "cpu", interval_s=0.01) as trace:
        assert [each.at_s for each in trace.sightings] == [0], "the machine without the cell"
        time.sleep(0.2)
    count = len(trace.sightings)
    assert count > 3
    time.sleep(0.05)
    assert len(trace.sightings) == count
    assert trace.cell == "a key"
    assert before - 0.001 <= trace.started_s <= time.time()
    times = [each.at_s for each in trace.sightings]
    assert times == sorted(times)
    assert Trace.model_validate_json(trace.model_dump_json()) == trace


def test_it_ends_when_the_cell_raises() -> None:
    with pytest.raises(KeyError), telemetry.watch("cell", "cpu", interval_s=0.01):
        raise KeyError
    assert "telemetry" not in {thread.name for thread in threading.enumerate()}


def test_a_long_trace_is_thinned_and_goes_on_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MOST", 12)
    with telemetry.watch("cell", "cpu", interval_s=0.002) as trace:
        time.sleep(0.4)
    times = [each.at_s for each in trace.sightings]
    assert 4 <= len(times) < 12
    assert times[0] == 0
    assert times[-1] > 0.1, "all of the cell, not its beginning"


def test_thinning_loses_neither_throttling_nor_the_peak() -> None:
    seen = [Sighting(at_s=at, gpu_mib=100 + at % 7, throttle=["sw_power_cap"] if at == 4 else []) for at in range(120)]
    thinned = telemetry.thin(seen)
    assert len(thinned) == 61
    assert thinned[0] == seen[0], "what the machine was without the cell"
    assert max(each.gpu_mib or 0 for each in thinned) == 106
    assert [each.at_s for each in thinned if each.throttle] == [3]


def test_peak_memory_of_the_gpu_is_what_the_cell_added() -> None:
    memory = (500.0, 500.0, 1700.5, 1650.0, 2900.0)
    trace = Trace(cell="", started_s=1e9, sightings=[Sighting(at_s=at, gpu_mib=mib) for at, mib in enumerate(memory)])
    assert peak_device_mib(trace) == 2400
    assert peak_device_mib(trace, until_s=1e9 + 3.5) == 1200.5, "accuracy came after the timing"
    assert peak_device_mib(Trace(cell="", started_s=0, sightings=[Sighting(at_s=0)])) is None


@pytest.mark.gpu
def test_a_gpu_is_seen() -> None:
    import torch

    with telemetry.watch("cell", "cuda", interval_s=0.05) as trace:
        ballast = torch.ones(300 * 2**20, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        time.sleep(0.5)
    assert ballast.nbytes / 2**20 <= (peak_device_mib(trace) or 0) < 3000
    last = trace.sightings[-1]
    assert last.gpu_mhz is not None
    assert last.gpu_mhz > 100
    assert last.gpu_w is not None
    assert 5 < last.gpu_w < 2000
