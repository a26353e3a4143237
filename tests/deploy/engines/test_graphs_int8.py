"""The int8 graph for TensorRT: symmetric, 8 bits, at the CPU graph's places, and fp16 graphs without mixed types."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from small_graphs import CAPABILITIES, copy, model, run

import slipway_runtime
from deploy import graph
from deploy.engines import graphs
from deploy.engines.graphs import symmetric
from deploy.precision import fp16, int8
from deploy.precision.calibration import add, layers, ranges
from slipway_runtime import manifest
from slipway_runtime.errors import BundleError
from slipway_runtime.plan import Profile
from train.errors import InputError
from train.experiment import Experiment


def images(count: int = 2, seed: int = 0) -> dict[str, NDArray]:
    return {"input": np.random.default_rng(seed).normal(size=(count, 3, 16, 16)).astype(np.float32)}


def network() -> ModelProto:
    """Convolutions with a ReLU, a leaky one and a sum; one is depthwise, one has a channel of zeros, and one stays float32."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)) * np.logspace(-2, 0, 8)[:, None, None, None],
        "w2": rng.normal(size=(8, 1, 3, 3)),
        "w3": rng.normal(size=(8, 8, 1, 1)),
        "w4": rng.normal(size=(4, 8, 1, 1)),
    }
    weights["w1"][3] = 0
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2", "b2"], ["c"], name="depthwise", group=8, pads=[1] * 4),
        helper.make_node("LeakyRelu", ["c"], ["d"], name="leaky"),
        helper.make_node("Conv", ["d", "w3", "b3"], ["e"], name="middle"),
        helper.make_node("Add", ["e", "b"], ["f"], name="sum"),
        helper.make_node("Conv", ["f", "w4", "b4"], ["output"], name="last"),
    ]
    constants = {**weights, **{f"b{name[1]}": rng.normal(size=len(each)) for name, each in weights.items()}}
    floats = {name: values.astype(np.float32) for name, values in constants.items()}
    sides = ["n", 4, "h", "w"]
    return model(nodes, {"input": ["n", 3, "h", "w"]}, {"output": (TensorProto.FLOAT, sides)}, floats)


def quantised(whole: ModelProto, floats: tuple[str, ...] = ("middle",)) -> ModelProto:
    """As the bundle's int8 graph is made, for CPUs."""
    part = layers.find(whole, int8.WEIGHTED, int8.BETWEEN)
    found = ranges.measure(whole, part.tensors, [images()])
    left = {name for layer in part.layers if layer.name in floats for name in layer.nodes}
    return int8.quantise(whole, part.nodes - left, {name: ranges.span(each, each.peak) for name, each in found.items()})


def noise_of(found: NDArray, wanted: NDArray) -> float:
    """As a part of the signal."""
    return float(np.square(found - wanted).sum() / np.square(wanted).sum())


