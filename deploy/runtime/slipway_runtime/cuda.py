"""CUDA's runtime as the package cuda-bindings gives it: memory, a stream, graphs, and what machine this is.

The package is imported when it is first needed. Every call that fails is a `SessionError` with CUDA's name of the failure.
https://docs.nvidia.com/cuda/cuda-runtime-api and https://nvidia.github.io/cuda-python/cuda-bindings describe the calls.
"""

import ctypes
import math
import weakref
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slipway_runtime.errors import SessionError
from slipway_runtime.plan import Machine

_INSTALL = "install it with `pip install 'slipway-runtime[tensorrt]'`"
#: The least block of host memory: a page.
_PAGE = 4096
_MIB = 1 << 20


class OutOfMemoryError(SessionError):
    """Memory that the GPU, or the host for its sake, cannot give."""


class Gpu(NamedTuple):
    """The first GPU that this process sees.

    Attributes:
        name: as its maker calls it.
        compute_capability: "9.0".
        driver: the newest CUDA that the driver knows, "13.0".
        runtime: the CUDA that cuda-bindings was built for, "13.0".
    """

    name: str
    compute_capability: str
    driver: str
    runtime: str


def gpu() -> Gpu:
    """Describe the first GPU; nothing is allocated on it.

    Raises:
        SessionError: no cuda-bindings, no driver, one that is too old for the bindings, or no GPU.
    """
    (driver,), (runtime,) = _call("cudaDriverGetVersion"), _call("cudaRuntimeGetVersion")
    if not driver:
        raise SessionError("no NVIDIA driver found; install one for this machine's GPU, or use device cpu")
    if driver // 1000 < runtime // 1000:  # within a major version any driver will do
        major = driver // 1000
        raise SessionError(
            f"the NVIDIA driver knows CUDA up to {_version(driver)}, cuda-bindings needs {_version(runtime)};"
            f" update the driver or `pip install 'cuda-bindings<{major + 1}'`"
        )
    _call("cudaGetDeviceCount")  # fails where there is none
    (found,) = _call("cudaGetDeviceProperties", 0)
    name = found.name.decode() if isinstance(found.name, bytes) else found.name
    return Gpu(name.rstrip("\0"), f"{found.major}.{found.minor}", _version(driver), _version(runtime))


def machine() -> Machine:
    """This machine as plans name theirs.

    Raises:
        SessionError: as `gpu`, or no TensorRT.
    """
    found = gpu()
    return Machine(
        tensorrt=tensorrt().__version__,
        cuda=found.runtime,
        driver=found.driver,
        gpu=found.name,
        compute_capability=found.compute_capability,
    )


def tensorrt() -> ModuleType:
    """The package `tensorrt`.

    Raises:
        SessionError: it is not installed, or lacks a library.
    """
    try:
        return import_module("tensorrt")
    except ImportError as error:
        raise SessionError(
            f"package tensorrt cannot be imported ({error}); `pip install tensorrt`, in the version that plans are built with"
        )


