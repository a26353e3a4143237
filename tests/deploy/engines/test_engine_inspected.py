"""The precision that was built against the one asked for; texts are worded as TensorRT's engine inspector words them."""

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.engines.building import inspected
from slipway_runtime.plan import Options, Profile
from train.errors import VerificationError

LONG = {
    "fp32": "Row major linear FP32",
    "fp16": "Channel major FP16 format where channel % 8 == 0",
    "int8": "Thirty-two wide channel vectorized row major Int8 format.",
    "bf16": "Row major linear BFloat16 format",
    "int32": "Row major linear INT32",
}
SHORT = {"fp32": "Float", "fp16": "Half", "int8": "Int8", "bf16": "BFloat16", "int32": "Int32"}


def layer(kind: str, name: str = "x", words: dict[str, str] = LONG, **more: Any) -> dict[str, Any]:
    tensor = {"Name": "t", "Dimensions": [1, 8], "Format/Datatype": words[kind]}
    return {"Name": name, "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor], **more}


def text(*layers: Any) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": ["input"]})


def options(precision: str, **more: Any) -> Options:
    shape = (1, 3, 8, 8)
    return Options(precision=precision, profiles=(Profile(minimum=shape, optimum=shape, maximum=shape),), **more)  # type: ignore[arg-type]


def check(precision: str, wanted: dict[str, str], *layers: Any, **more: Any) -> dict[str, int]:
    return inspected.check(inspected.layers(text(*layers)), wanted, options(precision, **more))


@pytest.mark.parametrize("words", [LONG, SHORT])
@pytest.mark.parametrize("kind", ["fp32", "fp16", "int8", "bf16"])
def test_data_types_in_both_wordings(kind: str, words: dict[str, str]) -> None:
    assert [each.precision for each in inspected.layers(text(layer(kind, words=words)))] == [kind]


def test_what_computes_nothing_does_not_count() -> None:
    idle = [
        layer("fp16", LayerType="Reformat"),
        layer("fp16", LayerType="NoOp"),
        layer("fp16", LayerType="kgen", ParameterType="Reformat"),
        layer("fp16", LayerType="Constant"),
        layer("fp16", LayerType="shape_call"),
        layer("int32"),
        {"Name": "nothing", "LayerType": "signal"},
        {"Name": "empty", "LayerType": "kgen", "Inputs": [], "Outputs": []},
    ]
    assert len(inspected.layers(text(*idle, layer("fp32")))) == 1


def test_the_first_float_input_decides() -> None:
    mixed = layer("int32")
    mixed["Inputs"].append({"Format/Datatype": "Half"})
    mixed["Outputs"] = [{"Format/Datatype": "Float"}]
    assert [each.precision for each in inspected.layers(text(mixed))] == ["fp16"]


def test_nodes_are_found_in_names_and_metadata() -> None:
    names = inspected.layers(
        text(layer("fp32", "/a/Conv + /a/Relu", Metadata="[ONNX Layer: /a/Conv]\x1e[ONNX Layer: /b/Add]"))
    )
    assert {"/a/Conv", "/a/Relu", "/b/Add"} <= names[0].nodes
    # As the inspector writes it: control characters as they are.
    assert inspected.layers(
        '{"Layers": [{"Name": "a\x1eb", "LayerType": "x", "Inputs": [{"Format/Datatype": "Half"}]}]}'
    )


@pytest.mark.parametrize(
    "said", ["", "no JSON", "[]", '{"Layers": []}', '{"Layers": ["conv1", "conv2"]}', '{"Bindings": []}']
)
def test_an_inspector_that_tells_nothing_is_a_failure(said: str) -> None:
    with pytest.raises(VerificationError, match="tells nothing"):
        inspected.layers(said)


def test_fp32_holds_nothing_else() -> None:
    assert check("fp32", {}, layer("fp32"), layer("fp32")) == {"fp32": 2}
    for kind in ("fp16", "int8", "bf16"):
        with pytest.raises(VerificationError, match=f"computes in {kind}: .*{kind} 1 of 3 layers \\(33%\\)"):
            check("fp32", {}, layer("fp32"), layer("fp32"), layer(kind))


def test_tf32_is_told_by_the_kernel_and_allowed_only_when_asked_for() -> None:
    kernel = layer("fp32", TacticName="sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc")
    assert check("fp32", {}, kernel, layer("fp32"), tf32=True) == {"fp32": 1, "tf32": 1}
    with pytest.raises(VerificationError, match="computes in tf32"):
        check("fp32", {}, kernel, layer("fp32"))


def test_control_a_builder_that_silently_stays_in_fp32_fails() -> None:
    wanted = {"a": "fp16", "b": "fp16"}
    with pytest.raises(
        VerificationError, match=r"in 100% of the convolutions .* has it in 0%: fp32 2 of 2 layers \(100%\)"
    ):
        check("fp16", wanted, layer("fp32", "a"), layer("fp32", "b"))
    assert check("fp16", wanted, layer("fp16", "a"), layer("fp16", "b + c"), layer("fp32", "resize")) == {
        "fp16": 2,
        "fp32": 1,
    }


def test_only_so_much_less_than_asked_for() -> None:
    wanted = {str(index): "int8" for index in range(20)}
    eighteen = [layer("int8" if index < 18 else "fp32", str(index)) for index in range(20)]
    assert check("int8", wanted, *eighteen) == {"fp32": 2, "int8": 18}
    with pytest.raises(VerificationError, match="has it in 85%"):
        check("int8", wanted, *eighteen[1:18], layer("fp32", "0"), *eighteen[18:])
    # What the graph itself leaves in float32 is not missed.
    assert check("int8", {**wanted, "18": "fp32", "19": "fp32"}, *eighteen)


def test_layers_without_names_of_nodes_count_as_they_are() -> None:
    wanted = {"a": "fp16"}
    assert check("fp16", wanted, layer("fp16", "__myl_Fused_1"), layer("fp16", "__myl_Fused_2"))
    with pytest.raises(VerificationError, match="has it in 50%"):
        check("fp16", wanted, layer("fp16", "__myl_Fused_1"), layer("fp32", "__myl_Fused_2"))


def graph() -> onnx.ModelProto:
    """A convolution in 8 bits, one in float16 and one in float32; and a matrix product of sizes."""
    weight = np.ones((4, 4, 1, 1), np.float32)
    tensors = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(weight.astype(np.float16), "w16")]
    tensors += [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    tensors += [
        numpy_helper.from_array(weight.astype(np.int8), "w8"),
        numpy_helper.from_array(np.ones((4, 4), np.int64), "m"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "Q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], "DQ"),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["dw"], "DW"),
        helper.make_node("Conv", ["dq", "dw"], ["a"], "low"),
        helper.make_node("Cast", ["a"], ["a16"], "cast", to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["a16", "w16"], ["b16"], "half"),
        helper.make_node("Cast", ["b16"], ["b"], "back", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["b", "w"], ["y"], "full"),
        helper.make_node("MatMul", ["m", "m"], ["n"], "sizes"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4, 2, 2)) for name in ("x", "y")]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_what_a_graph_asks_for() -> None:
    assert inspected.asked(graph()) == {"low": "int8", "half": "fp16", "full": "fp32"}
