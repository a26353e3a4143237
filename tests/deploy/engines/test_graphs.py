"""Rewritings for TensorRT: the graph computes the same before and after, and each one's control."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from small_graphs import copy, largest_elements, model, run, suppression, target
from test_regions import Extracted, pyramid, squares
from traced import one_graph

from deploy import graph
from deploy.engines import graphs
from deploy.engines.graphs import editing, regions, shapes, topk
from deploy.engines.graphs import suppression as watching
from train.errors import InputError


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Small whole numbers: many are equal."""
    return np.random.default_rng(seed).integers(-50, 50, shape).astype(np.float32)


def test_every_rewriting_is_found() -> None:
    assert [each.__name__.rsplit(".", 1)[1] for each in graphs.rewritings()] == [
        "masks",
        "regions",
        "suppression",
        "topk",
    ]


@pytest.mark.parametrize(("wanted", "rounds"), [(3841, 2), (9000, 3), (3840, 1), (7680, 2)])
def test_top_k_in_rounds_is_one_top_k(wanted: int, rounds: int) -> None:
    before = largest_elements(wanted)
    after = copy(before)
    assert topk.rewrite(after, target(2, 3, 64, 64)) == (rounds > 1)
    assert sum(node.op_type == "TopK" for node in after.graph.node) == rounds
    feeds = {"input": noise(2, 3, 64, 64)}
    for one, other in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_top_k_of_a_number_that_the_shape_decides() -> None:
    before = largest_elements(None)
    after = copy(before)
    assert topk.rewrite(after, target(2, 3, 64, 48)) == 1
    for height, width in ((64, 48), (1, 1), (40, 32), (36, 36)):
        feeds = {"input": noise(2, 3, height, width, seed=height)}
        for one, other in zip(run(before, feeds), run(after, feeds), strict=True):
            np.testing.assert_array_equal(one, other)
    assert topk.rewrite(copy(before), target(2, 3, 32, 32)) == 0, "no image has so many"


def test_control_a_round_that_takes_elements_again_is_noticed() -> None:
    before = largest_elements(9000)
    after = copy(before)
    topk.rewrite(after, target(1, 3, 64, 64))
    for node in after.graph.node:
        if node.op_type == "ConstantOfShape":
            node.attribute[0].t.CopyFrom(helper.make_tensor("value", TensorProto.FLOAT, [1], [100.0]))
    feeds = {"input": noise(1, 3, 64, 64)}
    assert not np.array_equal(run(before, feeds)[1], run(after, feeds)[1])


def test_a_top_k_that_is_not_split_is_refused() -> None:
    standard = largest_elements(9000)
    top = next(node for node in standard.graph.node if node.op_type == "TopK")
    top.attribute.append(helper.make_attribute("largest", 0))
    with pytest.raises(InputError, match=r"top: TopK of 9000 elements, TensorRT takes 3840"):
        topk.rewrite(standard, target(1, 3, 64, 64))


def boxes(count: int, *, apart: bool) -> dict[str, NDArray]:
    """Of two images, the second with one box above the threshold."""
    corners = np.arange(count, dtype=np.float32)[:, None] * (10 if apart else 0)
    one = np.concatenate([corners, corners, corners + 5, corners + 5], 1)
    scores = np.linspace(0.9, 0.2, count, dtype=np.float32)
    few = np.where(np.arange(count) < 1, np.float32(0.5), np.float32(0))
    return {"boxes": np.stack([one, one]), "scores": np.stack([scores, few])[:, None]}


@pytest.mark.parametrize(
    ("count", "asked", "far", "doubtful"),
    [
        (5000, 100, False, False),  # no more than TensorRT looks at
        (5001, 100, False, True),  # one box kept, and one not looked at
        (6000, 100, True, False),  # as many kept as are asked for
        (6000, 6001, True, True),
    ],
)
def test_suppression_that_could_be_another_is_no_number(count: int, asked: int, far: bool, doubtful: bool) -> None:
    before = suppression(asked)
    after = copy(before)
    assert watching.rewrite(after, target()) == 1
    feeds = boxes(count, apart=far)
    wanted, found = run(before, feeds), run(after, feeds)
    np.testing.assert_array_equal(found[0], wanted[0])
    assert np.isnan(found[1][0]).all() == doubtful
    np.testing.assert_array_equal(found[1][1], wanted[1][1])
    assert doubtful or np.array_equal(found[1], wanted[1])


