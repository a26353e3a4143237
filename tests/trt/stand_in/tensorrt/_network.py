"""Networks, and the ONNX parser that fills them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from ._api import MAJOR, TABLE, VERSION, Real
from ._basic import (
    DataType,
    Dims,
    ErrorCode,
    LayerType,
    Log,
    NetworkDefinitionCreationFlag,
    TensorLocation,
    dtype_of,
    seed,
)

#: The operators of the real parser; see the file.
OPERATORS = json.loads((Path(__file__).parents[2] / "api" / "operators.json").read_text())
_TYPES = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "MatMul": "MATRIX_MULTIPLY",
    "Gemm": "MATRIX_MULTIPLY",
}
_TYPES |= {
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Cast": "CAST",
    "Resize": "RESIZE",
    "Shape": "SHAPE",
}
_TYPES |= {
    "Relu": "ACTIVATION",
    "Concat": "CONCATENATION",
    "Softmax": "SOFTMAX",
    "TopK": "TOPK",
    "Constant": "CONSTANT",
}
_TYPES |= {
    "MaxPool": "POOLING",
    "AveragePool": "POOLING",
    "Slice": "SLICE",
    "NonMaxSuppression": "NMS",
    "Gather": "GATHER",
}
_TYPES |= {"Reshape": "SHUFFLE", "Transpose": "SHUFFLE", "NonZero": "NON_ZERO"}


class _Plugins:
    """Whether TensorRT's own plugins were registered in this process; the parser of 8.6 does it itself."""

    ready = False


PLUGINS = _Plugins()
_NATIVE = (TABLE["enums"].get("OnnxParserFlag") or {}).get("NATIVE_INSTANCENORM")


class ITensor(Real):
    """A tensor of a network."""

    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...], is_input: bool, is_output: bool) -> None:
        self._name, self._dtype, self._shape = name, dtype, Dims(shape)
        self._input, self._output = is_input, is_output

    name = property(lambda self: self._name)
    dtype = property(lambda self: self._dtype)
    shape = property(lambda self: self._shape)
    is_network_input = property(lambda self: self._input)
    is_network_output = property(lambda self: self._output)
    is_shape_tensor = property(lambda self: False)
    is_execution_tensor = property(lambda self: True)
    location = property(lambda self: TensorLocation.DEVICE)


class ILayer(Real):
    """A node of the graph; its precision is what a weakly typed network may be asked for."""

    def __init__(self, node: onnx.NodeProto, network: "INetworkDefinition") -> None:
        self._node, self._network = node, network
        self._precision: Any = None
        self._outputs: dict[int, Any] = {}

    name = property(lambda self: self._node.name)
    num_inputs = property(lambda self: len(self._node.input))
    num_outputs = property(lambda self: len(self._node.output))
    precision_is_set = property(lambda self: self._precision is not None)

    @property
    def type(self) -> Any:
        name = _TYPES.get(self._node.op_type, "ELEMENTWISE")
        return LayerType.__members__.get(name, LayerType.__members__.get("ELEMENTWISE"))

    @property
    def precision(self) -> Any:
        return DataType.FLOAT if self._precision is None else self._precision

    @precision.setter
    def precision(self, precision: Any) -> None:
        self._precision = precision

    def reset_precision(self) -> None:
        self._precision = None

    def get_input(self, index: int) -> ITensor | None:
        name = self._node.input[index] if index < self.num_inputs else ""
        return self._network._tensor(name) if name else None

    def get_output(self, index: int) -> ITensor | None:
        return self._network._tensor(self._node.output[index]) if index < self.num_outputs else None

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._outputs[index] = dtype

    def get_output_type(self, index: int) -> Any:
        return self._outputs.get(index, self.get_output(index)._dtype)

    def output_type_is_set(self, index: int) -> bool:
        return index in self._outputs

    def reset_output_type(self, index: int) -> None:
        self._outputs.pop(index, None)


class INetworkDefinition(Real):
    """Inputs, layers and outputs of one parsed graph."""

    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._name = ""
        self._graph: onnx.ModelProto | None = None
        self._types: dict[str, onnx.TypeProto.Tensor] = {}
        self._layers: list[ILayer] = []
        self._by_plugin: set[str] = set()

    def _take(self, model: onnx.ModelProto, by_plugin: set[str]) -> None:
        self._by_plugin = by_plugin
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        known = [*inferred.value_info, *inferred.input, *inferred.output]
        self._types = {each.name: each.type.tensor_type for each in known}
        self._graph = model
        self._layers = [ILayer(node, self) for node in model.graph.node if node.op_type != "Constant"]

    def _plugins(self) -> list[str]:
        """The operators of the graph that become plugins."""
        nodes = self._graph.graph.node if self._graph else []
        return sorted({node.op_type for node in nodes} & self._by_plugin)

    def _weights(self) -> set[str]:
        return {each.name for each in self._graph.graph.initializer} if self._graph else set()

    def _inputs(self) -> list[str]:
        weights = self._weights()
        return [each.name for each in self._graph.graph.input if each.name not in weights] if self._graph else []

    def _outputs(self) -> list[str]:
        return [each.name for each in self._graph.graph.output] if self._graph else []

    def _tensor(self, name: str) -> ITensor:
        kind = self._types.get(name)
        array = None if kind else next((each for each in self._graph.graph.initializer if each.name == name), None)
        number = kind.elem_type if kind else array.data_type if array else 1
        shape = (
            [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
            if kind
            else list(array.dims)
            if array
            else []
        )
        dtype = dtype_of(np.dtype(helper.tensor_dtype_to_np_dtype(number)).name)
        return ITensor(name, dtype, tuple(shape), name in self._inputs(), name in self._outputs())

    def _strong(self) -> bool:
        flag = NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
        return flag is not None and bool(self._flags >> int(flag) & 1)

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    num_inputs = property(lambda self: len(self._inputs()))
    num_outputs = property(lambda self: len(self._outputs()))
    num_layers = property(lambda self: len(self._layers))
    flags = property(lambda self: self._flags)
    has_implicit_batch_dimension = property(lambda self: MAJOR < 10 and not self._flags & 1)

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    def get_input(self, index: int) -> ITensor:
        return self._tensor(self._inputs()[index])

    def get_output(self, index: int) -> ITensor:
        return self._tensor(self._outputs()[index])

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int) -> ILayer:
        return self._layers[index]


