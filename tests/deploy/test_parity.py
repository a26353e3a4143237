"""Parity passes for the bundle as exported, and each kind of difference makes it fail."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import slipway_runtime
from deploy import bundle, parity
from deploy.outputs import Agreement, Output
from deploy.reference import Reference
from slipway_runtime.errors import SlipwayRuntimeError
from train.errors import InputError, VerificationError
from train.experiment import Experiment


def test_the_exported_bundle_passes(digits_experiment: Experiment, unpatched: Reference, images: list[Path]) -> None:
    result = parity.compare(slipway_runtime.load(digits_experiment.bundle), unpatched, images)
    result.require()
    assert result.passed
    assert result.preprocess_identical == result.images == 32
    assert len(result.sizes) >= 3
    assert result.outputs["output"].argmax.share == 1.0
    assert result.predictions == Agreement(32, 32)
    stored = json.loads((digits_experiment.bundle / "parity.json").read_text())
    assert stored["passed"]
    assert stored["outputs"]["output"]["max_abs"] == result.outputs["output"].max_abs


def damaged(source: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A copy of a bundle whose graph was changed, with its hash made good."""
    shutil.copytree(source, target)
    model = onnx.load(target / bundle.GRAPH)
    change(model)
    onnx.save(model, target / bundle.GRAPH)
    described = slipway_runtime.manifest.read(source)
    for name in ("manifest.json", "parity.json"):
        (target / name).unlink()
    bundle.seal(target, described)
    return target


def perturb(model: onnx.ModelProto) -> None:
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += 0.05
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))


def poison(model: onnx.ModelProto) -> None:
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))


@pytest.mark.parametrize(("change", "message"), [(perturb, "× the tolerance"), (poison, "not finite")])
def test_a_changed_weight_fails(
    digits_experiment: Experiment,
    unpatched: Reference,
    images: list[Path],
    tmp_path: Path,
    change: Callable[[onnx.ModelProto], None],
    message: str,
) -> None:
    wrong = damaged(digits_experiment.bundle, tmp_path / "wrong", change)
    result = parity.compare(slipway_runtime.load(wrong), unpatched, images)
    assert not result.passed
    with pytest.raises(VerificationError, match=message):
        result.require()


def test_the_same_damage_done_to_nothing_passes(
    digits_experiment: Experiment, unpatched: Reference, images: list[Path], tmp_path: Path
) -> None:
    right = damaged(digits_experiment.bundle, tmp_path / "right", lambda model: None)
    parity.compare(slipway_runtime.load(right), unpatched, images).require()


