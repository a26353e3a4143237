"""Runs an engine: inputs and outputs at addresses, work on a stream."""

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from stand_in_gpu import GPU, Fault, Stream

from ._api import Real
from ._basic import NUMPY, Dims, Log, dtype_of, seed

if TYPE_CHECKING:
    from ._engine import ICudaEngine

_ALIGNMENT = 256


class IOutputAllocator(Real):
    """Base of what gives outputs their memory: a subclass gives both methods."""

    def __init__(self) -> None:
        self._initialised = True


class IExecutionContext(Real):
    """One way through an engine at a time."""

    def __init__(self, engine: "ICudaEngine") -> None:
        self._engine = engine
        self._log: Log = engine._log
        self._profile = 0
        self._shapes = {name: engine._shape(name) for name in engine._inputs}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._inferred: dict[tuple, dict[str, tuple[int, ...]]] = {}
        #: Whether shapes changed since the last call outside a capture; TensorRT prepares itself in that call.
        self._changed = True

    engine = property(lambda self: self._engine)
    active_optimization_profile = property(lambda self: self._profile)
    all_binding_shapes_specified = property(lambda self: not self.infer_shapes())

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        GPU.find(_integer(stream_handle), Stream)
        if not 0 <= profile_index < len(self._engine._profiles):
            self._log.error(f"Error Code 3: API Usage Error (no profile {profile_index})")
            return False
        if profile_index != self._profile:
            self._profile, self._changed = profile_index, True
            self._shapes = {name: self._engine._shape(name) for name in self._engine._inputs}
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        if name not in self._engine._inputs:
            self._log.error(f"Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
            return False
        wanted = tuple(int(size) for size in shape)
        low, _, high = self._engine._range(name, self._profile)
        inside = len(wanted) == len(low) and all(a <= b <= c for a, b, c in zip(low, wanted, high, strict=True))
        if not inside:
            self._log.error(
                "Error Code 3: API Usage Error (Parameter check failed, condition: satisfyProfile. Set dimension "
                f"{list(wanted)} for tensor {name} does not satisfy any optimization profiles: {low} to {high}.)"
            )
            return False
        self._changed |= wanted != self._shapes[name]
        self._shapes[name] = wanted
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name, shape in self._shapes.items() if -1 in shape]

    def get_tensor_shape(self, name: str) -> Dims:
        if name in self._shapes:
            return Dims(self._shapes[name])
        if self.infer_shapes():
            return Dims(self._engine._shape(name))
        return Dims(self._outputs()[name])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if not self._engine._known(name):
            return False
        if _integer(memory) % _ALIGNMENT:
            self._log.error(
                f"Error Code 3: API Usage Error (the address of {name} is not aligned to {_ALIGNMENT} bytes)"
            )
            return False
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: IOutputAllocator | None) -> bool:
        if name not in self._engine._outputs:
            self._log.error(f"Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
            return False
        if output_allocator is None:
            self._allocators.pop(name, None)
            return True
        self._allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self._allocators.get(name)

    def get_max_output_size(self, name: str) -> int:
        feeds = {
            each: np.zeros(self._engine._range(each, self._profile)[2], self._engine._numpy(each))
            for each in self._shapes
        }
        if name in self._engine._dependent:
            return -1
        found = dict(zip(self._engine._outputs, self._engine._session.run(None, feeds), strict=True))[name]
        return int(found.size) * _itemsize(found.dtype)

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream: Stream = GPU.find(_integer(stream_handle), Stream)
        reason = self._reason(stream)
        if reason:
            self._log.error(f"IExecutionContext::enqueueV3: Error Code 3: API Usage Error ({reason})")
            return False
        capturing = stream.graph is not None
        if not capturing:
            self._changed = False
        inputs = {name: (self._addresses[name], shape) for name, shape in self._shapes.items()}
        targets = dict(self._addresses)
        if not (self._engine._dependent or self._allocators):
            stream.add(lambda: self._write(self._compute(inputs), targets))
            return True
        if capturing:
            stream.graph.valid = False
            self._log.error(
                "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)"
            )
            return False
        try:
            GPU.wait(stream)
            found = self._compute(inputs)
        except Fault as fault:
            GPU.sticky = str(fault)
            self._log.error(f"IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime ({fault})")
            return False
        for name, allocator in self._allocators.items():
            targets[name] = self._give(allocator, name, found[name].size * _itemsize(found[name].dtype))
            if not targets[name]:
                return False
            allocator.notify_shape(name, Dims(found[name].shape))
        stream.add(lambda: self._write(found, targets))
        return True

    def _give(self, allocator: Any, name: str, size: int) -> int:
        """The address that an allocator gives; 0 and a line in the log where it gives none."""
        try:
            address = int(allocator.reallocate_output(name, self._addresses.get(name, 0), size, _ALIGNMENT) or 0)
        except Exception as error:  # noqa: BLE001 -- the bindings log whatever Python raises
            self._log.error(f"Exception caught in reallocate_output(): {error}")
            address = 0
        if not address:
            self._log.error(f"IExecutionContext::enqueueV3: Error Code 2: OutOfMemory ({size} bytes for {name})")
        return address

    def _reason(self, stream: Stream) -> str:
        """Why nothing can be enqueued; empty where it can."""
        if seed("STAND_IN_ENQUEUE_FAILS"):
            return seed("STAND_IN_ENQUEUE_FAILS")
        missing = self.infer_shapes()
        if missing:
            return f"the shape of {missing[0]} is not set"
        for name in [*self._engine._inputs, *self._engine._outputs]:
            if not self._addresses.get(name) and name not in self._allocators:
                return f"Neither address or allocator is set for tensor {name}. Call setTensorAddress or setOutputAllocator first"
        for name in self._engine._dependent:
            if name not in self._allocators:
                return f"output {name} has a data-dependent shape: call setOutputAllocator"
        if stream.graph is not None and self._changed:
            return "enqueueV3 must be called once between a change of shapes and a capture"
        return ""

    def _compute(self, inputs: dict[str, tuple[int, tuple[int, ...]]]) -> dict[str, NDArray]:
        feeds = {name: _read(address, shape, self._engine._numpy(name)) for name, (address, shape) in inputs.items()}
        return dict(zip(self._engine._outputs, self._engine._session.run(None, feeds), strict=True))

    def _write(self, found: dict[str, NDArray], targets: dict[str, int]) -> None:
        for name, array in found.items():
            content = np.ascontiguousarray(array, _narrow(array.dtype)).tobytes()
            if content:
                GPU.bounds(targets[name], len(content))
                ctypes.memmove(targets[name], content, len(content))

    def _outputs(self) -> dict[str, tuple[int, ...]]:
        """Each output's shape; -1 where it depends on what is computed. Found by computing it of zeros."""
        key = tuple(sorted(self._shapes.items()))
        if key not in self._inferred:
            engine = self._engine
            feeds = {name: np.zeros(shape, engine._numpy(name)) for name, shape in self._shapes.items()}
            wanted = [name for name in engine._outputs if name not in engine._dependent]
            found = dict(zip(wanted, engine._session.run(wanted, feeds), strict=True)) if wanted else {}
            self._inferred[key] = {name: array.shape for name, array in found.items()} | self._symbolic()
        return self._inferred[key]

    def _symbolic(self) -> dict[str, tuple[int, ...]]:
        """What ONNX's shape inference knows of the outputs that depend on what is computed."""
        if not self._engine._dependent:
            return {}
        model = onnx.ModelProto()
        model.CopyFrom(self._engine._model)
        for each in model.graph.input:
            for axis, size in zip(each.type.tensor_type.shape.dim, self._shapes.get(each.name, ()), strict=False):
                axis.dim_value = size
        for each in model.graph.output:
            each.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
        shapes = {each.name: each.type.tensor_type.shape.dim for each in inferred}
        known = {
            name: tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims) for name, dims in shapes.items()
        }
        declared = {name: self._engine._shape(name) for name in self._engine._dependent}
        return {name: known[name] if len(known[name]) == len(shape) else shape for name, shape in declared.items()}


def _integer(number: Any) -> int:
    if not isinstance(number, int):
        raise TypeError(f"incompatible function arguments: an int is expected, found {type(number).__name__}")
    return number


def _narrow(dtype: np.dtype) -> np.dtype:
    """What the engine stores a tensor of the graph as."""
    return np.dtype(NUMPY[dtype_of(dtype.name).name])


def _itemsize(dtype: np.dtype) -> int:
    return _narrow(dtype).itemsize


def _read(address: int, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    stored = _narrow(dtype)
    count = int(np.prod(shape))
    if not count:
        return np.zeros(shape, dtype)
    GPU.bounds(address, count * stored.itemsize)
    raw = ctypes.string_at(address, count * stored.itemsize)
    return np.frombuffer(raw, stored).reshape(shape).astype(dtype)
