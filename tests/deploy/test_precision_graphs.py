"""What fp16 and int8 do to a graph: seeded faults that must be found, and controls without them."""

import collections
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from unbalanced import READERS, WRITERS, unbalance

import slipway_runtime
from deploy import graph
from deploy.precision import fp16, int8
from deploy.precision.calibration import add, layers, ranges, search
from deploy.precision.calibration.layers import Layer
from slipway_runtime import manifest
from train.errors import VerificationError
from train.experiment import Experiment

COUNT = 16


@pytest.fixture
def whole(digits_experiment: Experiment, tmp_path: Path) -> Experiment:
    copy = Experiment(digits_experiment.name, tmp_path)
    shutil.copytree(digits_experiment.root, copy.root)
    return copy


def read(path: Path) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)


def run(model: onnx.ModelProto, feeds: dict[str, NDArray], level: str = "ORT_ENABLE_ALL") -> list[NDArray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    outputs: list[NDArray] = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
    return outputs


Spans = dict[str, tuple[float, float]]


def everything(model: onnx.ModelProto, between: Sequence[str] = int8.BETWEEN) -> tuple[layers.Part, Spans]:
    """The part that may change, and a wide range for each of its tensors."""
    part = layers.find(model, int8.WEIGHTED, between)
    feed = {"input": np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)}
    found = ranges.measure(model, part.tensors, [feed])
    return part, {name: ranges.span(each, each.peak) for name, each in found.items()}


def test_one_large_channel_stays_float(whole: Experiment) -> None:
    """No scale holds a channel ten thousand times the others: those would become 0."""
    unbalance(whole.bundle, 1e4)
    report = add.add(whole, ["int8"], count=COUNT, gate=95)["int8"]
    assert report["share_percent"] >= 95
    cost = {layer["name"]: layer["sqnr_db"] for layer in report["layers"]}
    worst = min(cost, key=lambda name: cost[name])
    assert worst in {*WRITERS, *READERS} & set(report["float_layers"])
    kept = {layer["name"] for layer in report["layers"] if layer["precision"] == "float32"}
    assert kept == set(report["float_layers"])


def test_control_the_same_model_without_it_keeps_no_layer_float(whole: Experiment) -> None:
    assert add.add(whole, ["int8"], count=COUNT, gate=95)["int8"]["float_layers"] == []


def test_a_gate_that_cannot_be_held_writes_nothing(whole: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    unbalance(whole.bundle, 1e4)
    before = {path.name: path.read_bytes() for path in whole.bundle.iterdir()}
    monkeypatch.setattr(search, "LIMIT", 0.0)
    with pytest.raises(VerificationError, match=r"% of float32's score with 0 of 21 layers in float32, at least 99 %"):
        add.add(whole, ["int8"], count=COUNT)
    assert {path.name: path.read_bytes() for path in whole.bundle.iterdir()} == before


def test_values_beyond_float16_stay_float32(whole: Experiment) -> None:
    unbalance(whole.bundle, 1e7)
    report = add.add(whole, ["fp16"], count=COUNT)["fp16"]
    assert set(WRITERS) <= set(report["float_nodes"])
    assert "reaches" in report["float_nodes"][WRITERS[0]]
    assert len(report["float_nodes"]) < 15
    assert report["share_percent"] >= fp16.GATE
    model = read(whole.bundle / "model.onnx")
    feeds = {"input": np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)}
    expected, found = run(model, feeds)[0], run(onnx.load(whole.bundle / "model.fp16.onnx"), feeds)[0]
    np.testing.assert_allclose(found, expected, atol=0.01)
    # Control: without the list, float16 overflows.
    part = layers.find(model, fp16.WEIGHTED, {node.op_type for node in model.graph.node})
    spoiled = run(fp16.rounded(model, part.nodes), feeds)[0]
    assert not np.isfinite(spoiled).all()


def test_rounding_is_what_float16_computes(digits_experiment: Experiment) -> None:
    model = read(digits_experiment.bundle / "model.onnx")
    feeds = {"input": np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)}
    part = layers.find(model, fp16.WEIGHTED, {node.op_type for node in model.graph.node})
    exact, found = (run(each, feeds)[0] for each in (model, fp16.rounded(model, part.nodes)))
    assert 0 < np.abs(found - exact).max() < 0.01
    np.testing.assert_array_equal(run(fp16.rounded(model, ()), feeds)[0], exact)