def test_images_prepared_otherwise_fail(
    digits_experiment: Experiment, unpatched: Reference, images: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(digits_experiment.bundle, tmp_path / "wrong")
    manifest = tmp_path / "wrong" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"size": 36', '"size": 37'))
    result = parity.compare(slipway_runtime.load(tmp_path / "wrong"), unpatched, images)
    with pytest.raises(VerificationError, match="32 images are prepared otherwise than by the test pipeline"):
        result.require()


def test_a_renamed_output_fails(
    digits_experiment: Experiment, unpatched: Reference, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = slipway_runtime.load(digits_experiment.bundle)
    original = model.session.run
    monkeypatch.setattr(model.session, "run", lambda feeds: {"scores": original(feeds)["output"]})
    result = parity.compare(model, unpatched, images)
    assert not result.passed
    with pytest.raises(VerificationError, match=r"outputs \['scores'\], PyTorch gives \['output'\]"):
        result.require()


def test_a_graph_and_a_manifest_that_differ_are_refused(digits_experiment: Experiment, tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["scores" if name == "output" else name for name in node.output]
        model.graph.output[0].name = "scores"

    wrong = damaged(digits_experiment.bundle, tmp_path / "wrong", rename)
    with pytest.raises(SlipwayRuntimeError, match="scores"):
        slipway_runtime.load(wrong)


def test_too_few_images_are_no_proof(digits_experiment: Experiment, unpatched: Reference, images: list[Path]) -> None:
    model = slipway_runtime.load(digits_experiment.bundle)
    for few in ([], images[:31]):
        with pytest.raises(InputError, match="at least 32"):
            parity.compare(model, unpatched, few)


def test_nothing_compared_is_a_failure() -> None:
    assert not Output().passed
    assert not parity.Parity().passed
    with pytest.raises(VerificationError):
        parity.Parity().require()


def test_a_dynamic_graph_compared_at_one_size_fails(
    digits_experiment: Experiment, unpatched: Reference, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "_other_sizes", lambda *_: [])
    result = parity.compare(slipway_runtime.load(digits_experiment.bundle), unpatched, images)
    with pytest.raises(VerificationError, match="compared at 1 sizes, at least 3"):
        result.require()


def test_other_predictions_fail(
    digits_experiment: Experiment, unpatched: Reference, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right numbers out of the graph, and a wrong label made of them."""
    agreement = unpatched.task.agreement
    seen = []

    def turned(result: object, sample: object) -> tuple[int, int]:
        seen.append(result)
        return (0, 1) if len(seen) == 5 else agreement(result, sample)

    monkeypatch.setattr(unpatched.task, "agreement", turned)
    result = parity.compare(slipway_runtime.load(digits_experiment.bundle), unpatched, images)
    with pytest.raises(VerificationError, match="predictions are equal in 31 of 32"):
        result.require()


def output(found: list[list[float]], wanted: list[list[float]]) -> Output:
    made = Output()
    made.update(np.array(found, np.float32), np.array(wanted, np.float32))
    return made


def test_the_tolerance_is_where_it_is_promised() -> None:
    assert output([[1.0009, 0.0]], [[1.0, 0.0]]).passed
    assert not output([[1.0012, 0.0]], [[1.0, 0.0]]).passed
    assert output([[1.0, 9e-6]], [[1.0, 0.0]]).passed
    assert not output([[1.0, 2e-5]], [[1.0, 0.0]]).passed


def test_float64_tells_rounding_from_a_fault() -> None:
    """PyTorch's own distance from float64 is allowed twice; a difference that it does not explain still fails."""
    wanted, found = np.array([[1.0, 0.5]], np.float32), np.array([[1.002, 0.5]], np.float32)
    turned = np.array([[0.4999, 0.5]], np.float32)
    for rounding, passes in ((1e-3, True), (1e-4, False)):
        made = Output()
        made.update(found, wanted, lambda image, rounding=rounding: rounding)
        assert made.passed == passes
    for rounding, share in ((1e-4, 1.0), (1e-5, 0.0)):
        made = Output()
        made.update(turned, np.array([[0.5, 0.4999]], np.float32), lambda image, rounding=rounding: rounding)
        assert made.argmax.share == share


def test_float64_is_asked_for_the_images_that_need_it() -> None:
    wanted = np.array([[1.0, 0.5], [1.0, 0.5], [1.0, 0.5], [1.0, 0.5]], np.float32)
    found = wanted + np.array([[0, 0], [2e-3, 0], [1.5e-3, 0], [4e-3, 0]], np.float32)
    asked: list[int] = []

    def rounding(image: int) -> float:
        asked.append(image)
        return {1: 1e-3, 3: 2e-3}[image]

    made = Output()
    made.update(found, wanted, rounding)
    assert asked == [1, 3], "what an earlier image's rounding explains needs no other"
    assert made.passed
    assert made.rounding == 2e-3


def test_a_turned_arg_max_fails_inside_the_tolerance() -> None:
    turned = output([[0.50001, 0.5]], [[0.5, 0.50001]])
    assert turned.max_excess < 1
    assert not turned.passed


def test_another_shape_is_a_fault() -> None:
    assert "PyTorch gives" in str(output([[1.0]], [[1.0, 2.0]]).fault)