def test_control_suppression_of_few_boxes_is_not_watched() -> None:
    fixed = suppression(100)
    for value, size in zip(fixed.graph.input, (1, 2), strict=True):
        value.type.tensor_type.shape.dim[size].dim_value = 5000
    assert watching.rewrite(onnx.shape_inference.infer_shapes(fixed), target()) == 0


def test_suppression_within_several_groups_is_refused() -> None:
    standard = suppression(100)
    standard.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 80
    with pytest.raises(InputError, match="found 80 groups"):
        watching.rewrite(standard, target())


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    names = [*"abcd", "rois"]
    inputs = dict(zip(names, (*pyramid(2, 128, 160), squares(2, (60.0, 150.0, 300.0, 600.0))), strict=True))
    axes = {**{name: {0: "n", 2: f"h{name}", 3: f"w{name}"} for name in "abcd"}, "rois": {0: "r"}}
    axes |= {name: {0: "r"} for name in Extracted.names}
    path = tmp_path_factory.mktemp("pyramid") / "pyramid.onnx"
    one_graph(Extracted(), inputs, Extracted.names, axes, path, scope="mmdet")
    return graph.simplify(onnx.load(path), [])[0]


def feeds_of(edges: tuple[float, ...], seed: int = 0) -> dict[str, NDArray]:
    rois = squares(2, edges, seed)
    # A row without a box, and boxes without width or without height.
    rois[0, 1:] = 0
    rois[1, 3] = rois[1, 1]
    rois[2, 4] = rois[2, 2]
    return {name: values.numpy() for name, values in zip([*"abcd", "rois"], (*pyramid(2, 128, 160), rois), strict=True)}


@pytest.mark.parametrize("edges", [(60.0, 150.0, 300.0, 600.0) * 4, (60.0,) * 9, (600.0,) * 5])
def test_regions_of_all_levels_are_those_of_their_own(extracted: ModelProto, edges: tuple[float, ...]) -> None:
    after = copy(extracted)
    assert regions.rewrite(after, target()) == 9
    editing.prune(after)
    assert not any(node.op_type == "NonZero" for node in after.graph.node), "their number depends on no region"
    feeds = feeds_of(edges)
    for one, other in zip(run(extracted, feeds), run(after, feeds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_control_a_region_of_another_level_is_noticed(extracted: ModelProto) -> None:
    after = copy(extracted)
    regions.rewrite(after, target())
    editing.prune(after)
    equals = [node for node in after.graph.node if node.op_type == "Equal"]
    equals[0].input[1], equals[1].input[1] = equals[1].input[1], equals[0].input[1]
    feeds = feeds_of((60.0, 150.0, 300.0, 600.0) * 4)
    assert not np.array_equal(run(extracted, feeds)[0], run(after, feeds)[0])


def test_no_region_reaches_the_plugin_without_width_or_height(extracted: ModelProto) -> None:
    after = copy(extracted)
    regions.rewrite(after, target())
    aligned = [node.input[1] for node in after.graph.node if node.op_type == "RoiAlign"]
    after.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["r", 4]) for name in aligned)
    for given in run(after, feeds_of((60.0, 600.0) * 4))[3:]:
        assert (given[:, 2:] > given[:, :2]).all()


def test_a_graph_for_one_shape_has_no_arithmetic_on_sizes() -> None:
    standard = largest_elements(None)
    fixed = shapes.fix(standard, (1, 3, 8, 8))
    assert [node.op_type for node in fixed.graph.node] == ["Flatten", "TopK"] or [
        node.op_type for node in fixed.graph.node
    ] == ["Reshape", "TopK"]
    feeds = {"input": noise(1, 3, 8, 8)}
    for one, other in zip(run(standard, feeds), run(fixed, feeds), strict=True):
        np.testing.assert_array_equal(one, other)
    assert shapes.look(standard, (1, 3, 8, 8)).number("top", 1) == 192
    assert shapes.look(standard, None).number("top", 1) is None
    with pytest.raises(InputError, match=r"the graph takes input \('n', 3, 'h', 'w'\), not \(1, 4, 8, 8\)"):
        shapes.fix(standard, (1, 4, 8, 8))


def test_what_nothing_reads_is_removed() -> None:
    nodes = [helper.make_node(*each) for each in (("Neg", ["x"], ["y"]), ("Add", ["x", "unused"], ["z"]))]
    standard = model(nodes, {"x": [1]}, {"y": (TensorProto.FLOAT, [1])}, {"unused": np.zeros(1, np.float32)})
    editing.prune(standard)
    assert [node.op_type for node in standard.graph.node] == ["Neg"]
    assert not standard.graph.initializer
