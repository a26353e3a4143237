"""TensorRT: `.plan` on an NVIDIA GPU, by TensorRT 8.6, 10 or 11."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_runtime import cuda, plan
from slipway_runtime.errors import SessionError
from slipway_runtime.manifest import TensorSpec
from slipway_runtime.plan import Profile
from slipway_runtime.sessions import Bound, Feeds, Session
from slipway_runtime.trt import Engine

Shape = tuple[int, ...]
#: The variables of `make` that give a plan its profiles.
_SHAPES = "BATCH=MIN:OPT:MAX SIZE=MINHxW:OPTHxW:MAXHxW"


class TensorRtSession(Session):
    """A plan, its one context and one stream; for one thread at a time.

    Args:
        path: the plan; beside it lies what is said of it (`plan.PlanInfo`).
        device: "cuda".
        threads: not looked at: the CPU computes nothing.

    Attributes:
        info: what is said of the plan.

    Raises:
        BundleError: a plan without description, one that was altered or cut off, or one that TensorRT refuses.
        SessionError: no GPU, no driver, a package that is missing, another TensorRT or GPU than the plan's, too little GPU
            memory, or another device.
    """

    name = "tensorrt"

    def __init__(self, path: Path, device: str = "cuda", threads: int | None = None) -> None:
        if device != "cuda":
            raise SessionError(f"{path}: TensorRT runs on device cuda only, not on {device}")
        self.info = plan.read(path)
        plan.check(path, self.info, cuda.machine())
        super().__init__(self.info.inputs, self.info.outputs)
        self.device = device
        self.profiles = self.info.options.profiles
        self.min_batch = min(profile.minimum[0] for profile in self.profiles)
        self.max_batch = max(profile.maximum[0] for profile in self.profiles)
        self._path = path
        self.stream = cuda.Stream()
        self.host = cuda.HostMemory()
        self.engine = Engine(path, self.info)
        self._profile = 0  # a new context's
        self._shape: Shape = ()
        #: Grows with every change of the context that a recorded graph does not survive.
        self.epoch = 0
        self._input = cuda.Buffer()
        self._outputs = Outputs(self.engine, self.outputs)
        #: Of bound calls, which leave their outputs on the device.
        self.bound_outputs = Outputs(self.engine, self.outputs)

    def batch(self, count: int, shape: Shape) -> int:
        """As `Session.batch`, of the profiles that take images of this size."""
        found = [
            (profile.minimum[0], profile.maximum[0])
            for profile in self.profiles
            if profile.takes((profile.minimum[0], *shape))
        ]
        if not found or any(low <= count <= high for low, high in found):
            return count  # what no profile takes is refused with their shapes
        smaller = [high for _, high in found if high < count]
        return max(smaller) if smaller else min(low for low, _ in found)

    def take(self, shape: Shape) -> None:
        """Have the context expect an input of this shape.

        Raises:
            SessionError: no profile takes it.
        """
        if shape == self._shape:
            return
        profile = self.choose(shape)
        self._shape = ()
        self.epoch += 1
        context = self.engine.context
        if profile != self._profile:
            if not context.set_optimization_profile_async(profile, self.stream.handle):
                raise self.engine.failed(f"profile {profile} cannot be set")
            self._profile = profile
        if not context.set_input_shape(self.inputs[0].name, shape):
            raise self.engine.failed(f"shape {shape} cannot be set")
        self._shape = shape

    def place(self, array: NDArray, buffer: cuda.Buffer) -> NDArray:
        """Begin to copy an input to the device; what is returned is to live until `stream.synchronize`."""
        staged = self.host.array(array.shape, self.engine.dtypes[self.inputs[0].name])
        np.copyto(staged, array, casting="same_kind")
        self.stream.upload(staged, buffer.reserve(staged.nbytes))
        return staged

    def enqueue(self, source: cuda.Buffer, outputs: "Outputs") -> None:
        """Begin to compute on what lies in a buffer.

        Raises:
            SessionError: TensorRT failed, or the GPU has too little memory for the outputs.
        """
        self.engine.context.set_tensor_address(self.inputs[0].name, source.address)
        outputs.attach(self.epoch)
        if not self.execute():
            outputs.refused()
            raise self.engine.failed("the plan failed on this input")

    def execute(self) -> bool:
        """Give the stream the context's work; whether TensorRT did."""
        return bool(self.engine.context.execute_async_v3(self.stream.handle))

    def choose(self, shape: Shape) -> int:
        """The profile that takes a shape and was optimised for the nearest.

        Raises:
            SessionError: none does.
        """
        fitting = [index for index, profile in enumerate(self.profiles) if profile.takes(shape)]
        if not fitting:
            raise SessionError(
                f"{self._path}: input '{self.inputs[0].name}' has shape {shape}, the plan takes "
                f"{' or '.join(map(_text, self.profiles))}; for others {plan.command(self._path, self.info, _SHAPES)}"
            )
        return min(fitting, key=lambda index: self.profiles[index].distance(shape))

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        array = feeds[self.inputs[0].name]
        self.take(array.shape)
        staged = self.place(array, self._input)
        self.enqueue(self._input, self._outputs)
        outputs = self._outputs.fetch(self._outputs.shapes(), self.host, self.stream)
        del staged  # the stream has read it
        return outputs

    def _bind(self, feeds: Feeds) -> Bound:
        return _Bound(self, feeds[self.inputs[0].name])


