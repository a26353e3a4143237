"""Stand-in of `cuda.bindings.runtime`, for tests only: the same calls on the GPU that `stand_in_gpu` plays.

As with the real module every call returns a tuple that begins with its cudaError_t.
"""

import ctypes
import time
from collections.abc import Callable
from enum import IntEnum
from functools import wraps

from stand_in_gpu import GPU, Event, Fault, Graph, Stream, seed

cudaHostAllocDefault = 0
cudaHostAllocPortable = 1
cudaHostAllocMapped = 2
cudaStreamDefault = 0
cudaStreamNonBlocking = 1
cudaEventDefault = 0
cudaEventBlockingSync = 1
cudaEventDisableTiming = 2


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorInvalidResourceHandle = 400
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorStreamCaptureUnmatched = 903
    cudaErrorStreamCaptureImplicit = 906


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class cudaStreamCaptureStatus(IntEnum):
    cudaStreamCaptureStatusNone = 0
    cudaStreamCaptureStatusActive = 1
    cudaStreamCaptureStatusInvalidated = 2


class cudaDeviceProp:
    """What cudaGetDeviceProperties tells; the name is bytes."""

    def __init__(self) -> None:
        major, minor = seed("STAND_IN_COMPUTE_CAPABILITY").split(".")
        self.name = seed("STAND_IN_GPU_NAME").encode()
        self.major, self.minor = int(major), int(minor)
        self.totalGlobalMem = int(seed("STAND_IN_MEMORY"))
        self.multiProcessorCount = 132
        self.integrated = 0


class _Handle:
    def __init__(self, value: int = 0) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value

    def getPtr(self) -> int:
        return id(self)


class cudaStream_t(_Handle):
    pass


class cudaEvent_t(_Handle):
    pass


class cudaGraph_t(_Handle):
    pass


class cudaGraphExec_t(_Handle):
    pass


class _Executable:
    def __init__(self, graph: Graph) -> None:
        self.works = list(graph.works)


def _call(results: int, device: bool = True) -> Callable[[Callable], Callable]:
    """A function whose `Fault`s become the first of a tuple, and whose other results are then None."""

    def decorate(function: Callable) -> Callable:
        @wraps(function)
        def call(*arguments: object, **named: object) -> tuple:
            nothing = (None,) * results
            if device and seed("STAND_IN_DRIVER") == "0":
                return (cudaError_t.cudaErrorInsufficientDriver, *nothing)
            if device and seed("STAND_IN_GPUS") == "0":
                return (cudaError_t.cudaErrorNoDevice, *nothing)
            if device and GPU.sticky:
                return (cudaError_t[GPU.sticky], *nothing)
            try:
                found = function(*arguments, **named)
            except Fault as fault:
                return (cudaError_t[str(fault)], *nothing)
            return (cudaError_t.cudaSuccess, *([] if results == 0 else [found] if results == 1 else found))

        return call

    return decorate


def _address(pointer: object) -> int:
    if isinstance(pointer, int):
        return pointer
    return ctypes.addressof(ctypes.c_char.from_buffer(memoryview(pointer).cast("B")))


@_call(1)
def cudaGetDeviceCount() -> int:
    return int(seed("STAND_IN_GPUS"))


@_call(1)
def cudaGetDevice() -> int:
    return 0


@_call(0)
def cudaSetDevice(device: int) -> None:
    _known(device)


@_call(1)
def cudaGetDeviceProperties(device: int) -> cudaDeviceProp:
    _known(device)
    return cudaDeviceProp()


def _known(device: int) -> None:
    if not 0 <= device < int(seed("STAND_IN_GPUS")):
        raise Fault("cudaErrorInvalidDevice")


@_call(1, device=False)
def cudaDriverGetVersion() -> int:
    return int(seed("STAND_IN_DRIVER"))


@_call(1, device=False)
def cudaRuntimeGetVersion() -> int:
    return int(seed("STAND_IN_CUDA"))


@_call(1, device=False)
def getLocalRuntimeVersion() -> int:
    return int(seed("STAND_IN_CUDA"))


@_call(1, device=False)
def cudaGetErrorName(error: cudaError_t) -> bytes:
    return cudaError_t(error).name.encode()


@_call(1, device=False)
def cudaGetErrorString(error: cudaError_t) -> bytes:
    return f"the stand-in's {cudaError_t(error).name}".encode()


@_call(0)
def cudaGetLastError() -> None:
    return None


@_call(2)
def cudaMemGetInfo() -> tuple[int, int]:
    total = int(seed("STAND_IN_MEMORY"))
    return total - GPU.used(), total


@_call(1)
def cudaMalloc(size: int) -> int:
    return GPU.allocate(size, "device")


@_call(0)
def cudaFree(devPtr: int) -> None:
    GPU.free(int(devPtr), "device")


@_call(1)
def cudaHostAlloc(size: int, flags: int) -> int:
    return GPU.allocate(size, "host")


@_call(1)
def cudaMallocHost(size: int) -> int:
    return GPU.allocate(size, "host")


@_call(0)
def cudaFreeHost(ptr: int) -> None:
    GPU.free(int(ptr), "host")


@_call(0)
def cudaMemsetAsync(devPtr: int, value: int, count: int, stream: object) -> None:
    def work() -> None:
        GPU.bounds(int(devPtr), count)
        ctypes.memset(int(devPtr), value, count)

    GPU.find(stream, Stream).add(work)


