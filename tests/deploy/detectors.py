"""The maps that a detector's head gives, before anything is selected, at sizes of one's choice."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime

from deploy import export, graph, trace
from deploy.outputs import Output
from deploy.reference import Reference
from deploy.zoo.heads import PREFIX, with_heads
from deploy.zoo.seeding import images


def compare_heads(reference: Reference, sizes: Sequence[tuple[int, int]], path: Path) -> Output:
    """The maps of one graph for every size against the unpatched model's, at sizes that it was not traced at."""
    raw = with_heads(reference, images((1, 3, 128, 160)))
    traced = trace.trace(export.read_deploy_config("dynamic"), raw, images((1, 3, 128, 160))[0])
    graph.check(traced)
    onnx.save(traced, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    output = Output()
    for size in sizes:
        batch = images((2, 3, *size))
        wanted, exact = raw(batch), raw.exact(batch)
        for name in (name for name in wanted if name.startswith(PREFIX)):
            found = session.run([name], {"input": batch.numpy()})[0]
            rounding = float((wanted[name] - exact[name]).abs().max())
            output.update(found, wanted[name].numpy(), lambda _, rounding=rounding: rounding)  # type: ignore[misc]
    return output
