"""Loads plans and tells what is in them."""

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from . import _plan
from ._api import Real
from ._basic import (
    Dims,
    HardwareCompatibilityLevel,
    IHostMemory,
    LayerInformationFormat,
    Log,
    ProfilingVerbosity,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    dtype_of,
)
from ._context import IExecutionContext
from ._network import PLUGINS

#: Operators whose result's size depends on what they read.
_DEPENDENT = ("NonZero", "NonMaxSuppression", "Unique", "Compress")


class Runtime(Real):
    """Deserialises plans."""

    def __init__(self, logger: Any) -> None:
        self._log = Log(logger)
        if not _plan.has_gpu():
            self._log.error("CUDA initialization failure with error: 35. Please check your CUDA installation.")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._host_code = False

    logger = property(lambda self: self._log.logger)

    @property
    def engine_host_code_allowed(self) -> bool:
        return self._host_code

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, allowed: bool) -> None:
        self._host_code = allowed

    def deserialize_cuda_engine(self, serialized_engine: Any) -> "ICudaEngine | None":
        try:
            asked, graph = _plan.decode(bytes(serialized_engine), self._host_code)
        except _plan.Refused as refused:
            self._log.error(str(refused))
            return None
        if asked["plugins"] and not PLUGINS.ready:
            self._log.error(
                f"IPluginRegistry::getCreator: Error Code 4: API Usage Error (Cannot find plugin: {asked['plugins'][0]})"
            )
            return None
        return ICudaEngine(asked, graph, bytes(serialized_engine), self._log)


class ICudaEngine(Real):
    """A graph with its inputs and outputs by name; ONNX Runtime computes it."""

    def __init__(self, asked: dict[str, Any], graph: bytes, plan: bytes, log: Log) -> None:
        self._asked, self._plan, self._log = asked, plan, log
        self._model = onnx.load_model_from_string(graph)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        weights = {each.name for each in self._model.graph.initializer}
        self._inputs = {each.name: each for each in self._model.graph.input if each.name not in weights}
        self._outputs = {each.name: each for each in self._model.graph.output}
        self._profiles = asked["profiles"] or [{}]
        self._dependent = self._descend()

    def _descend(self) -> set[str]:
        """The outputs whose shape depends on what is computed."""
        tainted: set[str] = set()
        for node in self._model.graph.node:
            if node.op_type in _DEPENDENT or tainted.intersection(node.input):
                tainted.update(node.output)
        return tainted & set(self._outputs)

    def _numpy(self, name: str) -> np.dtype:
        each = self._inputs.get(name) or self._outputs[name]
        return np.dtype(helper.tensor_dtype_to_np_dtype(each.type.tensor_type.elem_type))

    def _range(self, name: str, profile: int) -> list[list[int]]:
        fixed = list(self._shape(name))
        return self._profiles[profile].get(name, [fixed] * 3)

    def _shape(self, name: str) -> tuple[int, ...]:
        each = self._inputs.get(name) or self._outputs.get(name)
        if each is None:
            return ()
        return tuple(size.dim_value if size.HasField("dim_value") else -1 for size in each.type.tensor_type.shape.dim)

    def _known(self, name: str) -> bool:
        if name in self._inputs or name in self._outputs:
            return True
        self._log.error(f"Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
        return False

    num_io_tensors = property(lambda self: len(self._inputs) + len(self._outputs))
    num_optimization_profiles = property(lambda self: len(self._profiles))
    num_layers = property(lambda self: len(self._asked["layers"]))
    name = property(lambda self: "Unnamed Network 0")
    refittable = property(lambda self: False)
    num_aux_streams = property(lambda self: 0)
    device_memory_size = property(lambda self: 1 << 20)
    device_memory_size_v2 = property(lambda self: 1 << 20)
    has_implicit_batch_dimension = property(lambda self: False)
    tactic_sources = property(lambda self: self._asked["tactics"])
    hardware_compatibility_level = property(
        lambda self: HardwareCompatibilityLevel.__members__[self._asked["hardware"]]
    )
    profiling_verbosity = property(lambda self: ProfilingVerbosity(self._asked["verbosity"]))

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> Any:
        if name in self._inputs:
            return TensorIOMode.INPUT
        return TensorIOMode.OUTPUT if name in self._outputs else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> Any:
        return dtype_of(self._numpy(name).name) if self._known(name) else dtype_of("float32")

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self._shape(name) if self._known(name) else ())

    def get_tensor_location(self, name: str) -> Any:
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        return TensorFormat.LINEAR

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        if name not in self._inputs or not 0 <= profile_index < len(self._profiles):
            self._log.error(f"Error Code 3: API Usage Error (no input {name} in profile {profile_index})")
            return []
        return [Dims(shape) for shape in self._range(name, profile_index)]

    def create_execution_context(self, strategy: Any = None) -> IExecutionContext:
        return IExecutionContext(self)

    def create_engine_inspector(self) -> "EngineInspector":
        return EngineInspector(self)

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._plan)


class EngineInspector(Real):
    """Tells of layers: their names only, unless the profiling verbosity was DETAILED at build."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        detailed = engine._asked["verbosity"] == int(ProfilingVerbosity.DETAILED)
        self._layers = [each if detailed else each["Name"] for each in engine._asked["layers"]]

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        layer = self._layers[layer_index]
        if format == LayerInformationFormat.JSON:
            return json.dumps(layer, indent=2)
        return layer if isinstance(layer, str) else ", ".join(f"{key}: {value}" for key, value in layer.items())

    def get_engine_information(self, format: Any) -> str:
        if format == LayerInformationFormat.JSON:
            names = [*self._engine._inputs, *self._engine._outputs]
            return json.dumps({"Layers": self._layers, "Bindings": names}, indent=2)
        return "\n".join(self.get_layer_information(index, format) for index in range(len(self._layers)))
