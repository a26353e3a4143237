"""The environment block: what it holds, and what it must not."""

import getpass
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import environment


def test_it_describes_this_machine() -> None:
    found = environment.capture(["torch", "no-such-distribution"], threads=3, device="cpu")
    assert found.threads == 3
    assert 1 <= found.cores <= len(os.sched_getaffinity(0))
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.versions["numpy"] == np.__version__
    assert "no-such-distribution" not in found.versions
    assert found.cpu_model
    assert found.memory_gib > 0
    assert found.date_utc.endswith("+00:00")


def test_it_names_no_person_host_or_folder() -> None:
    text = environment.capture(["torch"], threads=1, device="cpu").model_dump_json()
    private = {socket.gethostname(), str(Path.home()), str(environment.ROOT), str(Path.cwd())}
    # A user name such as "root" can be a part of an innocent word; quoted, it would be a value.
    assert not [word for word in private if word in text]
    assert f'"{getpass.getuser()}"' not in text


def test_the_identity_changes_with_what_changes_numbers_only() -> None:
    found = environment.capture([], threads=1, device="cpu")
    later = found.model_copy(update={"date_utc": "later", "load_average_1m": 99.0, "git_dirty": None})
    assert found.identity() == later.identity()
    assert found.identity() != found.model_copy(update={"threads": 2}).identity()
    assert found.identity() != found.model_copy(update={"versions": {}}).identity()


CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: INTEL(R) XEON(R) PLATINUM 8592+
cpu MHz\t\t: 1900.000
flags\t\t: fpu sse2 fma avx f16c avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 avx512_fp16 amx_tile amx_int8

"""


def test_precisions_of_the_cpu_clocks_and_energy(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(CPUINFO)
    for core, most in ((0, 3_900_000), (1, 2_600_000), (2, 3_900_000)):
        cpufreq = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        cpufreq.mkdir(parents=True)
        (cpufreq / "cpuinfo_max_freq").write_text(f"{most}\n")
        (cpufreq / "scaling_governor").write_text("performance\n")
    package = tmp_path / "sys/class/powercap/intel-rapl:0"
    package.mkdir(parents=True)
    for name, value in (("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "262143328850")):
        (package / name).write_text(f"{value}\n")
    found = environment.capture([], threads=1, device="cpu", root=tmp_path)
    assert found.cpu_model == "INTEL(R) XEON(R) PLATINUM 8592+"
    features = {"fma", "f16c", "avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"}
    assert set(found.cpu_flags) == features | {"amx_int8", "amx_bf16"}
    assert found.cpu_max_mhz == [2600, 3900]
    assert found.governor == "performance"
    assert (found.energy_source, found.energy_reason) == ("RAPL package", None)


def test_an_arm_cpus_features(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd aes asimdhp asimddp sve i8mm bf16\n")
    found = environment.capture([], threads=1, device="cpu", root=tmp_path)
    assert found.cpu_flags == ["asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"]


def test_a_machine_that_tells_nothing_says_why(tmp_path: Path) -> None:
    found = environment.capture([], threads=1, device="cpu", root=tmp_path)
    assert (found.cpu_flags, found.cpu_max_mhz, found.governor, found.energy_source) == ([], [], None, None)
    assert found.energy_reason == "no RAPL counters; virtual machines and most containers have none"


def test_an_environment_of_before_is_still_read() -> None:
    before = environment.capture([], threads=1, device="cpu").model_dump()
    for name in ("cpu_flags", "cpu_max_mhz", "energy_source", "energy_reason"):
        del before[name]
    assert environment.Environment.model_validate(before).cpu_flags == []


@pytest.mark.gpu
def test_a_gpu_is_described() -> None:
    found = environment.capture([], threads=1, device="cuda")
    gpu = found.gpus[0]
    assert gpu.compute_capability is not None
    assert float(gpu.compute_capability) >= 5
    assert gpu.memory_mib is not None
    assert gpu.memory_mib > 1000
    assert gpu.sm_clock_mhz is not None
    assert gpu.max_sm_clock_mhz is not None
    assert 0 < gpu.sm_clock_mhz <= gpu.max_sm_clock_mhz
    assert "." in gpu.driver
    assert (found.energy_source is None) != (found.energy_reason is None)
