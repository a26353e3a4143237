"""The ONNX graph: what it may hold, how it is made smaller, and what it carries besides weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from slipway_runtime.manifest import TensorSpec
from train.errors import InputError, VerificationError

MIN_OPSET = 17
#: MMDeploy's SDK brings ONNX Runtime 1.15, which reads IR versions up to 9.
MAX_IR = 9


def load(path: Path) -> ModelProto:
    """Read a graph with its weights, external ones too.

    Raises:
        InputError: no ONNX file, or external data that is missing, outside the file's folder, or a symbolic or hard link.
    """
    try:
        return onnx.load(path)
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise InputError(f"{path}: not a usable ONNX file ({' '.join(str(error).split())}); export again") from None


def check(model: ModelProto) -> None:
    """Refuse a graph that stock ONNX Runtime could not load, or that ONNX's own checker faults.

    Raises:
        VerificationError: an operator outside `ai.onnx` (by node name), an older opset, a newer IR, an invalid graph.
    """
    strangers = [
        f"{node.domain}::{node.op_type} ({node.name})"
        for node in _nodes(model.graph)
        if node.domain not in ("", "ai.onnx")
    ]
    if strangers:
        raise VerificationError(
            f"the graph holds operators outside ai.onnx: {', '.join(strangers[:5])}; each needs a rewrite in deploy/rewrites"
        )
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < MIN_OPSET:
        raise VerificationError(
            f"the graph has opset {opset}, at least {MIN_OPSET} is needed; set onnx_config.opset_version"
        )
    if model.ir_version > MAX_IR:
        raise VerificationError(f"the graph has IR version {model.ir_version}, at most {MAX_IR} is read everywhere")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(f"ONNX's checker refuses the graph: {str(error).strip().splitlines()[0]}") from None


def simplify(model: ModelProto, feeds: list[Mapping[str, NDArray]]) -> tuple[ModelProto, bool]:
    """Fold constants and remove dead nodes with onnxslim, keeping every output bit for bit.

    Operators are not fused: that changes rounding, and each engine fuses better for itself.

    Args:
        model: the exported graph.
        feeds: inputs to compare the two graphs on, run without the engine's own optimisations.

    Returns:
        The simplified graph, shapes inferred, and True; or the original, shapes inferred, and False where outputs differ,
        or the simplified graph does not run.
    """
    import onnxslim  # brings sympy, which takes seconds

    smaller = onnx.shape_inference.infer_shapes(onnxslim.slim(model, skip_fusion_patterns=_fusions()), strict_mode=True)
    if all(_same(_run(model, feed), smaller, feed) for feed in feeds):
        return smaller, True
    return onnx.shape_inference.infer_shapes(model, strict_mode=True), False


def declare(model: ModelProto, shapes: Mapping[str, Sequence[int | str]]) -> None:
    """State the outputs' shapes, of which shape inference may know less: a name for each axis that varies."""
    for value in model.graph.output:
        axes = value.type.tensor_type.shape
        del axes.dim[:]
        for size in shapes[value.name]:
            axes.dim.add(**{"dim_param" if isinstance(size, str) else "dim_value": size})


def embed(model: ModelProto, entries: Mapping[str, str]) -> None:
    """Set metadata entries, so that a bare `model.onnx` is usable without its bundle."""
    kept = [entry for entry in model.metadata_props if entry.key not in entries]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


def specs(model: ModelProto) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The graph's inputs and outputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return (
        tuple(_spec(value) for value in model.graph.input if value.name not in weights),
        tuple(_spec(value) for value in model.graph.output),
    )


def save(model: ModelProto, path: Path) -> None:
    """Write the graph with its weights in one file."""
    onnx.save(model, path)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in tensor.shape.dim)
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)  # type: ignore[arg-type]


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """All nodes, those of subgraphs too."""
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _nodes(attribute.g)
    return found


def _run(model: ModelProto, feed: Mapping[str, NDArray]) -> list[NDArray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray] = session.run(None, dict(feed))
    return outputs


def _same(wanted: list[NDArray], model: ModelProto, feed: Mapping[str, NDArray]) -> bool:
    """Whether a graph gives these outputs, bit for bit. onnxslim made one of a Faster R-CNN that stops at an index."""
    try:
        found = _run(model, feed)
    except (ort_state.Fail, ort_state.InvalidArgument, ort_state.RuntimeException):
        return False
    return all(np.array_equal(before, after, equal_nan=True) for before, after in zip(wanted, found, strict=True))


def _fusions() -> list[str]:
    from onnxslim.core.pattern import registry

    # The other patterns only remove nodes.
    return [name for name in registry.get_fusion_patterns() if name.startswith("Fusion")]
