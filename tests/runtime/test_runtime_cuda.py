"""The layer over CUDA: the real cuda-bindings where there is no GPU, and the stand-in's GPU."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from trt_fixtures import playing

from slipway_runtime import cuda
from slipway_runtime.errors import SessionError


@pytest.fixture
def gpu() -> Iterator[Any]:
    """The stand-in's GPU; nothing may be left on it when the test has ended."""
    with playing():
        yield sys.modules["stand_in_gpu"].GPU


@pytest.mark.parametrize("call", [cuda.gpu, cuda.machine])
def test_the_real_bindings_without_a_gpu_say_what_to_do(call: Callable[[], object]) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if runtime.cudaDriverGetVersion()[1]:
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(SessionError, match=r"no NVIDIA driver found; install one .* or use device cpu"):
        call()
    calls: tuple[tuple[Callable[[], object], str], ...] = (
        (cuda.Stream, "cudaStreamCreateWithFlags"),
        (lambda: cuda.Buffer().reserve(8), "cudaMalloc"),
        (lambda: cuda.HostMemory().array((2,), "float32"), "cudaHostAlloc"),
    )
    for begin, name in calls:
        with pytest.raises(SessionError, match=f"{name}: cudaErrorInsufficientDriver; no NVIDIA GPU, or no") as error:
            begin()
        assert error.value.exit_code == 4


