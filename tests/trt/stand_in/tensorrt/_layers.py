"""Which precision each layer of a built engine has, as the engine inspector tells it.

The texts are those that NVIDIA's engine explorer knows (TensorRT's repository, trt-engine-explorer, trex/activations.py):
whole sentences for layers with kernels of TensorRT's own, short names, from 10 on, for those that Myelin fuses ("kgen").
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper

from ._api import MAJOR
from ._network import INetworkDefinition

_LONG = {
    "float32": "Row major linear FP32",
    "float16": "Row major linear FP16 format",
    "int8": "Row major Int8 format",
    "int32": "Row major linear Int32",
    "int64": "Row major linear Int64 format",
    "bool": "Row major linear BOOL",
    "uint8": "Row major linear UInt8 format",
}
_SHORT = {
    "float32": "Float",
    "float16": "Half",
    "int8": "Int8",
    "int32": "Int32",
    "int64": "Int64",
    "bool": "Bool",
    "uint8": "UInt8",
}
_HEAVY = {
    "Conv": "CaskConvolution",
    "ConvTranspose": "CaskDeconvolutionV2",
    "Gemm": "CaskGemmConvolution",
    "MatMul": "MatrixMultiply",
}
_FUSED = ("QuantizeLinear", "DequantizeLinear", "Identity")


def built(network: INetworkDefinition, fp16: bool, int8: bool, obey: bool, pretend: str) -> list[dict[str, Any]]:
    """One entry a layer.

    Args:
        network: what was parsed.
        fp16: whether float layers of a weakly typed network may become float16, and int8 likewise.
        int8: see there.
        obey: whether a layer's own precision counts before that.
        pretend: numpy's name of the float type that every layer is to have instead; empty: none.
    """
    graph = network._graph.graph
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    strong = network._strong()
    weights = network._weights()

    def kind(name: str, layer: Any) -> str:
        found = _numpy(network, name)
        if found == "int64" and MAJOR < 10:
            return "int32"
        if found not in ("float32", "float16"):
            return found
        if pretend:
            return pretend
        if strong:
            return found
        if obey and layer._precision is not None:
            return {"HALF": "float16", "INT8": "int8"}.get(layer._precision.name, "float32")
        return "float16" if fp16 else "float32"

    found = []
    for layer in network._layers:
        node = layer._node
        if node.op_type in _FUSED:
            continue
        inputs = [name for name in node.input if name and name not in weights]
        quantized = [_reads_int8(name, makers) and (strong or int8) and not pretend for name in inputs]
        stored = [
            bool(users.get(name)) and all(user.op_type == "QuantizeLinear" for user in users[name])
            for name in node.output
        ]
        reads = ["int8" if low else kind(name, layer) for name, low in zip(inputs, quantized, strict=True)]
        writes = [
            "int8" if low and any(quantized) else kind(name, layer)
            for name, low in zip(node.output, stored, strict=True)
        ]
        found.append(_entry(network, node, inputs, reads, writes))
    return found


def _entry(
    network: INetworkDefinition, node: onnx.NodeProto, inputs: list[str], reads: list[str], writes: list[str]
) -> dict[str, Any]:
    heavy = MAJOR < 10 or node.op_type in _HEAVY
    texts = _LONG if heavy else _SHORT

    def tensors(names: Any, kinds: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "Name": name,
                "Location": "Device",
                "Dimensions": list(network._tensor(name)._shape),
                "Format/Datatype": texts[each],
            }
            for name, each in zip(names, kinds, strict=True)
        ]

    return {
        "Name": node.name or node.output[0],
        "LayerType": _HEAVY.get(node.op_type, "PointWiseV2" if heavy else "kgen"),
        "Inputs": tensors(inputs, reads),
        "Outputs": tensors(node.output, writes),
        "ParameterType": node.op_type,
        "TacticName": "",
        "StreamId": 0,
        "Metadata": f"[ONNX Layer: {node.name}]",
    }


def _reads_int8(name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    return name in makers and makers[name].op_type == "DequantizeLinear"


def _numpy(network: INetworkDefinition, name: str) -> str:
    known = network._types.get(name)
    number = known.elem_type if known is not None and known.elem_type else onnx.TensorProto.FLOAT
    return str(np.dtype(helper.tensor_dtype_to_np_dtype(number)).name)
