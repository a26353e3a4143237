"""The stand-in of CUDA's runtime: the real one's names and arguments, and its refusals."""

import ast
import ctypes
import inspect
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
from trt_fixtures import STAND_IN, playing

from slipway_runtime import cuda
from slipway_runtime.errors import SessionError

USED = Path(cuda.__file__)


def made(module: object) -> dict[str, object]:
    """What the stand-in defines: functions, enumerations, handles and constants of CUDA."""
    return {name: value for name, value in vars(module).items() if name.startswith(("cuda", "getLocal"))}


def test_every_name_is_the_real_ones() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    with playing():
        from cuda.bindings import runtime

        found = made(runtime)
    assert str(STAND_IN) in str(runtime.__file__)
    assert str(STAND_IN) not in str(real.__file__)
    for name, value in found.items():
        counterpart = getattr(real, name)
        if isinstance(value, int):
            assert counterpart == value, name
        elif inspect.isfunction(value):
            assert list(inspect.signature(value).parameters) == list(inspect.signature(counterpart).parameters), name
        elif issubclass(value, IntEnum):
            assert {each.name: each.value for each in value}.items() <= {
                e.name: e.value for e in counterpart
            }.items(), name
        elif name == "cudaDeviceProp":
            assert set(vars(value())) <= set(dir(counterpart))


def test_the_runtime_uses_no_name_that_the_real_one_lacks() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    with playing():
        from cuda.bindings import runtime
    used = names(USED.read_text())
    assert {"cudaMalloc", "cudaGraphLaunch", "cudaStreamNonBlocking"} <= used
    assert [name for name in used if not hasattr(real, name)] == []
    assert [name for name in used if not hasattr(runtime, name)] == []
    assert names('_call("cudaNoSuchThing", 1)') == {"cudaNoSuchThing"}


def names(code: str) -> set[str]:
    """CUDA's names in a module: as strings, and as attributes."""
    tree = list(ast.walk(ast.parse(code)))
    words = {node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    words |= {node.attr for node in tree if isinstance(node, ast.Attribute)}
    enums = ("cudaError", "cudaMemcpyHost", "cudaMemcpyDevice", "cudaStreamCaptureMode")
    return {
        word for word in words if word.isidentifier() and word.startswith("cuda") and word not in ("cuda", "cudart")
    } - {word for word in words if word.startswith(enums) and word != "cudaStreamCaptureMode"}


def leak() -> None:
    with playing():
        from cuda.bindings import runtime

        runtime.cudaMalloc(100)


def use_after_free() -> None:
    with playing():
        from cuda.bindings import runtime

        address = runtime.cudaMalloc(100)[1]
        runtime.cudaFree(address)
        runtime.cudaMemsetAsync(address, 0, 100, 0)
        assert runtime.cudaDeviceSynchronize()[0].name == "cudaErrorIllegalAddress"
        assert runtime.cudaMalloc(1)[0].name == "cudaErrorIllegalAddress"  # nothing works any more


def free_twice() -> None:
    with playing():
        from cuda.bindings import runtime

        address = runtime.cudaMalloc(100)[1]
        assert [runtime.cudaFree(address)[0].name for _ in range(2)] == ["cudaSuccess", "cudaErrorInvalidValue"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(leak, "100 bytes of device memory"), (use_after_free, "no live memory"), (free_twice, "could be freed")],
)
def test_wrong_use_is_found(wrong: Callable[[], None], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        wrong()


def test_copies_wait_and_know_their_sides() -> None:
    with playing():
        from cuda.bindings import runtime

        kind = runtime.cudaMemcpyKind
        stream = runtime.cudaStreamCreate()[1]
        device, pinned = runtime.cudaMalloc(8)[1], runtime.cudaMallocHost(8)[1]
        ctypes.memmove(pinned, b"12345678", 8)
        assert runtime.cudaMemcpyAsync(device, pinned, 8, kind.cudaMemcpyHostToDevice, stream)[0] == 0
        ctypes.memmove(pinned, b"abcdefgh", 8)  # too early: the copy is not done
        runtime.cudaStreamSynchronize(stream)
        found = np.zeros(8, np.uint8)
        assert runtime.cudaMemcpyAsync(found, device, 8, kind.cudaMemcpyDeviceToHost, stream)[0] == 0
        assert found.tobytes() == b"abcdefgh"
        wrong = runtime.cudaMemcpyAsync(device, pinned, 8, kind.cudaMemcpyDeviceToHost, stream)
        assert wrong[0].name == "cudaErrorInvalidValue"
        runtime.cudaFree(device), runtime.cudaFreeHost(pinned), runtime.cudaStreamDestroy(stream)


def test_streams_wait_for_each_other_by_events_only() -> None:
    with playing():
        from cuda.bindings import runtime

        first, second = runtime.cudaStreamCreate()[1], runtime.cudaStreamCreate()[1]
        source, target = runtime.cudaMalloc(4)[1], runtime.cudaMalloc(4)[1]
        event, end = runtime.cudaEventCreate()[1], runtime.cudaEventCreate()[1]
        both = runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        for ordered, expected in ((False, b"\xcd" * 4), (True, b"\x07" * 4)):
            runtime.cudaMemsetAsync(source, 7, 4, first)
            runtime.cudaEventRecord(event, first)
            if ordered:
                runtime.cudaStreamWaitEvent(second, event, 0)
            runtime.cudaMemcpyAsync(target, source, 4, both, second)
            runtime.cudaEventRecord(end, second)
            runtime.cudaStreamSynchronize(second)
            assert ctypes.string_at(target, 4) == expected
        assert runtime.cudaEventElapsedTime(event, end)[1] >= 0
        for stream in (first, second):
            runtime.cudaStreamDestroy(stream)
        for address in (source, target):
            runtime.cudaFree(address)
        runtime.cudaEventDestroy(event), runtime.cudaEventDestroy(end)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [("cudaMalloc", (8,)), ("cudaStreamSynchronize", None), ("cudaDeviceSynchronize", ())],
)
def test_what_no_capture_allows(call: str, arguments: tuple | None) -> None:
    with playing():
        from cuda.bindings import runtime

        stream = runtime.cudaStreamCreate()[1]
        runtime.cudaStreamBeginCapture(stream, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal)
        assert runtime.cudaStreamIsCapturing(stream)[1].name.endswith("Active")
        failed = getattr(runtime, call)(*((stream,) if arguments is None else arguments))
        assert failed[0].name == "cudaErrorStreamCaptureUnsupported"
        assert runtime.cudaStreamEndCapture(stream) == (runtime.cudaError_t.cudaErrorStreamCaptureInvalidated, None)
        runtime.cudaStreamDestroy(stream)


def test_seeded_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with playing("8.6.0"):
        assert cuda.machine().model_dump() == {
            "tensorrt": "8.6.0",
            "cuda": "13.0",
            "driver": "13.0",
            "gpu": "NVIDIA H100 80GB HBM3",
            "compute_capability": "9.0",
        }
        monkeypatch.setenv("STAND_IN_MEMORY", "1000")
        with pytest.raises(SessionError, match="cudaErrorMemoryAllocation"):
            cuda.Buffer().reserve(1001)
        for seed in ("GPUS", "DRIVER"):
            with monkeypatch.context() as patch:
                patch.setenv(f"STAND_IN_{seed}", "0")
                with pytest.raises(SessionError, match="no NVIDIA"):
                    cuda.machine()
                import tensorrt

                with pytest.raises(TypeError, match="nullptr"):
                    tensorrt.Runtime(tensorrt.Logger())
