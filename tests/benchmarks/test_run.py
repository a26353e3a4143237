"""Both backends on trained and exported models; and a graph that lost accuracy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from colour_bench import Bench
from onnx import numpy_helper

from slipway_runtime import manifest as m
from train.data import label_maps
from train.experiment import Experiment
from train.files import sha256

BOTH = ["backends=[pytorch, onnxruntime]", "threads=2"]


def _copy(experiment: Experiment, work: Path) -> Experiment:
    """A copy, so that a test may write into it."""
    copy = Experiment(experiment.name, work)
    shutil.copytree(experiment.root, copy.root, ignore=shutil.ignore_patterns("bench", "epoch_*"))
    return copy


@pytest.fixture
def experiment(digits_experiment: Experiment, tmp_path: Path) -> Experiment:
    """The trained and exported classifier."""
    return _copy(digits_experiment, tmp_path / "work")


@pytest.fixture
def segmenter(scenes_experiment: Experiment, tmp_path: Path) -> Experiment:
    """The trained and exported segmenter."""
    return _copy(scenes_experiment, tmp_path / "work")


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


def _miou_of_mmseg(experiment: Experiment) -> float:
    """What mmseg's own pipeline, model and metric make of the validation set, in percent."""
    from mmseg.evaluation import IoUMetric

    from deploy import reference

    manifest = m.read(experiment.bundle)
    model = reference.load(experiment.config, experiment.checkpoint, manifest.postprocess)
    metric = IoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = {"classes": manifest.classes}
    images, labels = zip(*label_maps.read_split(Path(experiment.read().data["root"]), "val"), strict=True)
    for (_, sample), path in zip(model.samples(images), labels, strict=True):
        truth = {"data": torch.from_numpy(label_maps.load(path).copy())}
        metric.process({}, [{"pred_sem_seg": {"data": sample.pred_sem_seg.data}, "gt_sem_seg": truth}])
    return metric.compute_metrics(metric.results)["mIoU"]


def test_a_segmenter_side_by_side(segmenter: Experiment, bench: Bench) -> None:
    code, found = bench(segmenter, *BOTH, "batch_sizes=[1, 9]")
    assert code == 0
    rows = {(row["backend"], row["batch"], row["boundary"]): row for row in found["rows"]}
    # No nine scenes have one size.
    assert {key[1:]: row["status"] for key, row in rows.items()} == {
        (batch, boundary): "ok" if batch == 1 or boundary == "e2e" else "unavailable"
        for batch in (1, 9)
        for boundary in ("model", "host", "e2e")
    }
    assert len(rows["onnxruntime", 9, "e2e"]["sizes"]) > 9
    first, second = found["accuracy"]
    assert first["images"] == second["images"] == 60
    assert first["values"]["miou_percent"] == pytest.approx(second["values"]["miou_percent"], abs=0.05)
    assert first["values"]["miou_percent"] == pytest.approx(_miou_of_mmseg(segmenter), abs=0.02)


def _perturb_one_weight(bundle: Path) -> None:
    """Add 1000 to one number of the graph: the last layer's bias of its first class."""
    graph = onnx.load(bundle / m.GRAPH_NAME)
    (gemm,) = (node for node in graph.graph.node if node.op_type == "Gemm")
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == gemm.input[2])
    values = numpy_helper.to_array(bias).copy()
    values[0] += 1000
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    _save(graph, bundle)


def _swap_two_classes(bundle: Path) -> None:
    """Let the graph answer 1 for 0 and 0 for 1: swap two rows of the last layer's weight and bias."""
    graph = onnx.load(bundle / m.GRAPH_NAME)
    classes = len(m.read(bundle).classes)
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if classes in values.shape:
            axis = values.shape.index(classes)
            order = [1, 0, *range(2, classes)]
            tensor.CopyFrom(numpy_helper.from_array(values.take(order, axis), tensor.name))
    _save(graph, bundle)


def _save(graph: onnx.ModelProto, bundle: Path) -> None:
    """Write a graph in place of the bundle's, with its hash."""
    onnx.save(graph, bundle / m.GRAPH_NAME)
    manifest = m.read(bundle)
    files = {**manifest.files, m.GRAPH_NAME: sha256(bundle / m.GRAPH_NAME)}
    (bundle / m.FILE_NAME).write_text(manifest.model_copy(update={"files": files}).to_json())


@pytest.mark.parametrize("spoil", [_swap_two_classes, _perturb_one_weight])
def test_a_graph_that_lost_accuracy_fails_the_gate_each_time(
    experiment: Experiment, bench: Bench, spoil: Callable[[Path], None]
) -> None:
    spoil(experiment.bundle)
    code, found = bench(experiment, *BOTH)
    assert code == 5
    assert {row["status"] for row in found["rows"]} == {"ok"}, "it is fast, and wrong"
    top1 = [entry["values"]["top1_percent"] for entry in found["accuracy"]]
    assert top1[0] - top1[1] > 10
    code, found = bench(experiment, *BOTH)
    assert (code, found["measured"]) == (5, False), "stored results do not pass either"


def test_a_segmenter_that_lost_accuracy_fails_the_gate(segmenter: Experiment, bench: Bench) -> None:
    _swap_two_classes(segmenter.bundle)
    code, found = bench(segmenter, *BOTH)
    assert code == 5
    miou = [entry["values"]["miou_percent"] for entry in found["accuracy"]]
    assert miou[0] - miou[1] > 1
