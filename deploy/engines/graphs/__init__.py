"""The graph that a TensorRT is given, made from a bundle's standard one. One file a rewriting: it defines `rewrite`.

Each rewriting changes a graph into an equal one of standard operators, only where TensorRT could not take the graph as it is or
would compute something else. What each generation's parser takes is in docs/tensorrt-graphs.md.
"""

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import onnx
from onnx import ModelProto

from deploy import graph
from deploy.engines.capabilities import Capabilities
from deploy.engines.graphs import shapes, symmetric
from deploy.engines.graphs.editing import prune
from deploy.engines.graphs.target import Target
from slipway_runtime import manifest
from slipway_runtime.manifest import Manifest
from slipway_runtime.plan import Profile

#: Counts up when a change of this package changes what it makes: it is part of a plan's address.
VERSION = 1


def prepare(
    bundle: Path,
    described: Manifest,
    precision: str,
    capabilities: Capabilities,
    profiles: Sequence[Profile] = (),
) -> ModelProto:
    """Make the graph of a precision.

    Args:
        bundle: with the precision's graph.
        described: its manifest.
        precision: "fp32", "fp16" or "int8".
        capabilities: of the TensorRT that will read the graph.
        profiles: the shapes that it will take. With one that takes one shape only, the graph is made for that shape.

    Raises:
        BundleError: the graph is missing or altered.
        InputError: a file that is no graph, shapes that the graph does not take, an int8 graph of another export, a node
            that no rewriting covers.
        VerificationError: a rewriting made an invalid graph.
    """
    name = manifest.graph_name(precision)
    manifest.check_files(bundle, described, sorted({manifest.GRAPH_NAME, name}))
    model = graph.load(bundle / name)
    if precision == "int8":
        model = symmetric.quantise(graph.load(bundle / manifest.GRAPH_NAME), model)
    if len(profiles) == 1 and profiles[0].fixed:
        model = shapes.fix(model, profiles[0].maximum)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    target = Target(capabilities, _largest(profiles))
    for rewriting in rewritings():
        if rewriting.rewrite(model, target):
            prune(model)
            model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph.check(model)
    return model


def rewritings() -> list[ModuleType]:
    """The modules of this package that define `rewrite`, by name."""
    found = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return [module for module in found if hasattr(module, "rewrite")]


def _largest(profiles: Sequence[Profile]) -> tuple[int, ...] | None:
    """The greatest size of each axis over all profiles."""
    return tuple(max(sizes) for sizes in zip(*(each.maximum for each in profiles), strict=True)) if profiles else None
