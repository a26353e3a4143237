"""Both backends on a trained and exported model; and a graph that lost accuracy."""

import shutil
from pathlib import Path

import onnx
import pytest
from colour_bench import Bench
from onnx import numpy_helper

from slipway_runtime import manifest as m
from train.experiment import Experiment
from train.files import sha256

BOTH = ["backends=[pytorch, onnxruntime]", "threads=2", "gates.accuracy_points=0.05"]


@pytest.fixture
def experiment(digits_experiment: Experiment, tmp_path: Path) -> Experiment:
    """A copy, so that a test may write into it."""
    copy = Experiment(digits_experiment.name, tmp_path / "work")
    shutil.copytree(digits_experiment.root, copy.root, ignore=shutil.ignore_patterns("bench", "epoch_*"))
    return copy


def test_pytorch_and_onnxruntime_side_by_side(experiment: Experiment, bench: Bench) -> None:
    code, found = bench(experiment, *BOTH, "batch_sizes=[2]")
    assert code == 0
    rows = found["rows"]
    assert len(rows) == 6
    assert {row["status"] for row in rows} == {"ok"}
    artifacts = {row["backend"]: row["artifact_sha256"] for row in rows}
    assert artifacts == {
        "pytorch": sha256(experiment.checkpoint),
        "onnxruntime": sha256(experiment.bundle / "model.onnx"),
    }
    speedups = {row["backend"]: row["speedup"] for row in rows}
    assert speedups["pytorch"] is None
    assert speedups["onnxruntime"]["low"] <= speedups["onnxruntime"]["value"] <= speedups["onnxruntime"]["high"]
    first, second = found["accuracy"]
    assert first["images"] == second["images"] > 300
    assert first["values"] == pytest.approx(second["values"], abs=0.05)
    # What training measured with mmpretrain's own pipeline and metric.
    assert first["values"]["top1_percent"] == pytest.approx(experiment.read().metrics["accuracy/top1"], abs=0.05)
    assert found["parity_passed"] is True
    # torch lives in its own row's process only.
    peak = {row["backend"]: row["peak_rss_mib"] for row in rows}
    assert peak["onnxruntime"] < peak["pytorch"] / 2


def _swap_two_classes(bundle: Path) -> None:
    """Let the graph answer 1 for 0 and 0 for 1: swap two rows of the last layer's weight and bias."""
    graph = onnx.load(bundle / m.GRAPH_NAME)
    (layer,) = (node for node in graph.graph.node if node.op_type == "Gemm")
    for tensor in graph.graph.initializer:
        if tensor.name in layer.input[1:]:
            values = numpy_helper.to_array(tensor)
            axis = values.shape.index(10)
            order = [1, 0, *range(2, 10)]
            tensor.CopyFrom(numpy_helper.from_array(values.take(order, axis), tensor.name))
    onnx.save(graph, bundle / m.GRAPH_NAME)
    manifest = m.read(bundle)
    files = {**manifest.files, m.GRAPH_NAME: sha256(bundle / m.GRAPH_NAME)}
    (bundle / m.FILE_NAME).write_text(manifest.model_copy(update={"files": files}).to_json())


def test_a_graph_that_lost_accuracy_fails_the_gate_each_time(experiment: Experiment, bench: Bench) -> None:
    _swap_two_classes(experiment.bundle)
    code, found = bench(experiment, *BOTH)
    assert code == 5
    assert {row["status"] for row in found["rows"]} == {"ok"}, "it is fast, and wrong"
    top1 = [entry["values"]["top1_percent"] for entry in found["accuracy"]]
    assert top1[0] - top1[1] > 10
    code, found = bench(experiment, *BOTH)
    assert (code, found["measured"]) == (5, False), "stored results do not pass either"
