"""The driver's library: quiet where there is none, and which GPU is meant."""

import re

import pytest

from benchmarks import nvml
from benchmarks.environment import ROOT


@pytest.mark.skipif(bool(nvml.handles()), reason="a GPU is here")
def test_without_a_driver_there_is_nothing_and_no_error() -> None:
    assert nvml.used() is None
    assert nvml.ask("DeviceGetCount") is None


def test_every_function_that_is_asked_for_exists() -> None:
    import pynvml

    sources = "".join(path.read_text() for path in (ROOT / "benchmarks").rglob("*.py"))
    names = set(re.findall(r'\bask\("(\w+)"', sources))
    assert {"DeviceGetName", "DeviceGetTotalEnergyConsumption"} < names
    assert not [name for name in names if not hasattr(pynvml, f"nvml{name}")]


def test_reasons_have_the_drivers_bits() -> None:
    import pynvml

    for bit, name in nvml.THROTTLE.items():
        spelled = "".join(word.capitalize() for word in name.split("_"))
        assert getattr(pynvml, f"nvmlClocksEventReason{spelled}") == bit


@pytest.mark.parametrize(("visible", "index"), [(None, 0), ("1", 1), ("1,0", 1), ("2", None), ("", None), ("-1", None)])
def test_which_gpu_is_meant(monkeypatch: pytest.MonkeyPatch, visible: str | None, index: int | None) -> None:
    monkeypatch.setattr(nvml, "handles", lambda: ("first", "second"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert nvml.used() == (None if index is None else ("first", "second")[index])


@pytest.mark.gpu
def test_a_gpu_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    uuid = nvml.ask("DeviceGetUUID", nvml.used())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", uuid)
    assert nvml.ask("DeviceGetUUID", nvml.used()) == uuid