class Outputs:
    """Device memory for a set of outputs, which grows as they do."""

    def __init__(self, engine: Engine, specs: Sequence[TensorSpec]) -> None:
        self._engine = engine
        self._dtypes = {spec.name: spec.dtype for spec in specs}
        self._buffers = {spec.name: cuda.Buffer() for spec in specs}
        self._allocators: dict[str, Any] = {}
        self._epoch = 0
        self._shapes: dict[str, Shape] = {}
        self._addresses: tuple[int, ...] = ()

    @property
    def fixed(self) -> bool:
        """Whether the input's shape, not its values, decides the outputs' shapes."""
        return all(min(shape, default=0) >= 0 for shape in self._shapes.values())

    def reserve(self, epoch: int) -> tuple[int, ...]:
        """Have memory for the outputs whose shape the context knows since `epoch`; its addresses."""
        if self._epoch != epoch:
            self._shapes = {name: tuple(self._engine.context.get_tensor_shape(name)) for name in self._buffers}
            known = {name: shape for name, shape in self._shapes.items() if min(shape, default=0) >= 0}
            self._addresses = tuple(
                self._buffers[name].reserve(math.prod(shape) * np.dtype(self._engine.dtypes[name]).itemsize)
                for name, shape in known.items()
            )
            self._epoch = epoch
        return self._addresses

    def attach(self, epoch: int) -> None:
        """Have the context write here."""
        self.reserve(epoch)
        engine = self._engine
        for name, shape in self._shapes.items():
            if min(shape, default=0) >= 0:
                engine.context.set_tensor_address(name, self._buffers[name].address)
                continue
            allocator = self._allocators.setdefault(name, engine.allocator())
            allocator.error, allocator.buffer = None, self._buffers[name]
            engine.context.set_output_allocator(name, allocator)

    def refused(self) -> None:
        """Raise (SessionError) what an allocator could not."""
        for allocator in self._allocators.values():
            if allocator.error:
                raise allocator.error

    def shapes(self) -> dict[str, Shape]:
        """The shapes of the outputs that were computed last."""
        return {name: self._allocators[name].shape if -1 in shape else shape for name, shape in self._shapes.items()}

    def fetch(self, shapes: dict[str, Shape], host: cuda.HostMemory, stream: cuda.Stream) -> dict[str, NDArray]:
        """The outputs as host arrays in the graph's data types; returns when all before them is done too."""
        arrays = {name: host.array(shape, self._engine.dtypes[name]) for name, shape in shapes.items()}
        for name, array in arrays.items():
            stream.download(self._buffers[name].address, array)
        stream.synchronize()
        return {name: array.astype(self._dtypes[name], copy=False) for name, array in arrays.items()}


class _Bound(Bound):
    """An input on the device. From the second call of a shape on, a recorded graph runs where the outputs' sizes are fixed.

    TensorRT's developer guide ("CUDA Graphs"): a graph holds for the shape it was recorded with, after one ordinary run.
    """

    def __init__(self, session: TensorRtSession, array: NDArray) -> None:
        super().__init__(session)
        self._tensorrt = session
        self._shape = array.shape
        session.choose(self._shape)
        self._input = cuda.Buffer()
        staged = session.place(array, self._input)
        session.stream.synchronize()
        del staged  # the stream has read it
        self._graph: cuda.Graph | None = None
        #: Where the last call ran, and where recording was tried: the context's epoch and the outputs' addresses.
        self._ran: tuple[int, ...] = ()
        self._tried: tuple[int, ...] = ()

    @property
    def recorded(self) -> bool:
        """Whether calls launch a CUDA graph."""
        return self._graph is not None

    def _compute(self) -> Any:
        session, outputs = self._tensorrt, self._tensorrt.bound_outputs
        session.take(self._shape)
        here = (session.epoch, *outputs.reserve(session.epoch))
        if here != self._tried:
            self._graph = None
        if here == self._ran != self._tried and outputs.fixed:
            self._record(here)
        if self._graph:
            self._graph.launch(session.stream)
        else:
            session.enqueue(self._input, outputs)
        session.stream.synchronize()
        self._ran = here
        return outputs.shapes()

    def _record(self, here: tuple[int, ...]) -> None:
        session = self._tensorrt
        session.engine.context.set_tensor_address(session.inputs[0].name, self._input.address)
        session.bound_outputs.attach(session.epoch)
        self._graph = session.stream.capture(session.execute)
        self._tried = here

    def _fetch(self, outputs: Any) -> dict[str, NDArray]:
        session = self._tensorrt
        return session.bound_outputs.fetch(outputs, session.host, session.stream)


SUFFIX = ".plan"
ENGINE = TensorRtSession


def _text(profile: Profile) -> str:
    return f"{profile.minimum}" if profile.fixed else f"{profile.minimum} to {profile.maximum}"