class Stream:
    """Work for the GPU, done in order; `handle` is its cudaStream_t as a number."""

    def __init__(self) -> None:
        (stream,) = _call("cudaStreamCreateWithFlags", _runtime().cudaStreamNonBlocking)
        self.handle = int(stream)
        _finally(self, "cudaStreamDestroy", self.handle)

    def synchronize(self) -> None:
        """Wait until all is done.

        Raises:
            SessionError: something of it failed.
        """
        _call("cudaStreamSynchronize", self.handle)

    def upload(self, array: NDArray, address: int) -> None:
        """Begin to copy a contiguous host array to the device; the array stays as it is until `synchronize`."""
        self._copy(address, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")

    def download(self, address: int, array: NDArray) -> None:
        """Begin to fill a contiguous host array from the device; it may be read after `synchronize`."""
        self._copy(array.ctypes.data, address, array.nbytes, "cudaMemcpyDeviceToHost")

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        if size:
            _call("cudaMemcpyAsync", target, source, size, getattr(_runtime().cudaMemcpyKind, kind), self.handle)

    def capture(self, enqueue: Callable[[], bool]) -> "Graph | None":
        """Record what `enqueue` gives the stream, without doing it.

        Returns:
            The recording; None where `enqueue` says that it failed, or does what cannot be recorded.
        """
        cuda = _runtime()
        _call("cudaStreamBeginCapture", self.handle, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        queued = False
        try:
            queued = enqueue()
        finally:
            status, recorded = cuda.cudaStreamEndCapture(self.handle)
            cuda.cudaGetLastError()  # what failed would be taken for the next call's failure
            graph = Graph(recorded) if queued and not int(status) else None
            if not int(status):
                cuda.cudaGraphDestroy(recorded)
        return graph


class Graph:
    """Recorded work that one call starts. It holds addresses: who moves a buffer throws it away."""

    def __init__(self, recorded: Any) -> None:
        (self._graph,) = _call("cudaGraphInstantiate", recorded, 0)
        _finally(self, "cudaGraphExecDestroy", self._graph)

    def launch(self, stream: Stream) -> None:
        """Begin the work."""
        _call("cudaGraphLaunch", self._graph, stream.handle)


class Buffer:
    """Memory on the GPU; `address` is 0 until something is reserved."""

    def __init__(self) -> None:
        self.address = 0
        self._size = 0
        self._free: Callable[[], Any] = lambda: None

    def reserve(self, size: int) -> int:
        """Have `size` bytes or more, at least one, and return the address. It changes when the buffer grows.

        Raises:
            OutOfMemoryError: the GPU has not that much left.
        """
        if size > self._size or not self.address:
            self._free()
            self.address = self._size = 0
            try:
                (address,) = _call("cudaMalloc", max(size, 1))
            except OutOfMemoryError as error:
                raise OutOfMemoryError(f"{error}; {memory(size)}")
            self.address, self._size = int(address), max(size, 1)
            self._free = _finally(self, "cudaFree", self.address)
        return self.address


def memory(needed: int) -> str:
    """What is needed of the GPU's memory and what there is, as errors tell it."""
    cuda = _runtime()
    status, free, total = cuda.cudaMemGetInfo()
    there = "" if int(status) else f", {free // _MIB} MiB of {total // _MIB} MiB are free"
    return f"{needed / _MIB:.1f} MiB of GPU memory are needed{there}"


class HostMemory:
    """Pinned host arrays, which the GPU copies from and to without a detour.

    A block is used again when the last view of its array has gone; all are freed with the last of them and this object.
    """

    def __init__(self) -> None:
        self._spare: defaultdict[int, list[_Block]] = defaultdict(list)

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """An array with arbitrary content.

        Raises:
            OutOfMemoryError: the machine has not that much to pin.
        """
        size = max(math.prod(shape) * np.dtype(dtype).itemsize, _PAGE)
        spare = self._spare[1 << (size - 1).bit_length()]
        block = spare.pop() if spare else _Block(1 << (size - 1).bit_length())
        owner: Any = (ctypes.c_char * size).from_address(block.address)
        weakref.finalize(owner, spare.append, block)
        return np.ndarray(shape, dtype, owner)


class _Block:
    """One piece of pinned memory."""

    def __init__(self, size: int) -> None:
        (address,) = _call("cudaHostAlloc", size, _runtime().cudaHostAllocDefault)
        self.address = int(address)
        _finally(self, "cudaFreeHost", self.address)


def _runtime() -> Any:
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise SessionError(f"package cuda-bindings cannot be imported ({error}); {_INSTALL}")


def _call(name: str, *arguments: Any) -> tuple[Any, ...]:
    """What a function of CUDA's runtime returns beside its status."""
    cuda = _runtime()
    status, *found = getattr(cuda, name)(*arguments)
    if not int(status):
        return tuple(found)
    cuda.cudaGetLastError()  # else the next call reports it again
    failed = f"{name}: {status.name}"
    if status.name == "cudaErrorMemoryAllocation":
        raise OutOfMemoryError(f"{failed}; use a smaller batch or smaller images")
    if status.name in ("cudaErrorInsufficientDriver", "cudaErrorNoDevice"):
        raise SessionError(
            f"{failed}; no NVIDIA GPU, or no driver for it: look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use device cpu"
        )
    raise SessionError(failed)


def _version(number: int) -> str:
    """13050 → "13.5"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _finally(owner: object, name: str, handle: Any) -> Callable[[], Any]:
    """Give a handle back when its owner goes, or when the result is called; what fails then is nobody's to mend."""
    return weakref.finalize(owner, getattr(_runtime(), name), handle)