def test_it_is_symmetric_and_of_eight_bits() -> None:
    whole = network()
    made = symmetric.quantise(whole, quantised(whole))
    graph.check(made)
    tensors = editing_constants(made)
    kinds = {node.op_type for node in made.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Relu"} <= kinds
    assert "Clip" not in kinds, "what keeps a layer float32 is ONNX Runtime's matter"
    constants: list[str] = []
    for node in made.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, point = tensors[node.input[1]], tensors[node.input[2]]
        assert point.dtype == np.int8
        assert point.shape == scale.shape
        assert not point.any()
        assert (scale > 0).all()
        if node.op_type == "QuantizeLinear":
            constants += node.input[1:]
            weights = tensors.get(node.input[0])
            if weights is not None:
                assert node.attribute[0].i == 0
                greatest = np.abs(weights).max((1, 2, 3))
                np.testing.assert_allclose(scale[greatest > 0] * 127, greatest[greatest > 0], rtol=1e-6)
    assert len(constants) == len(set(constants)), "TensorRT 8.6 knows constants by name"


def editing_constants(made: ModelProto) -> dict[str, NDArray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}


def test_it_quantises_what_the_cpus_graph_does() -> None:
    whole = network()
    cpu = quantised(whole)
    made = symmetric.quantise(whole, cpu)
    for each in (cpu, made):
        weights = {tensor.name.removesuffix("_quantized") for tensor in each.graph.initializer}
        assert {"w1", "w2", "w3", "w4"} <= weights
    activations = {node.input[0] for node in cpu.graph.node if node.op_type == "QuantizeLinear"}
    found = {node.input[0] for node in made.graph.node if node.op_type == "QuantizeLinear"}
    assert found == activations - {"output_QuantizeLinear_Input"} | {"w1", "w2", "w4"}, "outputs are not rounded"
    assert "a" not in found, "nothing comes between a convolution and its ReLU"
    middle = next(node for node in made.graph.node if node.name == "middle")
    assert middle.input[1] == "w3", "left in float32"


def test_it_computes_what_the_float_graph_does_nearly() -> None:
    whole = network()
    feeds = images()
    wanted, found = (run(each, feeds)[0] for each in (whole, symmetric.quantise(whole, quantised(whole))))
    assert 0 < noise_of(found, wanted) < 5e-3


def test_control_scales_of_another_size_are_noticed() -> None:
    whole = network()
    made = symmetric.quantise(whole, quantised(whole))
    scale = next(tensor for tensor in made.graph.initializer if tensor.name == "b/scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) / 8, scale.name))
    assert noise_of(run(made, images())[0], run(whole, images())[0]) > 5e-2


def test_control_the_cpus_graph_has_zero_points_that_tensorrt_refuses() -> None:
    cpu = quantised(network())
    points = [numpy_helper.to_array(tensor) for tensor in cpu.graph.initializer if tensor.name.endswith("_zero_point")]
    assert any(point.any() for point in points)


def test_a_graph_of_another_export_is_refused() -> None:
    whole = network()
    other = copy(whole)
    for node in other.graph.node:
        node.name = f"other_{node.name}"
    with pytest.raises(InputError, match=r"the int8 graph holds depthwise.*different exports"):
        symmetric.quantise(other, quantised(whole))


@pytest.fixture
def whole(digits_experiment: Experiment, tmp_path: Path) -> Experiment:
    root = Experiment(digits_experiment.name, tmp_path)
    shutil.copytree(digits_experiment.root, root.root)
    return root


@pytest.mark.slow
def test_every_precision_of_a_bundle(whole: Experiment) -> None:
    add.add(whole, ["fp16", "int8"], count=16, gate=50)
    described = manifest.read(whole.bundle)
    feeds = {"input": np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)}
    fixed = [Profile(minimum=(2, 3, 32, 32), optimum=(2, 3, 32, 32), maximum=(2, 3, 32, 32))]
    (wanted,) = run(onnx.load(whole.bundle / "model.onnx"), feeds)
    for precision, near in (("fp32", 0.0), ("fp16", 0.01), ("int8", 0.2)):
        for profiles in ([], fixed):
            made = graphs.prepare(whole.bundle, described, precision, CAPABILITIES, profiles)
            assert np.abs(run(made, feeds)[0] - wanted).max() <= near, precision
            if precision == "fp16":
                assert mixed(made) == []
    (whole.bundle / "model.int8.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match="altered"):
        graphs.prepare(whole.bundle, described, "int8", CAPABILITIES)


def mixed(made: ModelProto) -> list[str]:
    """Nodes that read float16 and float32 at once: a strongly typed network refuses them."""
    known = onnx.shape_inference.infer_shapes(made, strict_mode=True).graph
    types = {info.name: info.type.tensor_type.elem_type for info in (*known.input, *known.value_info, *known.output)}
    types |= {tensor.name: tensor.data_type for tensor in known.initializer}
    both = {TensorProto.FLOAT, TensorProto.FLOAT16}
    return [node.name for node in known.node if both <= {types.get(name) for name in node.input}]


def test_no_node_of_a_float16_graph_reads_two_types() -> None:
    whole = network()
    part = layers.find(whole, fp16.WEIGHTED, {node.op_type for node in whole.graph.node})
    kept = {"leaky", "middle"}
    made = fp16.convert(whole, part.nodes - kept)
    graph.check(made)
    assert mixed(made) == []
    wanted, found = (run(each, images())[0] for each in (whole, made))
    assert 0 < noise_of(found, wanted) < 1e-5


def test_control_a_node_without_its_cast_is_noticed() -> None:
    whole = network()
    part = layers.find(whole, fp16.WEIGHTED, {node.op_type for node in whole.graph.node})
    made = fp16.convert(whole, part.nodes - {"leaky", "middle"})
    casts = {node.output[0]: node.input[0] for node in made.graph.node if node.op_type == "Cast"}
    add_ = next(node for node in made.graph.node if node.op_type == "Add")
    add_.input[0] = casts[add_.input[0]]
    with pytest.raises(Exception, match="Add"):
        onnx.checker.check_model(made, full_check=True)


@pytest.mark.slow
def test_masks_of_a_bundle(masks_experiment: Experiment) -> None:
    """All rewritings at once, on images with detections, for any shape up to a largest one and for one shape."""
    bundle = masks_experiment.bundle
    before, described = onnx.load(bundle / "model.onnx"), manifest.read(bundle)
    loaded = slipway_runtime.load(bundle)
    folder = Path(masks_experiment.read().data["root"]) / "val"
    feeds = [loaded.feeds(loaded.inputs(loaded.preprocess(path))) for path in sorted(folder.iterdir())[:3]]
    sizes = [feed["input"].shape for feed in feeds]
    largest = tuple(map(max, *sizes))
    any_size = Profile(minimum=(1, 3, 32, 32), optimum=largest, maximum=largest)
    made = graphs.prepare(bundle, described, "fp32", CAPABILITIES, [any_size])
    assert not any(node.op_type == "NonZero" for node in made.graph.node)
    one = Profile(minimum=sizes[0], optimum=sizes[0], maximum=sizes[0])
    fixed = graphs.prepare(bundle, described, "fp32", CAPABILITIES, [one])
    assert len(fixed.graph.node) < len(made.graph.node)
    found = 0
    for after, several in ((made, feeds), (fixed, feeds[:1])):
        for feed in several:
            wanted = run(before, feed)
            found += int((wanted[1] >= 0).sum())
            for each, other in zip(wanted, run(after, feed), strict=True):
                np.testing.assert_array_equal(each, other)
    assert found
