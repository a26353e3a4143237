"""Putting a bundle together: manifest, graph, MMDeploy's SDK files, parity — whole or absent."""

import json
from importlib import metadata
from pathlib import Path

import onnx
from mmengine.config import Config

from deploy import graph, pipeline
from slipway_runtime.manifest import FILE_NAME, METADATA_KEY, Manifest, Origin, Postprocess
from train.experiment import Record, tools
from train.files import sha256

#: The graph's file name; MMDeploy's SDK files and the manifest name it.
GRAPH = "model.onnx"
CONFIG = "config.py"
#: Written besides the manifest and not listed in it: the manifest's hashes are part of what parity was computed on.
PARITY = "parity.json"


def manifest(config: Config, record: Record, model: onnx.ModelProto, postprocess: Postprocess) -> Manifest:
    """Everything about a model that a runtime needs, without the hashes of the bundle's files (see `seal`)."""
    inputs, outputs = graph.specs(model)
    palette = record.data["palette"]
    return Manifest(
        name=record.experiment,
        classes=tuple(record.data["classes"]),
        palette=tuple(map(tuple, palette)) if palette else None,
        inputs=inputs,
        outputs=outputs,
        preprocess=pipeline.steps(config),
        postprocess=postprocess,
        files={},
        origin=Origin(
            checkpoint=record.origin,
            checkpoint_sha256=record.checkpoint_sha256,
            config=CONFIG,
            config_sha256=record.config_sha256,
        ),
        tools={
            **tools(),
            **{
                name: metadata.version(name)
                for name in ("mmdeploy", "onnx", "onnxslim", "onnxruntime", "opencv-python-headless")
            },
        },
    )


def write_graph(model: onnx.ModelProto, described: Manifest, path: Path) -> None:
    """Write the graph with the manifest's essentials in its metadata."""
    graph.embed(model, {METADATA_KEY: described.model_dump_json(), "slipway.task": described.task})
    graph.save(model, path)


def seal(folder: Path, described: Manifest) -> None:
    """Hash every file of the folder into the manifest and write it."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in (FILE_NAME, PARITY))
    sealed = described.model_copy(update={"files": {name: sha256(folder / name) for name in names}})
    (folder / FILE_NAME).write_text(sealed.to_json())


def write_sdk_files(folder: Path, config: Config, deploy_config: Config, checkpoint_name: str) -> None:
    """Write `deploy.json`, `pipeline.json` and `detail.json`, with which MMDeploy's own SDK loads the folder.

    Args:
        folder: the bundle.
        config: the model's.
        deploy_config: as completed for the export.
        checkpoint_name: for `detail.json`.
    """
    from mmdeploy.backend.sdk.export_info import export2SDK

    export2SDK(deploy_config, config, str(folder), checkpoint_name, "cpu")
    # MMDeploy writes the path of the config it was given, but a bundle travels; and it lists keys in the order of a set.
    detail = json.loads((folder / "detail.json").read_text())
    detail["codebase"]["config"] = CONFIG
    (folder / "detail.json").write_text(json.dumps(detail, indent=4) + "\n")
    steps = json.loads((folder / "pipeline.json").read_text())
    for task in steps["pipeline"]["tasks"]:
        if task.get("component") == "ResizeInstanceMask":
            # `mmdeploy_runtime` 1.3.1 spoils its boxes, or ends the process, while it makes masks: boxes alone are right.
            task["component"] = "ResizeBBox"
        for transform in task.get("transforms", []):
            if "meta_keys" in transform:
                transform["meta_keys"].sort()
            if transform.get("size", [0])[-1] == -1:
                # The short edge alone gives mmpretrain's ResizeEdge; `keep_ratio` would round a second time, to one
                # pixel less for some images (csrc/mmdeploy/preprocess/transform/resize.cpp).
                transform["keep_ratio"] = False
    (folder / "pipeline.json").write_text(json.dumps(steps, indent=4) + "\n")
