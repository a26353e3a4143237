"""MMDeploy's own exporter and backend, as they are: `python -m deploy.zoo.mmdeploy_export FOLDER`, a process of its own.

Nothing of ours rewrites anything here. What lets MMDeploy 1.3.1 start on today's torch is `deploy.compat`, the stand-in for
`mmcv._ext` (`train.compat`), one name that torch dropped, and a default device where there is no GPU.

The folder holds `job.json` (the deploy config and the opsets to try), `config.py`, `weights.pth`, `image.png` to trace with and
`inputs.npz`, batches of images. It gets `graph.onnx`, `exported.json` and, for each batch, `outputs-K.npz`: the graph's
outputs, of detectors what MMDeploy's own post-processing makes of them.
"""

import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    """Export, load and run; `exported.json` is written after each step, so that a crash leaves what was found before it."""
    found: dict[str, Any] = {"errors": {}, "runs": {}}

    def note(**fields: Any) -> None:
        found.update(fields)
        (folder / "exported.json").write_text(json.dumps(found))

    job = json.loads((folder / "job.json").read_text())
    task = None
    for opset in job["opsets"]:
        started = time.monotonic()
        task, error = _attempt(_export, folder, job, opset)
        if not error:
            note(opset=opset, seconds=round(time.monotonic() - started, 1))
            break
        note(errors={**found["errors"], opset: error})
    if task is None:
        return
    assert_own()
    path = folder / "graph.onnx"
    note(**_described(path))
    note(load_error=_attempt(_load, path)[1])
    backend, error = _attempt(task.build_backend_model, [str(path)])
    note(library_error=error)
    with np.load(folder / "inputs.npz") as inputs:
        for number, batch in enumerate(inputs.values() if backend else ()):
            outputs, error = _attempt(_run, backend, batch)
            if not error:
                np.savez(folder / f"outputs-{number}.npz", **outputs)
            note(runs={**found["runs"], number: error})


def _attempt(step: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What a step returns, and why it did not, in one line."""
    try:
        return step(*arguments), ""
    except Exception as error:  # noqa: BLE001  what MMDeploy, torch or ONNX Runtime raises is a result here
        traceback.print_exc()
        said = str(error).strip().splitlines()
        return None, f"{type(error).__name__}: {said[0].strip() if said else ''}"


def _export(folder: Path, job: dict[str, Any], opset: int) -> Any:
    """What MMDeploy's `tools/deploy.py` does: `torch2onnx` on the files. Returns its task processor."""
    import torch
    from mmengine.config import Config

    from deploy import compat

    compat.apply()
    # `torch.onnx.symbolic_opset9` is another module until this is imported by name, as MMDeploy does.
    symbolics: Any = importlib.import_module("torch.onnx.symbolic_opset9")
    if not hasattr(symbolics, "_cast_Long"):
        # torch dropped it since; MMDeploy's symbolic of RoIAlign imports it (mmdeploy/mmcv/ops/roi_align.py).
        symbolics._cast_Long = lambda g, value, non_blocking: g.op(
            "Cast", value, to_i=torch.onnx.TensorProtoDataType.INT64
        )
    if not torch.cuda.is_available() and job["deploy"]["codebase_config"]["type"] == "mmdet":
        from mmdet.models.task_modules.prior_generators import MlvlPointGenerator

        # MMDeploy leaves the device of RTMDet-Ins' points to mmdet, whose default is a GPU.
        grid: Any = MlvlPointGenerator.single_level_grid_priors
        grid.__defaults__ = tuple("cpu" if value == "cuda" else value for value in grid.__defaults__)
    from mmdeploy.apis import build_task_processor, torch2onnx

    model_config = Config.fromfile(str(folder / "config.py"))
    deploy_config = Config(job["deploy"])
    settings = deploy_config.onnx_config
    settings.opset_version = opset
    if settings.get("dynamic_axes"):  # keys of JSON are text
        settings.dynamic_axes = {
            name: {int(axis): each for axis, each in axes.items()} for name, axes in settings.dynamic_axes.items()
        }
    with compat.torchscript_exporter():
        weights = str(folder / "weights.pth")
        torch2onnx(str(folder / "image.png"), str(folder), "graph.onnx", deploy_config, model_config, weights, "cpu")
    return build_task_processor(model_config, deploy_config, "cpu")


def assert_own() -> None:
    """Every rewriter that MMDeploy knows of is its own.

    Raises:
        RuntimeError: one of another package.
    """
    from mmdeploy.core import FUNCTION_REWRITER, MODULE_REWRITER, SYMBOLIC_REWRITER

    registries = (FUNCTION_REWRITER._registry, MODULE_REWRITER._registry, SYMBOLIC_REWRITER._registry)
    owners = {
        record["_object"].__module__.split(".")[0]
        for registry in registries
        for records in registry._rewrite_records.values()
        for record in records
    }
    ours = {name for name in sys.modules if name.startswith("deploy.rewrites")}
    if owners != {"mmdeploy"} or ours:
        raise RuntimeError(f"not MMDeploy alone: rewriters of {sorted(owners)}, modules {sorted(ours)}")


def _described(path: Path) -> dict[str, Any]:
    """Nodes, size, and operators that are not ONNX's own."""
    import onnx

    graph = onnx.load(path).graph
    custom = {f"{node.domain}::{node.op_type}" for node in _nodes(graph) if node.domain not in ("", "ai.onnx")}
    return {"nodes": len(graph.node), "mib": round(path.stat().st_size / 2**20, 1), "custom": sorted(custom)}


def _nodes(graph: Any) -> Iterator[Any]:
    """Those of subgraphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _nodes(inner)


def _load(path: Path) -> None:
    """In stock ONNX Runtime."""
    import onnxruntime

    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _run(backend: Any, batch: Any) -> dict[str, Any]:
    """One batch through MMDeploy's backend model, which loads MMDeploy's library of custom operators."""
    import torch

    images = torch.from_numpy(batch)
    if "Detection" not in backend.deploy_cfg.codebase_config.task:
        outputs = backend.wrapper({"input": images})
        return {name: output.numpy() for name, output in outputs.items()}
    from mmdet.structures import DetDataSample

    size = tuple(batch.shape[2:])
    fields = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), size)
    samples = [DetDataSample(metainfo={**fields, "scale_factor": (1.0, 1.0)}) for _ in batch]
    arrays = {}
    for number, sample in enumerate(backend(images, samples)):
        for name, value in sample.pred_instances.cpu().numpy().items():
            arrays[f"{name}-{number}"] = value
    return arrays


if __name__ == "__main__":
    main(Path(sys.argv[1]))
