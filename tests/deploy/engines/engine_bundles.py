"""A tiny classifier's bundle where the verb `engine` looks for one: graphs in fp32 and in fp16."""

from pathlib import Path

import numpy as np
import onnx
import tiny_bundles
from onnx import TensorProto, helper, numpy_helper

from slipway_runtime import manifest as m
from train.experiment import Experiment
from train.files import sha256


def half() -> onnx.ModelProto:
    """`tiny_bundles.build_graph`, its product in float16, after a convolution in float32 that changes nothing."""
    model = tiny_bundles.build_graph()
    (weight,) = model.graph.initializer
    weight.CopyFrom(numpy_helper.from_array(tiny_bundles.WEIGHT.astype(np.float16), "weight"))
    pool, flatten, gemm, softmax = model.graph.node
    gemm.input[0], gemm.output[0] = "flat16", "logits16"
    casts = [
        helper.make_node("Cast", ["flat"], ["flat16"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["logits16"], ["logits"], to=TensorProto.FLOAT),
    ]
    same = numpy_helper.from_array(np.eye(3, dtype=np.float32)[..., None, None], "same")
    pool.input[0] = "mixed"
    nodes = [helper.make_node("Conv", ["image", "same"], ["mixed"]), pool, flatten, casts[0], gemm, casts[1], softmax]
    graph = helper.make_graph(nodes, "half", model.graph.input, model.graph.output, [weight, same])
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def experiment(folder: Path) -> tuple[Experiment, Path]:
    """The experiment, exported, and its config, which nothing reads."""
    config = folder / "cls" / "tiny.py"
    config.parent.mkdir()
    config.write_text("")
    made = Experiment("cls/tiny", folder / "work")
    made.root.mkdir(parents=True)
    described = tiny_bundles.build_manifest(name=made.name)
    tiny_bundles.write_bundle(made.bundle, tiny_bundles.build_graph(), described)
    (made.bundle / "model.fp16.onnx").write_bytes(half().SerializeToString())
    files = {name: sha256(made.bundle / name) for name in ("model.onnx", "model.fp16.onnx")}
    (made.bundle / m.FILE_NAME).write_text(described.model_copy(update={"files": files}).to_json())
    return made, config
