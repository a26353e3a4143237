"""The precision that was built, read from the engine inspector, against the one that was asked for.

The inspector's JSON has a list `Layers`. Built with detailed verbosity, each is an object with its type, and with inputs and
outputs that say their data type in words ("Half", "Channel major FP16 format where channel % 8 == 0"); how they are read
follows NVIDIA's own reader (TensorRT/tools/experimental/trt-engine-explorer, activations.py and layer.py). A layer computes in
the type of its first input of floats or quantised numbers.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.engines.building.refusals import types
from slipway_runtime.plan import Options
from train.errors import VerificationError

if TYPE_CHECKING:
    import onnx

#: By so much may the share of layers in a precision stay below what the graph asks for.
MARGIN = 0.1
#: Words of data types, as they come in the inspector's texts.
_WORDS = {
    "fp32": r"FP32|Float",
    "fp16": r"FP16|Half",
    "bf16": r"BF16|BFloat16",
    "int8": r"Int8",
    "fp8": r"FP8",
}
_PRECISION = re.compile(
    r"\b(?:" + "|".join(f"(?P<{name}>{words})" for name, words in _WORDS.items()) + r")\b", re.IGNORECASE
)
#: Layers that move data or hold it, and compute nothing.
_IDLE = re.compile(r"^(reformat|noop|constant|shape|signal|wait)", re.IGNORECASE)
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
#: Operators whose precision decides what an engine costs; TensorRT may merge others into them.
_COSTLY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Layer:
    """A layer of an engine that computes: in which precision, and which of the graph's nodes it was made of."""

    precision: str
    nodes: frozenset[str]


def layers(text: str) -> list[Layer]:
    """Read the inspector's text.

    Raises:
        VerificationError: it tells nothing of data types.
    """
    try:
        # Metadata has control characters between its parts.
        listed = json.loads(text, strict=False)["Layers"]
    except (ValueError, KeyError, TypeError):
        listed = []
    found = [layer for layer in map(_layer, listed) if layer]
    if not found:
        raise VerificationError(
            "the engine inspector tells nothing of the layers' data types, so what was built cannot be compared with what was "
            "asked for; no engine was kept"
        )
    return found


def _layer(raw: Any) -> Layer | None:
    """None of one that computes nothing, or of whose floats nothing is said."""
    if not isinstance(raw, Mapping) or any(
        _IDLE.match(str(raw.get(key, ""))) for key in ("LayerType", "ParameterType")
    ):
        return None
    described = (tensor.get("Format/Datatype", "") for key in ("Inputs", "Outputs") for tensor in raw.get(key) or ())
    precision = next((name for name in map(_precision, described) if name), None)
    if precision is None:
        return None
    if precision == "fp32" and "tf32" in str(raw.get("TacticName", "")).lower():
        precision = "tf32"
    names = {*str(raw.get("Name", "")).split(" + "), *_NODE.findall(str(raw.get("Metadata", "")))}
    return Layer(precision, frozenset(names))


def _precision(described: str) -> str | None:
    found = _PRECISION.search(described)
    return found.lastgroup if found else None


def asked(model: "onnx.ModelProto") -> dict[str, str]:
    """The precision of each convolution and matrix product of a graph, by node name; those of integers are left out."""
    from onnx import TensorProto

    known, graph = types(model), model.graph
    quantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    names: dict[int, str] = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
    return {
        node.name: "int8" if set(node.input[:2]) <= quantised else names[known[node.input[0]]]
        for node in graph.node
        if node.op_type in _COSTLY and known.get(node.input[0]) in names
    }


def check(found: Iterable[Layer], wanted: Mapping[str, str], options: Options) -> dict[str, int]:
    """Compare what was built with what was asked for; returns the number of layers in each precision.

    Of fp16 and int8, the share of convolutions and matrix products in it counts. Where no layer says which node it was made
    of, that of all layers does.

    Raises:
        VerificationError: another precision than asked for.
    """
    every = list(found)
    counts = Counter(layer.precision for layer in every)
    if options.precision == "fp32":
        strange = sorted(set(counts) - {"fp32", *(("tf32",) if options.tf32 else ())})
        if strange:
            raise VerificationError(
                f"fp32 was asked for, but the engine computes in {' and '.join(strange)}: {_shares(counts)}"
            )
        return dict(sorted(counts.items()))
    built: dict[str, set[str]] = {}
    for layer in every:
        for name in layer.nodes & wanted.keys():
            built.setdefault(name, set()).add(layer.precision)
    share = (
        sum(options.precision in kinds for kinds in built.values()) / len(built)
        if built
        else counts[options.precision] / len(every)
    )
    due = sum(kind == options.precision for kind in wanted.values()) / max(len(wanted), 1)
    if share < due - MARGIN:
        raise VerificationError(
            f"{options.precision} was asked for in {due:.0%} of the convolutions and matrix products, the engine has it in "
            f"{share:.0%}: {_shares(counts)}"
        )
    return dict(sorted(counts.items()))


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(
        f"{name} {count} of {total} layers ({count / total:.0%})" for name, count in sorted(counts.items())
    )
