"""The graph holds standard operators only, and becomes smaller without a changed bit."""

import numpy as np
import onnx
import onnxslim
import pytest
from onnx import TensorProto, helper

from deploy import graph
from train.errors import VerificationError


def model(*nodes: onnx.NodeProto, opset: int = 17, ir: int = 8, domains: tuple[str, ...] = ()) -> onnx.ModelProto:
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor("w", TensorProto.FLOAT, [4], [1.5, 2.5, 3.5, 4.5])],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(made, opset_imports=imports, ir_version=ir)


def test_a_standard_graph_passes() -> None:
    graph.check(model(helper.make_node("Mul", ["x", "w"], ["y"])))


def test_a_custom_operator_is_refused_by_node_name() -> None:
    custom = helper.make_node("MMCVRoiAlign", ["x"], ["y"], name="roi_head/align", domain="mmcv")
    with pytest.raises(VerificationError, match=r"mmcv::MMCVRoiAlign \(roi_head/align\)"):
        graph.check(model(custom, domains=("mmcv",)))


def test_a_custom_operator_inside_a_subgraph_is_found() -> None:
    inner = helper.make_graph(
        [helper.make_node("Grid", ["x"], ["z"], name="deep", domain="mmdeploy")],
        "then",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(VerificationError, match=r"mmdeploy::Grid \(deep\)"):
        graph.check(model(branch, domains=("mmdeploy",)))


@pytest.mark.parametrize(
    ("changes", "message"), [({"opset": 16}, "opset 16, at least 17"), ({"ir": 10}, "IR version 10, at most 9")]
)
def test_versions_that_somebody_cannot_read_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        graph.check(model(helper.make_node("Mul", ["x", "w"], ["y"]), **changes))


def test_an_invalid_graph_is_refused() -> None:
    with pytest.raises(VerificationError, match="checker refuses"):
        graph.check(model(helper.make_node("Mul", ["x", "nothing"], ["y"])))


def redundant() -> onnx.ModelProto:
    return model(
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Add", ["w", "w"], ["ww"]),
        helper.make_node("Mul", ["a", "ww"], ["b"]),
        helper.make_node("Identity", ["b"], ["y"]),
    )


def test_simplifying_keeps_every_bit() -> None:
    feed = {"x": np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)}
    before = redundant()
    after, same = graph.simplify(before, [feed])
    assert same
    assert [node.op_type for node in after.graph.node] == ["Mul"]
    assert np.array_equal(graph._run(before, feed)[0], graph._run(after, feed)[0])
    assert graph.specs(before) == graph.specs(after)


def test_a_simplifier_that_changes_an_output_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = model(helper.make_node("Mul", ["x", "w"], ["y"]))
    monkeypatch.setattr(onnxslim, "slim", lambda *_, **__: wrong)
    feed = {"x": np.ones((1, 4), np.float32)}
    kept, same = graph.simplify(redundant(), [feed])
    assert not same
    assert np.array_equal(graph._run(kept, feed)[0], graph._run(redundant(), feed)[0])


def test_metadata_is_set_once() -> None:
    made = model(helper.make_node("Mul", ["x", "w"], ["y"]))
    graph.embed(made, {"a": "1", "b": "2"})
    graph.embed(made, {"a": "3"})
    assert {entry.key: entry.value for entry in made.metadata_props} == {"a": "3", "b": "2"}


def test_specs_name_symbolic_axes() -> None:
    inputs, outputs = graph.specs(model(helper.make_node("Mul", ["x", "w"], ["y"])))
    assert [(spec.name, spec.dtype, spec.shape) for spec in inputs] == [("x", "float32", ("batch", 4))]
    assert outputs[0].name == "y"