class ParserError(Real):
    """Why a node was refused."""

    def __init__(self, code: Any, text: str, index: int, node: onnx.NodeProto | None) -> None:
        self._code, self._text, self._index, self._node = code, text, index, node

    def code(self) -> Any:
        return self._code

    def desc(self) -> str:
        return self._text

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node.name if self._node else ""

    def node_operator(self) -> str:
        return self._node.op_type if self._node else ""

    def file(self) -> str:
        return "onnxOpImporters.cpp"

    def func(self) -> str:
        return "parseNode"

    def line(self) -> int:
        return 0

    def __str__(self) -> str:
        return f"In node {self._index}: {self._text}"


class OnnxParser(Real):
    """Reads ONNX into a network; operators that the real one does not know are refused."""

    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network, self._log = network, Log(logger)
        self._errors: list[ParserError] = []
        #: From 10 on InstanceNormalization is native unless asked otherwise.
        self._flags = 0 if _NATIVE is None else 1 << int(_NATIVE)

    num_errors = property(lambda self: len(self._errors))

    @property
    def flags(self) -> int:
        return self._flags

    @flags.setter
    def flags(self, flags: int) -> None:
        self._flags = flags

    def set_flag(self, flag: Any) -> None:
        self._flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()

    def supports_operator(self, op_name: str) -> bool:
        return op_name in OPERATORS[VERSION] and op_name not in seed("STAND_IN_REFUSED").split(",")

    def parse_from_file(self, model: str) -> bool:
        path = Path(model)
        if not path.is_file():
            self._log.error(f"Could not open file {model}")
            return self._refuse("MODEL_DESERIALIZE_FAILED", f"Failed to open file: {model}", -1, None)
        return self.parse(path.read_bytes(), path=str(path))

    def parse(self, model: bytes, path: str | None = None) -> bool:
        if MAJOR < 10 and not self._network._flags & 1:
            return self._refuse("INVALID_GRAPH", "the network must be initialized with explicit batch", -1, None)
        try:
            found = onnx.load_model_from_string(bytes(model))
            if path:
                onnx.external_data_helper.load_external_data_for_model(found, str(Path(path).parent))
        except Exception:  # noqa: BLE001 -- protobuf has many, and the real parser one answer
            return self._refuse("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.", -1, None)
        if MAJOR < 10:
            PLUGINS.ready = True
        constants = {each.name: each for each in found.graph.initializer}
        constants |= {
            n.output[0]: n.attribute[0].t
            for n in found.graph.node
            if n.op_type == "Constant" and n.attribute[0].name == "value"
        }
        for index, node in enumerate(found.graph.node):
            reason = self._reason(node, constants)
            if reason:
                self._refuse(reason[0], reason[1], index, node)
        if not self._errors:
            self._network._take(found, self._by_plugin())
        return not self._errors

    def _by_plugin(self) -> set[str]:
        native = _NATIVE is not None and self.get_flag(_NATIVE)
        return set(OPERATORS["plugins"][VERSION]) - ({"InstanceNormalization"} if native else set())

    def _reason(self, node: onnx.NodeProto, constants: dict) -> tuple[str, str] | None:
        if node.domain not in ("", "ai.onnx") or not self.supports_operator(node.op_type):
            return "UNSUPPORTED_NODE", f"No importer registered for op: {node.op_type}"
        if node.op_type in self._by_plugin() and not PLUGINS.ready:
            return "UNSUPPORTED_NODE", f"{node.op_type} plugin was not found in the plugin registry!"
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = constants.get(node.input[2])
            if zero is None or zero.data_type != onnx.TensorProto.INT8 or np.any(numpy_helper.to_array(zero)):
                return "UNSUPPORTED_NODE", "only int8 with zero points of 0 is quantized to"
        return None

    def _refuse(self, code: str, text: str, index: int, node: onnx.NodeProto | None) -> bool:
        self._log.error(f"In node {index} ({node.op_type if node else 'graph'}): {code}: {text}")
        self._errors.append(ParserError(ErrorCode.__members__.get(code, ErrorCode.INTERNAL_ERROR), text, index, node))
        return False