def test_weights_that_float16_has_no_number_for_are_counted() -> None:
    values = np.array([0, 1, 1e-5, -1e-5, 1e-9], np.float32).reshape(1, 5)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
            [numpy_helper.from_array(values, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    assert fp16.weights(model, {"m"}) == {"count": 5, "subnormal": 3, "raised_to_the_least": 1}
    (found,) = run(fp16.convert(model, {"m"}), {"x": np.ones((1, 1), np.float32)})
    assert (np.sign(found) == np.sign(values)).all(), "none became 0"
    assert found.dtype == np.float32


def test_float16_is_nowhere_outside_its_nodes(digits_experiment: Experiment) -> None:
    """A float32 node between two others reads no value that was float16 on its way, as the converter alone would have it."""
    model = read(digits_experiment.bundle / "model.onnx")
    some = {node.name for node in model.graph.node[:6]}
    made = fp16.convert(model, some)
    graph.check(made)
    types = {
        info.name: info.type.tensor_type.elem_type
        for info in onnx.shape_inference.infer_shapes(made, strict_mode=True).graph.value_info
    }
    for node in made.graph.node:
        if node.name not in some and node.op_type != "Cast":
            assert {types.get(name) for name in node.output} <= {TensorProto.FLOAT, None}, node.name
    assert TensorProto.FLOAT16 in types.values()
    casts = [node for node in made.graph.node if node.op_type == "Cast"]
    assert 2 <= len(casts) <= 3


def test_weights_have_seven_bits_and_activations_a_zero_point(digits_experiment: Experiment) -> None:
    model = read(digits_experiment.bundle / "model.onnx")
    part, spans = everything(model)
    made = int8.quantise(model, part.nodes, spans)
    graph.check(made)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    points = set()
    for node in made.graph.node:
        if node.op_type == "DequantizeLinear" and (point := tensors[node.input[2]]).dtype == np.int8:
            assert not point.any()
            assert np.abs(tensors[node.input[0]].astype(int)).max() <= 64
        elif node.op_type == "QuantizeLinear":
            assert tensors[node.input[2]].dtype == np.uint8
            points.add(int(tensors[node.input[2]]))
    assert 0 in points, "of what is never negative"
    assert len(points) > 1


def _small_depthwise() -> onnx.ModelProto:
    """Two convolutions of one channel each and one of all, whose channels differ in size a thousand times."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)),
        "w2": rng.normal(size=(8, 1, 3, 3)) * np.logspace(-3, 0, 8)[:, None, None, None],
        "w3": rng.normal(size=(4, 8, 1, 1)) * np.logspace(3, 0, 8)[None, :, None, None],
    }
    nodes = [
        onnx.helper.make_node("Conv", ["input", "w1", "b1"], ["a"], name="first", pads=[1] * 4),
        onnx.helper.make_node("Relu", ["a"], ["b"], name="relu"),
        onnx.helper.make_node("Conv", ["b", "w2", "b2"], ["c"], name="depthwise", group=8, pads=[1] * 4),
        onnx.helper.make_node("Conv", ["c", "w3", "b3"], ["output"], name="last"),
    ]
    known = {**weights, **{f"b{name[1]}": np.zeros(len(values)) for name, values in weights.items()}}
    float32 = onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        nodes,
        "small",
        [onnx.helper.make_tensor_value_info("input", float32, ["batch", 3, "height", "width"])],
        [onnx.helper.make_tensor_value_info("output", float32, ["batch", 4, "height", "width"])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in known.items()],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def test_depthwise_convolutions_have_eight_bits() -> None:
    model = _small_depthwise()
    part, spans = everything(model)
    made = int8.quantise(model, part.nodes, spans)
    tensors = {tensor.name: numpy_helper.to_array(tensor).astype(int) for tensor in made.graph.initializer}
    assert np.abs(tensors["w2_quantized"]).max() == 127
    assert np.abs(tensors["w1_quantized"]).max() <= 64


def test_a_layer_left_in_float32_is_computed_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _small_depthwise()
    part, spans = everything(model)
    feeds = {"input": np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)}

    def error() -> float:
        made = int8.quantise(model, part.nodes - {"depthwise"}, spans)
        plain, optimised = (run(made, feeds, level)[0] for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"))
        return float(np.abs(plain - optimised).max() / np.abs(plain).max())

    assert error() < 0.05
    # The control: ONNX Runtime gives float weights between 8-bit tensors one scale for all channels.
    monkeypatch.setattr(int8, "keep_float", lambda _: None)
    assert error() > 0.05


def test_onnx_runtime_computes_with_integers(digits_experiment: Experiment, tmp_path: Path) -> None:
    model = read(digits_experiment.bundle / "model.onnx")
    part, spans = everything(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(int8.quantise(model, part.nodes, spans).SerializeToString(), options)
    ops = collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert ops["QLinearConv"] == sum(node.op_type == "Conv" for node in model.graph.node)
    assert not ops["Conv"] + ops["Add"] + ops["Gemm"] + ops["GlobalAveragePool"]


def test_what_comes_after_the_heads_stays_float32(detector_experiment: Experiment) -> None:
    model = read(detector_experiment.bundle / "model.onnx")
    between = {node.op_type for node in model.graph.node} - set(fp16._PLACES)
    for part in (layers.find(model, int8.WEIGHTED, int8.BETWEEN), layers.find(model, fp16.WEIGHTED, between)):
        ops = collections.Counter(node.op_type for node in model.graph.node if node.name in part.nodes)
        assert len(part.layers) == ops["Conv"] == sum(node.op_type == "Conv" for node in model.graph.node)
        assert not {"NonMaxSuppression", "TopK", "Gather", "Shape", "Range", "Where", "GatherElements"} & set(ops)
        # Every node belongs to one layer.
        assert sum(len(layer.nodes) for layer in part.layers) == len(part.nodes)


@pytest.mark.parametrize("needed", range(1, 16))
def test_the_fewest_layers_are_found(needed: int) -> None:
    order = [Layer(str(index), "Conv", ()) for index in range(20)]
    found = search.fewest(order, lambda some: len(some) >= needed)
    assert found is not None
    assert len(found) == needed
    assert search.fewest(order, lambda some: len(some) >= 16) is None
    assert search.fewest(order[:1], lambda some: True) is None


def test_ranges() -> None:
    rng = np.random.default_rng(0)
    histogram = ranges.Histogram()
    parts = [rng.normal(size=5000).astype(np.float32) * scale for scale in (0.1, 1, 1, 1)]
    for part in parts:
        histogram.add(part)
    histogram.add(np.array([0, np.nan, np.inf, -30, 1e-42], np.float32))
    values = np.abs(np.concatenate([*parts, [30]]))
    assert ranges.largest(histogram) == 30
    assert histogram.counts.sum() == values.size
    assert ranges.percentile(histogram) == pytest.approx(
        np.quantile(values, 0.9999), abs=2 * histogram.top / ranges.BINS
    )

    def error(span: float) -> float:
        step = 2 * span / 255
        return float(((np.clip(np.round(values / step) * step, 0, span) - values) ** 2).sum())

    best = ranges.least_error(histogram)
    assert error(best) <= 1.1 * min(error(span) for span in np.linspace(1, 30, 200))
    assert (histogram.low, histogram.high) == (-30, max(float(part.max()) for part in parts))
    assert ranges.span(histogram, 2.0) == (-2, 2)
    positive = ranges.Histogram()
    positive.add(np.array([1, 5], np.float32))
    assert ranges.span(positive, 4.0) == (0, 4)
    empty = ranges.Histogram()
    empty.add(np.zeros(3, np.float32))
    assert [way(empty) for way in ranges.METHODS.values()] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scenes_experiment", "detector_experiment"])
def test_other_tasks(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    experiment: Experiment = request.getfixturevalue(name)
    copy = Experiment(experiment.name, tmp_path)
    shutil.copytree(experiment.root, copy.root)
    described = manifest.read(copy.bundle)
    if described.task == "detection":
        # Trained for seconds, the detector is sure of nothing: what it is least sure of counts as true.
        output = described.postprocess.model_copy(update={"score_threshold": 0.0})
        changed = described.model_copy(update={"postprocess": output})
        (copy.bundle / manifest.FILE_NAME).write_text(changed.to_json())
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((Path(experiment.read().data["root"]) / "train").iterdir())[:12]:
        shutil.copy(path, folder)
    reports = add.add(copy, ["fp16", "int8"], folder=folder, count=6, gate=50)
    for precision in reports:
        (result,) = slipway_runtime.load(copy.bundle, precision=precision)(next(folder.iterdir()))
        assert result.to_dict()["task"] == described.task
    manifest.check_files(copy.bundle, manifest.read(copy.bundle))
