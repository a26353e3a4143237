"""A graph as a TensorRT network, and the builder's configuration, for whatever generation the bindings are of."""

import re
from typing import TYPE_CHECKING, Any

from deploy.engines.building import refusals
from deploy.engines.building.spec import Spec
from deploy.engines.capabilities import LEVELS, Capabilities
from slipway_runtime.plan import Options
from train.errors import BackendError

if TYPE_CHECKING:
    import onnx

_MIB = 1 << 20
_MEMORY = re.compile(r"out ?of ?memory|insufficient memory|cudaErrorMemoryAllocation|bad_alloc", re.IGNORECASE)
#: Layers without arithmetic, whose data type their graph fixes: TensorRT lets nobody hold these to a precision.
_UNHELD = ("CONSTANT", "SHAPE", "CAST", "IDENTITY", "QUANTIZE", "DEQUANTIZE", "ASSERTION", "PLUGIN_V2")


def parse(trt: Any, able: Capabilities, builder: Any, log: Any, spec: Spec) -> tuple[Any, Any]:
    """The network of a graph, and what must live as long as it does.

    Where the bindings have strongly typed networks, every data type is the graph's. Where not, builder flags allow the
    graph's precision, and each layer is held to what the graph says.

    Raises:
        BackendError: nodes that TensorRT refuses, by name.
    """
    import onnx

    flags = 0
    if able.explicit_batch:
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if able.strongly_typed:
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if able.native_instancenorm:
        parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    content = spec.graph.read_bytes()
    model = onnx.load_from_string(content)
    if not parser.parse(content):
        raise BackendError(refusals.text(parser, able, model, trt.__version__))
    if not able.strongly_typed and spec.options.precision == "fp16":
        _hold(trt, network, model)
    # The parser owns the weights that the network refers to.
    return network, (parser, content)


def configure(trt: Any, able: Capabilities, builder: Any, network: Any, spec: Spec) -> Any:
    """The builder's configuration for the options.

    Raises:
        BackendError: profiles that TensorRT refuses.
    """
    options = spec.options
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = options.optimization_level
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
    # On unless it is cleared.
    (config.set_flag if options.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    if able.external_tactics:
        left_out = sum(1 << int(getattr(trt.TacticSource, name)) for name in able.external_tactics)
        config.set_tactic_sources(config.get_tactic_sources() & ~left_out)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible != "none":
        level = getattr(trt.HardwareCompatibilityLevel, LEVELS[options.hardware_compatible])
        config.hardware_compatibility_level = level
    if not able.strongly_typed:
        _allow(trt, able, config, options)
    for wanted in options.profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(spec.input, wanted.minimum, wanted.optimum, wanted.maximum)
        if config.add_optimization_profile(profile) < 0:
            raise BackendError(f"TensorRT refuses the profile {wanted.minimum} to {wanted.maximum} for this graph")
    return config


def failure(options: Options, log: Any) -> str:
    """Why nothing was built, from TensorRT's log."""
    memory = [line for line in log.lines if _MEMORY.search(line)]
    if memory:
        limit = f"{options.workspace_mib} MiB" if options.workspace_mib else "all that the GPU has free"
        return (
            f"TensorRT ran out of memory (workspace: {limit}): {memory[-1][:200]}; give it a smaller --batch or --size, "
            + ("a larger --workspace, " if options.workspace_mib else "")
            + "or free the GPU of other work"
        )
    return f"TensorRT could not build the engine: {log.said() or 'it does not say why'}"


def _allow(trt: Any, able: Capabilities, config: Any, options: Options) -> None:
    """Allow a precision by builder flags, and oblige TensorRT to what `_hold` says."""
    if options.precision == "fp16" and able.fp16_flag:
        config.set_flag(trt.BuilderFlag.FP16)
        if able.layer_precision:
            config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    if options.precision == "int8" and able.int8_flag:
        config.set_flag(trt.BuilderFlag.INT8)


def _hold(trt: Any, network: Any, model: "onnx.ModelProto") -> None:
    """Hold each layer to the float type that the graph's tensors have, by their names."""
    from onnx import TensorProto

    known: dict[int, Any] = {TensorProto.FLOAT: trt.DataType.FLOAT, TensorProto.FLOAT16: trt.DataType.HALF}
    wanted = {name: known[kind] for name, kind in refusals.types(model).items() if kind in known}
    of_node = {node.name: wanted[node.output[0]] for node in model.graph.node if node.output[0] in wanted}
    unheld = [getattr(trt.LayerType, name) for name in _UNHELD if hasattr(trt.LayerType, name)]
    for layer in map(network.get_layer, range(network.num_layers)):
        if layer.type in unheld:
            continue
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        types = [wanted.get(output.name, of_node.get(layer.name)) for output in outputs]
        floats = [
            kind for kind, output in zip(types, outputs, strict=True) if kind is not None and _is_float(trt, output)
        ]
        if not floats:
            continue
        layer.precision = floats[0]
        for index, (kind, output) in enumerate(zip(types, outputs, strict=True)):
            if kind is not None and _is_float(trt, output):
                layer.set_output_type(index, kind)


def _is_float(trt: Any, tensor: Any) -> bool:
    return tensor.dtype in (trt.DataType.FLOAT, trt.DataType.HALF)
