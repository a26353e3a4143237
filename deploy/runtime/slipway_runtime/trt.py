"""TensorRT as the runtime needs it: an engine out of a plan, and memory for outputs whose size only the data decides.

The calls are those that the Python bindings of TensorRT 8.6, 10 and 11 share. The package is imported when it is needed.
https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api describes them.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from slipway_runtime import cuda, plan
from slipway_runtime.errors import BundleError, SessionError
from slipway_runtime.manifest import TensorSpec
from slipway_runtime.plan import PlanInfo

#: TensorRT's data types as numpy calls them.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_NO_MEMORY = re.compile(r"out ?of ?memory|could not be allocated", re.IGNORECASE)
_WAY_OUT = "use a smaller batch or smaller images, or build with a smaller maximum"


class Engine:
    """A deserialised plan with one context to run it in.

    Args:
        path: the plan, which `plan.check` has let pass.
        info: what is said of it.

    Attributes:
        context: TensorRT's IExecutionContext.
        dtypes: each tensor's data type in the engine, which may be narrower than the graph's.

    Raises:
        BundleError: TensorRT refuses the plan, or its tensors are not those that `info` names.
        SessionError: TensorRT does not start.
        OutOfMemoryError: the GPU has too little memory for it.
    """

    def __init__(self, path: Path, info: PlanInfo) -> None:
        trt = cuda.tensorrt()
        self._log = _log(trt)
        self._log.errors.clear()
        try:
            runtime = trt.Runtime(self._log)
        except (TypeError, RuntimeError) as error:  # the bindings' constructor got a null
            raise SessionError(f"TensorRT {trt.__version__} does not start ({self.told() or error})")
        # RoiAlign and the like are TensorRT's own plugins in a plan, which nobody else registers.
        trt.init_libnvinfer_plugins(self._log, "")
        if info.options.version_compatible:
            runtime.engine_host_code_allowed = True
        self._engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            self._refuse_memory(path.stat().st_size)
            raise BundleError(f"{path}: TensorRT refuses the plan ({self.told()}); {plan.command(path, info)}")
        self.dtypes = self._check(path, info, trt)
        self.context = self._engine.create_execution_context()
        if self.context is None:
            self._refuse_memory(self._scratch())
            raise SessionError(f"{path}: TensorRT makes no context ({self.told()})")

    def told(self) -> str:
        """The first error that TensorRT has reported since it was last asked for one, in one line."""
        first = next(iter(self._log.errors), "")
        self._log.errors.clear()
        return first

    def failed(self, what: str) -> SessionError:
        """The error that says that TensorRT failed at something."""
        if any(map(_NO_MEMORY.search, self._log.errors)):
            return self._no_memory(self._scratch())
        return SessionError(f"tensorrt: {what} ({self.told() or 'no reason given'})")

    def allocator(self) -> Any:
        """A new IOutputAllocator with `buffer`, `shape` and `error`, which is what its buffer last refused with."""
        return _allocator(cuda.tensorrt())()

    def _check(self, path: Path, info: PlanInfo, trt: ModuleType) -> dict[str, str]:
        """The engine's data types; refuse tensors or profiles that its description does not name."""
        engine, found, dtypes = self._engine, {}, {}
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            mode = "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output"
            dtypes[name] = _DTYPES.get(engine.get_tensor_dtype(name).name, engine.get_tensor_dtype(name).name)
            found[name] = (mode, dtypes[name], tuple(engine.get_tensor_shape(name)))
        said = {spec.name: ("input", spec) for spec in info.inputs} | {s.name: ("output", s) for s in info.outputs}
        same = set(said) == set(found) and all(
            mode == found[name][0] and _fits(spec, *found[name][1:]) for name, (mode, spec) in said.items()
        )
        if not same:
            told = ", ".join(f"{mode} {name} {dtype} {shape}" for name, (mode, dtype, shape) in found.items())
            raise BundleError(f"{path}: its tensors are {told}, not what is said of it; {plan.command(path, info)}")
        profiles = engine.num_optimization_profiles
        if profiles != len(info.options.profiles):
            raise BundleError(
                f"{path}: {profiles} profiles, not {len(info.options.profiles)} as said of it; {plan.command(path, info)}"
            )
        return dtypes

    def _scratch(self) -> int:
        """Bytes of GPU memory that a context takes; 8.6 has the older name only, 11 the newer."""
        newer = getattr(self._engine, "device_memory_size_v2", None)
        return int(self._engine.device_memory_size if newer is None else newer)

    def _refuse_memory(self, needed: int) -> None:
        if any(map(_NO_MEMORY.search, self._log.errors)):
            raise self._no_memory(needed)

    def _no_memory(self, needed: int) -> SessionError:
        return cuda.OutOfMemoryError(f"tensorrt: {cuda.memory(needed)} ({self.told()}); {_WAY_OUT}")


def _fits(spec: TensorSpec, dtype: str, shape: Sequence[int]) -> bool:
    """Whether an engine's tensor can be the graph's: of its kind of numbers, and of its sizes where both are fixed."""
    return (
        dtype in _DTYPES.values()
        and np.can_cast(spec.dtype, dtype, "same_kind")
        and np.can_cast(dtype, spec.dtype, "same_kind")
        and len(shape) == len(spec.shape)
        and all(isinstance(want, str) or size in (want, -1) for size, want in zip(shape, spec.shape, strict=True))
    )


# TensorRT keeps the logger that it met first for the whole process: there is one, not one a session.
@lru_cache(maxsize=1)
def _log(trt: Any) -> Any:
    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(msg.split())[:300])

    return Log()


@lru_cache(maxsize=1)
def _allocator(trt: Any) -> Any:
    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.buffer = cuda.Buffer()
            self.shape: tuple[int, ...] = ()
            self.error: SessionError | None = None

        def reallocate_output(self, tensor_name: str, memory: Any, size: int, alignment: int) -> int:
            try:  # CUDA's memory is aligned to 256 bytes, more than anything asks for
                return self.buffer.reserve(int(size))
            except SessionError as error:  # an exception does not come through TensorRT
                self.error = error
                return 0

        def reallocate_output_async(self, tensor_name: str, memory: Any, size: int, alignment: int, stream: Any) -> int:
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator
