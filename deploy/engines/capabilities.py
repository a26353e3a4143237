"""What a TensorRT can do, told by the names that its Python bindings have: no version number is compared anywhere.

TensorRT 8.6 takes precisions as builder flags; 10 has strongly typed networks besides; 11 has nothing else. Attributes below
say which names stand for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from slipway_runtime.plan import Hardware

#: Libraries that TensorRT can take kernels from besides its own: they are left out, nothing else here needs them.
_EXTERNAL = ("CUBLAS", "CUBLAS_LT", "CUDNN")
#: How TensorRT names what `Options.hardware_compatible` says.
LEVELS = {"none": "NONE", "same": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}


@dataclass(frozen=True)
class Capabilities:
    """What a TensorRT's bindings offer.

    Attributes:
        strongly_typed: a network can take every data type from its graph (NetworkDefinitionCreationFlag.STRONGLY_TYPED).
        explicit_batch: a network with a batch axis must be asked for (… .EXPLICIT_BATCH).
        fp16_flag, int8_flag: a builder flag must allow layers in that precision, where the network is not strongly typed.
        layer_precision: single layers can be held to a precision (ILayer.precision, BuilderFlag.OBEY_PRECISION_CONSTRAINTS).
        int64: a data type of its own; without it, the engine's are int32.
        progress_monitor: IProgressMonitor tells how far a build is.
        external_tactics: TacticSource names to leave out.
        parser_node_names: the parser's errors name node and operator; without it, they give the node's index.
        native_instancenorm: the parser must be asked not to use a plugin for InstanceNormalization where it can be.
        version_compatible: plans for later TensorRT of the same major version.
        hardware: the levels of hardware compatibility.
    """

    strongly_typed: bool
    explicit_batch: bool
    fp16_flag: bool
    int8_flag: bool
    layer_precision: bool
    int64: bool
    progress_monitor: bool
    external_tactics: tuple[str, ...]
    parser_node_names: bool
    native_instancenorm: bool
    version_compatible: bool
    hardware: tuple[Hardware, ...]


def read(api: Any) -> Capabilities:
    """Read them off the module `tensorrt`, or off a table of its names: class → names of its attributes."""

    def has(kind: str, name: str) -> bool:
        if isinstance(api, Mapping):
            return name in api.get(kind, ())
        return hasattr(getattr(api, kind, None), name)

    return Capabilities(
        strongly_typed=has("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        explicit_batch=has("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        fp16_flag=has("BuilderFlag", "FP16"),
        int8_flag=has("BuilderFlag", "INT8"),
        layer_precision=has("BuilderFlag", "OBEY_PRECISION_CONSTRAINTS") and has("ILayer", "precision"),
        int64=has("DataType", "INT64"),
        progress_monitor=has("IProgressMonitor", "step_complete") and has("IBuilderConfig", "progress_monitor"),
        external_tactics=tuple(name for name in _EXTERNAL if has("TacticSource", name)),
        parser_node_names=has("ParserError", "node_name") and has("ParserError", "node_operator"),
        native_instancenorm=has("OnnxParserFlag", "NATIVE_INSTANCENORM") and has("OnnxParser", "set_flag"),
        version_compatible=has("BuilderFlag", "VERSION_COMPATIBLE"),
        hardware=tuple(level for level in get_args(Hardware) if has("HardwareCompatibilityLevel", LEVELS[level])),
    )