@_call(0)
def cudaMemcpyAsync(dst: object, src: object, count: int, kind: cudaMemcpyKind, stream: object) -> None:
    _copy(dst, src, count, kind, GPU.find(stream, Stream))


@_call(0)
def cudaMemcpy(dst: object, src: object, count: int, kind: cudaMemcpyKind) -> None:
    for stream in GPU.streams():
        if stream.graph is not None:
            stream.graph.valid = False
            raise Fault("cudaErrorStreamCaptureImplicit")
    _copy(dst, src, count, kind, GPU.default)
    GPU.wait()


def _copy(dst: object, src: object, count: int, kind: cudaMemcpyKind, stream: Stream) -> None:
    """Copies from memory that is not pinned take their bytes at once, those to it wait: as the CUDA manual has it."""
    target, source = _address(dst), _address(src)
    sides = {target: GPU.kind(target), source: GPU.kind(source)}
    copied = {1: (sides[source], sides[target]), 2: (sides[target], sides[source])}.get(int(kind))
    if copied is not None and (copied[0] == "device" or copied[1] == "pageable"):
        raise Fault("cudaErrorInvalidValue")
    held = [address for address, side in sides.items() if side != "pageable"]
    early = ctypes.string_at(source, count) if sides[source] == "pageable" and stream.graph is None else None

    def work() -> None:
        for address in held:
            GPU.bounds(address, count)
        ctypes.memmove(target, source if early is None else early, count)

    stream.add(work)
    if sides[target] == "pageable" and stream.graph is None:
        GPU.wait(stream)


@_call(1)
def cudaStreamCreate() -> cudaStream_t:
    return cudaStream_t(GPU.create(Stream()))


@_call(1)
def cudaStreamCreateWithFlags(flags: int) -> cudaStream_t:
    return cudaStream_t(GPU.create(Stream()))


@_call(0)
def cudaStreamDestroy(stream: object) -> None:
    GPU.destroy(stream, Stream)


@_call(0)
def cudaStreamSynchronize(stream: object) -> None:
    GPU.wait(GPU.find(stream, Stream))


@_call(0)
def cudaStreamQuery(stream: object) -> None:
    GPU.wait(GPU.find(stream, Stream))


@_call(0)
def cudaDeviceSynchronize() -> None:
    GPU.wait()


@_call(0)
def cudaStreamBeginCapture(stream: object, mode: cudaStreamCaptureMode) -> None:
    found = GPU.find(stream, Stream)
    if found is GPU.default or found.graph is not None:
        raise Fault("cudaErrorStreamCaptureUnsupported")
    found.graph = Graph(mode == cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed)


@_call(1)
def cudaStreamIsCapturing(stream: object) -> cudaStreamCaptureStatus:
    graph = GPU.find(stream, Stream).graph
    return cudaStreamCaptureStatus(0 if graph is None else 1 if graph.valid else 2)


@_call(1)
def cudaStreamEndCapture(stream: object) -> cudaGraph_t:
    found = GPU.find(stream, Stream)
    graph, found.graph = found.graph, None
    if graph is None or not graph.valid:
        raise Fault(f"cudaErrorStreamCapture{'Unmatched' if graph is None else 'Invalidated'}")
    return cudaGraph_t(GPU.create(graph))


@_call(1)
def cudaGraphInstantiate(graph: object, flags: int) -> cudaGraphExec_t:
    return cudaGraphExec_t(GPU.create(_Executable(GPU.find(graph, Graph))))


@_call(0)
def cudaGraphLaunch(graphExec: object, stream: object) -> None:
    for work in GPU.find(graphExec, _Executable).works:
        GPU.find(stream, Stream).add(work)


@_call(0)
def cudaGraphExecDestroy(graphExec: object) -> None:
    GPU.destroy(graphExec, _Executable)


@_call(0)
def cudaGraphDestroy(graph: object) -> None:
    GPU.destroy(graph, Graph)


@_call(1)
def cudaEventCreate() -> cudaEvent_t:
    return cudaEvent_t(GPU.create(Event()))


@_call(1)
def cudaEventCreateWithFlags(flags: int) -> cudaEvent_t:
    return cudaEvent_t(GPU.create(Event()))


@_call(0)
def cudaEventRecord(event: object, stream: object) -> None:
    found, place = GPU.find(event, Event), GPU.find(stream, Stream)
    found.stream, found.done = place, False

    def reached() -> None:
        found.done, found.time = True, time.perf_counter()

    place.add(reached)


@_call(1)
def cudaEventElapsedTime(start: object, end: object) -> float:
    first, last = GPU.find(start, Event), GPU.find(end, Event)
    if not (first.done and last.done):
        raise Fault("cudaErrorNotReady")
    return 1000 * (last.time - first.time)


@_call(0)
def cudaEventSynchronize(event: object) -> None:
    _reach(GPU.find(event, Event))
    if GPU.sticky:
        raise Fault(GPU.sticky)


@_call(0)
def cudaStreamWaitEvent(stream: object, event: object, flags: int) -> None:
    found = GPU.find(event, Event)
    GPU.find(stream, Stream).add(lambda: _reach(found))


@_call(0)
def cudaEventDestroy(event: object) -> None:
    GPU.destroy(event, Event)


def _reach(event: Event) -> None:
    if event.stream is not None and not event.done:
        GPU.run(event.stream, event)
