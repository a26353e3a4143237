"""A GPU for tests: memory, streams, graphs and events of `cuda.bindings.runtime`'s stand-in, in this process' own memory.

Work is put off until something waits for it, as late as a GPU may be; a result read too early is 0xCD bytes. Memory
that was freed, or never was, makes the work that touches it fail as on a GPU: cudaErrorIllegalAddress for good.
"""

import ctypes
import os
from collections.abc import Callable

#: What a test may alter, each an environment variable, and what holds otherwise.
SEEDS = {
    "STAND_IN_GPUS": "1",
    "STAND_IN_GPU_NAME": "NVIDIA H100 80GB HBM3",
    "STAND_IN_COMPUTE_CAPABILITY": "9.0",
    "STAND_IN_MEMORY": str(80 << 30),
    "STAND_IN_DRIVER": "13000",
    "STAND_IN_CUDA": "13000",
}
_ALIGNMENT = 256


def seed(name: str) -> str:
    """What a test asked for, or what holds otherwise."""
    return os.environ.get(name, SEEDS.get(name, ""))


class Fault(Exception):
    """A failed call; the text is the name of its cudaError_t."""


class Stream:
    """Work in order; while capturing it is recorded into `graph` instead."""

    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []
        self.graph: Graph | None = None

    def add(self, work: Callable[[], None]) -> None:
        (self.queue if self.graph is None else self.graph.works).append(work)


class Graph:
    """What was enqueued while a stream captured."""

    def __init__(self, relaxed: bool = False) -> None:
        self.works: list[Callable[[], None]] = []
        self.relaxed = relaxed
        self.valid = True


class Event:
    """A place in a stream; `stream` is None before it is recorded."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.done = True
        self.time = 0.0


class Gpu:
    """Everything that is alive, and `faults`: what was done wrong with it."""

    def __init__(self) -> None:
        self.blocks: dict[int, tuple[str, int, ctypes.Array]] = {}
        self.handles: dict[int, object] = {}
        self.default = Stream()
        self.faults: list[str] = []
        self.sticky: str | None = None
        self._next = 0x1000

    def live(self) -> list[str]:
        """What was allocated or created and not given back."""
        blocks = [f"{size} bytes of {kind} memory" for kind, size, _ in self.blocks.values()]
        return blocks + [f"a {type(thing).__name__}" for thing in self.handles.values()]

    def allocate(self, size: int, kind: str) -> int:
        self.unsafe()
        if size <= 0:
            raise Fault("cudaErrorInvalidValue")
        if kind == "device" and self.used() + size > int(seed("STAND_IN_MEMORY")):
            raise Fault("cudaErrorMemoryAllocation")
        buffer = (ctypes.c_char * (size + _ALIGNMENT))()
        start = ctypes.addressof(buffer)
        address = start + -start % _ALIGNMENT
        ctypes.memset(address, 0xCD, size)
        self.blocks[address] = (kind, size, buffer)
        return address

    def free(self, address: int, kind: str) -> None:
        if not address:
            return
        self.unsafe()
        if self.blocks.get(address, ("",))[0] != kind:
            self.faults.append(f"{address:#x} is no {kind} memory that could be freed")
            raise Fault("cudaErrorInvalidValue")
        self.wait()
        _, size, _buffer = self.blocks.pop(address)
        ctypes.memset(address, 0xDD, size)

    def used(self) -> int:
        return sum(size for kind, size, _ in self.blocks.values() if kind == "device")

    def kind(self, address: int) -> str:
        """ "device", "host" (pinned), or "pageable"."""
        return next(
            (kind for start, (kind, size, _) in self.blocks.items() if start <= address < start + size), "pageable"
        )

    def bounds(self, address: int, size: int) -> None:
        """Fail unless all bytes lie in memory that the GPU may touch."""
        if not any(start <= address and address + size <= start + own for start, (_, own, _) in self.blocks.items()):
            self.faults.append(f"{size} bytes at {address:#x} were touched, which lie in no live memory of the GPU")
            raise Fault("cudaErrorIllegalAddress")

    def create(self, thing: object) -> int:
        self._next += 8
        self.handles[self._next] = thing
        return self._next

    def find(self, handle: object, kind: type) -> object:
        number = int(handle)
        if kind is Stream and number == 0:
            return self.default
        found = self.handles.get(number)
        if not isinstance(found, kind):
            raise Fault("cudaErrorInvalidResourceHandle")
        return found

    def destroy(self, handle: object, kind: type) -> None:
        thing = self.find(handle, kind)
        if isinstance(thing, Stream):
            self.run(thing)
        if thing is not self.default:
            del self.handles[int(handle)]

    def streams(self) -> list[Stream]:
        return [self.default, *(thing for thing in self.handles.values() if isinstance(thing, Stream))]

    def unsafe(self) -> None:
        """A call that no capture allows, unless it is a relaxed one."""
        for stream in self.streams():
            if stream.graph is not None and not stream.graph.relaxed:
                stream.graph.valid = False
                raise Fault("cudaErrorStreamCaptureUnsupported")

    def wait(self, stream: Stream | None = None) -> None:
        """Finish a stream's work, or all of it."""
        for each in self.streams() if stream is None else [stream]:
            if each.graph is not None:
                each.graph.valid = False
                raise Fault("cudaErrorStreamCaptureUnsupported")
        for each in self.streams() if stream is None else [stream]:
            self.run(each)
        if self.sticky:
            raise Fault(self.sticky)

    def run(self, stream: Stream, event: Event | None = None) -> None:
        """Do a stream's work, as far as an event."""
        while stream.queue and not (event is not None and event.done):
            work = stream.queue.pop(0)
            if self.sticky is None:
                try:
                    work()
                except Fault as fault:
                    self.sticky = str(fault)


GPU = Gpu()