def test_the_real_bindings_take_what_they_are_given() -> None:
    """Every call gets as far as asking for the driver: names, numbers of arguments and their types are right."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if runtime.cudaDriverGetVersion()[1]:
        pytest.skip("this machine has an NVIDIA driver")
    stream, array = object.__new__(cuda.Stream), np.zeros(4, np.float32)
    stream.handle = 64
    graph = object.__new__(cuda.Graph)
    graph._graph = runtime.cudaGraphExec_t(64)
    calls: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: stream.upload(array, 4096), "cudaMemcpyAsync"),
        (lambda: stream.download(4096, array), "cudaMemcpyAsync"),
        (stream.synchronize, "cudaStreamSynchronize"),
        (lambda: stream.capture(lambda: True), "cudaStreamBeginCapture"),
        (lambda: cuda.Graph(runtime.cudaGraph_t(64)), "cudaGraphInstantiate"),
        (lambda: graph.launch(stream), "cudaGraphLaunch"),
    )
    for call, name in calls:
        with pytest.raises(SessionError, match=f"{name}: cudaErrorInsufficientDriver"):
            call()


def test_every_name_that_is_used_is_in_the_real_bindings() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    text = Path(cuda.__file__).read_text(encoding="utf-8")
    called = {part.split('"')[0] for part in text.split('_call("')[1:]} | {
        part.split('"')[1] for part in text.split("_finally(self, ")[1:]
    }
    assert len(called) > 12
    assert not [name for name in called if not callable(getattr(runtime, name, None))]


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(SessionError, match=r"cuda-bindings cannot be imported .*slipway-runtime\[tensorrt\]") as error:
        cuda.gpu()
    assert error.value.exit_code == 4
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(SessionError, match=r"tensorrt cannot be imported .*`pip install tensorrt`"):
        cuda.tensorrt()


def test_importing_the_runtime_imports_neither_package() -> None:
    code = (
        "import slipway_runtime, slipway_runtime.sessions.tensorrt, sys; print({'cuda', 'tensorrt'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_machine_is_described(tensorrt_stand_in: ModuleType) -> None:
    machine = cuda.machine()
    assert machine.tensorrt == tensorrt_stand_in.__version__
    assert (machine.gpu, machine.compute_capability) == ("NVIDIA H100 80GB HBM3", "9.0")
    assert (machine.cuda, machine.driver) == ("13.0", "13.0")


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"DRIVER": "0"}, "no NVIDIA driver found"),
        ({"DRIVER": "12080"}, r"knows CUDA up to 12\.8, cuda-bindings needs 13\.0; .*'cuda-bindings<13'"),
        ({"GPUS": "0"}, "cudaErrorNoDevice; no NVIDIA GPU.* CUDA_VISIBLE_DEVICES"),
    ],
)
def test_no_gpu_that_serves(seeds: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in seeds.items():
        monkeypatch.setenv(f"STAND_IN_{name}", value)
    with playing(), pytest.raises(SessionError, match=message) as error:
        cuda.gpu()
    assert "\n" not in str(error.value)


def test_a_driver_of_an_older_minor_version_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_CUDA", "13020")
    with playing():
        assert cuda.gpu().driver == "13.0"
        assert cuda.gpu().runtime == "13.2"


def test_what_goes_to_the_device_comes_back(gpu: Any) -> None:
    host, stream, buffer = cuda.HostMemory(), cuda.Stream(), cuda.Buffer()
    sent, back = host.array((3, 5), "float16"), host.array((3, 5), "float16")
    sent[:] = np.arange(15).reshape(3, 5)
    stream.upload(sent, buffer.reserve(sent.nbytes))
    stream.download(buffer.address, back)
    assert not (back == sent).all()  # nobody has waited
    stream.synchronize()
    np.testing.assert_array_equal(back, sent)
    empty = host.array((0, 4), "int64")
    stream.upload(empty, buffer.reserve(0))
    assert empty.shape == (0, 4)


def test_a_buffer_grows_and_only_then_moves(gpu: Any) -> None:
    buffer = cuda.Buffer()
    assert buffer.reserve(0) != 0
    first = buffer.reserve(100)
    assert buffer.reserve(50) == first == buffer.reserve(100)
    buffer.reserve(1000)
    assert gpu.used() == 1000
    del buffer
    assert gpu.used() == 0


def test_host_memory_is_used_again_once_no_view_is_left(gpu: Any) -> None:
    host = cuda.HostMemory()
    array = host.array((10,), "int32")
    at, view = array.ctypes.data, array[3:]
    del array
    other = host.array((10,), "int32")
    assert other.ctypes.data != at  # a view is still read
    del view
    assert host.array((4, 5), "uint8").ctypes.data == at
    del host  # what is still held stays, and goes with its last view
    other[:] = 7
    assert gpu.live()
    del other
    assert gpu.live() == []


def test_memory_that_the_gpu_has_not(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_MEMORY", str(4 << 20))
    buffer = cuda.Buffer()
    buffer.reserve(1 << 20)
    with pytest.raises(cuda.OutOfMemoryError, match="cudaErrorMemoryAllocation; use a smaller batch") as error:
        buffer.reserve(8 << 20)
    assert "8.0 MiB of GPU memory are needed, 4 MiB of 4 MiB are free" in str(error.value)
    assert buffer.address == 0
    assert buffer.reserve(16) != 0  # it goes on


def test_recorded_work_is_done_at_each_launch(gpu: Any) -> None:
    stream, buffer, host = cuda.Stream(), cuda.Buffer(), cuda.HostMemory()
    sent, back = host.array((4,), "float32"), host.array((4,), "float32")
    buffer.reserve(16)

    def work() -> bool:
        stream.upload(sent, buffer.address)
        stream.download(buffer.address, back)
        return True

    graph = stream.capture(work)
    assert graph
    for value in (1, 2):
        sent[:] = value
        graph.launch(stream)
        stream.synchronize()
        assert back.tolist() == [value] * 4


def test_what_cannot_be_recorded_leaves_the_stream_usable(gpu: Any) -> None:
    stream = cuda.Stream()
    assert stream.capture(lambda: False) is None

    def waits() -> bool:
        with pytest.raises(SessionError, match="cudaStreamSynchronize"):
            stream.synchronize()
        return True

    def breaks() -> bool:
        raise ArithmeticError

    assert stream.capture(waits) is None
    with pytest.raises(ArithmeticError):
        stream.capture(breaks)
    stream.synchronize()
