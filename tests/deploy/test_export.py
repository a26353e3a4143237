"""Export: the bundle it leaves, what is current, every shape policy, MMDeploy's own SDK, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

import slipway_runtime
from deploy import bundle, export, trace
from deploy.reference import Reference
from slipway_runtime import manifest as manifests
from train import data, runner
from train.errors import InputError, UsageError, VerificationError
from train.experiment import Experiment
from train.files import sha256


def test_the_bundle_is_as_specified(digits_experiment: Experiment) -> None:
    folder = digits_experiment.bundle
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "manifest.json", "model.onnx", "config.py", "parity.json", "deploy.json", "pipeline.json", "detail.json",
    }  # fmt: skip
    described = manifests.read(folder)
    manifests.check_files(folder, described)
    assert set(described.files) == names - {"manifest.json", "parity.json"}
    assert described.name == "cls/tiny_digits"
    assert described.task == "classification"
    assert described.inputs[0].shape == ("batch", 3, "height", "width")
    assert described.outputs[0].shape == ("batch", 10)
    assert described.origin.checkpoint_sha256 == sha256(digits_experiment.checkpoint)
    assert described.origin.config_sha256 == sha256(folder / "config.py")
    assert described.tools["mmdeploy"] == "1.3.1"
    assert not re.search(r"/(root|home|tmp|work)/", (folder / "detail.json").read_text()), "no path of this machine"


def test_the_graph_is_standard_and_carries_its_manifest(digits_experiment: Experiment, images: list[Path]) -> None:
    path = digits_experiment.bundle / "model.onnx"
    model = onnx.load(path)
    assert {node.domain for node in model.graph.node} == {""}
    assert next(entry.version for entry in model.opset_import if not entry.domain) >= 17
    assert onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    bare = slipway_runtime.load(path)
    whole = slipway_runtime.load(digits_experiment.bundle)
    for ours, theirs in zip(bare(images[:4]), whole(images[:4]), strict=True):
        assert np.array_equal(ours.labels, theirs.labels)


def test_the_same_export_gives_the_same_bytes(digits_experiment: Experiment, copied: Experiment) -> None:
    export.export(copied)
    for name in manifests.read(copied.bundle).files:
        assert sha256(copied.bundle / name) == sha256(digits_experiment.bundle / name), name


def test_nothing_to_do_the_second_time(digits_experiment: Experiment) -> None:
    before = (digits_experiment.bundle / "model.onnx").stat().st_mtime_ns
    again = export.export(digits_experiment)
    assert not again.new
    assert again.parity["passed"]
    assert (digits_experiment.bundle / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("shape", "batch", "size"), [("static", 1, 32), ("batch", "batch", 32), ("dynamic", "batch", None)]
)
def test_every_shape_policy(
    copied: Experiment, images: list[Path], shape: str, batch: object, size: int | None
) -> None:
    exported = export.export(copied, shape=shape)
    spec = manifests.read(copied.bundle).inputs[0].shape
    assert spec == (batch, 3, size or "height", size or "width")
    assert exported.parity["passed"]
    assert len(exported.parity["sizes"]) == (1 if size else 4)
    assert len(slipway_runtime.load(copied.bundle)(images[:5])) == 5


def test_an_mmdeploy_config_of_ones_own(copied: Experiment, tmp_path: Path) -> None:
    """Other file, output and codebase names, as MMDeploy's own configs have them: the bundle's names hold."""
    mine = tmp_path / "classification_dynamic.py"
    mine.write_text(
        "onnx_config = dict(type='onnx', opset_version=17, save_file='end2end.onnx', input_names=['input'],\n"
        "    output_names=['scores'], input_shape=None, dynamic_axes=dict(input={0: 'batch'}, scores={0: 'batch'}))\n"
        "codebase_config = dict(type='mmpretrain', task='Classification')\n"
    )
    exported = export.export(copied, shape=str(mine))
    assert exported.parity["passed"]
    deploy = json.loads((exported.bundle / "deploy.json").read_text())
    assert deploy["models"][0]["net"] == "model.onnx"
    assert manifests.read(exported.bundle).outputs[0].name == "output"


def test_another_shape_makes_a_new_bundle(copied: Experiment) -> None:
    assert export.export(copied, shape="static").new
    assert not export.export(copied, shape="static").new
    assert export.export(copied, shape="batch").new


def test_a_damaged_bundle_is_made_anew(copied: Experiment) -> None:
    export.export(copied)
    graph = copied.bundle / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-10])
    assert export.export(copied).new
    manifests.check_files(copied.bundle, manifests.read(copied.bundle))


def test_mmdeploys_own_sdk_gives_the_same_labels(digits_experiment: Experiment) -> None:
    sdk = pytest.importorskip("mmdeploy_runtime", reason="mmdeploy_runtime has no wheel for this Python")
    classifier = sdk.Classifier(model_path=str(digits_experiment.bundle), device_name="cpu", device_id=0)
    ours = slipway_runtime.load(digits_experiment.bundle)
    paths = [path for path, _ in data.read_split(Path(digits_experiment.read().data["root"]), "val")][::6]
    assert len(paths) >= 50
    found = [max(classifier(cv2.imread(str(path))), key=lambda pair: pair[1])[0] for path in paths]
    assert found == [int(result.labels[0]) for result in ours(paths)]


def test_the_reference_is_the_unpatched_model(
    digits_experiment: Experiment, unpatched: Reference, images: list[Path]
) -> None:
    """Exporting leaves no patch behind: the model answers bit for bit as before, and as mmpretrain's own predict."""
    batch = torch.stack([prepared for prepared, _ in unpatched.samples(images[:8])])
    before = unpatched.predict(batch)["output"]
    trace.trace(export.read_deploy_config("dynamic"), unpatched, batch[0])
    assert torch.equal(unpatched.predict(batch)["output"], before)
    assert torch.equal(unpatched(batch)["output"], before)
    fresh = Reference(unpatched.config, digits_experiment.checkpoint, unpatched.postprocess)
    assert torch.equal(fresh.predict(batch)["output"], before)


def test_verify_compares_once_more(digits_experiment: Experiment, copied: Experiment) -> None:
    assert export.verify(digits_experiment).passed
    export.export(copied)
    manifest = copied.bundle / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace(sha256(copied.checkpoint), "0" * 64))
    with pytest.raises(VerificationError, match="another checkpoint"):
        export.verify(copied)


def nothing_left(experiment: Experiment) -> bool:
    return [path.name for path in experiment.root.iterdir()] == ["train"]


def test_numbers_that_do_not_agree_leave_no_bundle(copied: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    original = trace.trace

    def perturbed(*arguments: Any) -> onnx.ModelProto:
        model = original(*arguments)
        tensor = max(model.graph.initializer, key=lambda each: each.ByteSize())
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.05), tensor.name))
        return model

    monkeypatch.setattr(trace, "trace", perturbed)
    with pytest.raises(VerificationError, match="no bundle was written"):
        export.export(copied)
    assert nothing_left(copied)


def test_refusals_leave_no_bundle(copied: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'dynamic'"):
        export.export(copied, shape="dynamc")
    with pytest.raises(UsageError, match="nothing trained yet"):
        export.export(Experiment("cls/none", tmp_path))
    old = tmp_path / "opset.py"
    old.write_text("onnx_config = dict(type='onnx', opset_version=11, input_names=['input'], save_file='model.onnx')\n"
                   "backend_config = dict(type='onnxruntime')\n")  # fmt: skip
    with pytest.raises(UsageError, match="opset_version 11"):
        export.export(copied, shape=str(old))
    copied.checkpoint.write_bytes(copied.checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match="altered since training"):
        export.export(copied)
    assert nothing_left(copied)


def test_a_checkpoint_trained_elsewhere_is_adopted(digits_experiment: Experiment, tmp_path: Path) -> None:
    """A bare state dict, brought with its config and images, becomes an experiment and a bundle."""
    weights = tmp_path / "foreign.pth"
    torch.save(torch.load(digits_experiment.checkpoint)["state_dict"], weights)
    (tmp_path / "data").symlink_to(digits_experiment.work / "data")
    config = Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py"
    request = runner.Request(str(config), work=tmp_path)
    experiment, record = runner.adopt(request, weights)
    assert record.origin == "foreign.pth"
    assert runner.adopt(request, weights)[1] == record
    exported = export.export(experiment, shape="static")
    assert exported.parity["passed"]
    assert manifests.read(exported.bundle).origin.checkpoint == "foreign.pth"


def compare_with_sdk(folder: Path, paths: list[Path]) -> int:
    """Compare `mmdeploy_runtime` with ours where their centre crops agree: labels, and scores to 1e-4.

    The SDK rounds half a pixel away from zero, mmcv to even: an image whose longer edge leaves an odd rest is cut one
    pixel further, which nothing in `pipeline.json` can mend.
    """
    sdk = pytest.importorskip("mmdeploy_runtime", reason="mmdeploy_runtime has no wheel for this Python")
    classifier = sdk.Classifier(model_path=str(folder), device_name="cpu", device_id=0)
    ours = slipway_runtime.load(folder)
    compared = 0
    for path in paths:
        image = cv2.imread(str(path))
        short, long = sorted(image.shape[:2])
        if int(256 * long / short) % 2 == 0:
            label, score = max(classifier(image), key=lambda pair: pair[1])
            result = ours(image)[0]
            assert int(result.labels[0]) == label, path
            assert float(result.scores[0]) == pytest.approx(score, abs=1e-4), path
            compared += 1
    return compared


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("cls/shufflenet-v2_imagenet", "shufflenet_v2_1x_in1k_deq_mmpretrain.pth"),
        ("cls/mobilenet-v2-tf_imagenet", "mobilenet_v2_in1k_deq_tf2ptq_mmpretrain.pth"),
    ],
)
def test_pretrained_imagenet_weights_export_with_parity(
    real_data: Path, tmp_path: Path, name: str, weights: str
) -> None:
    request = runner.Request(name, work=tmp_path, data=real_data / "imagenet_sample")
    experiment, record = runner.adopt(request, real_data / "weights" / weights)
    exported = export.export(experiment)
    assert exported.parity["passed"]
    assert len(exported.parity["sizes"]) >= 3
    model = slipway_runtime.load(exported.bundle)
    pairs = data.read_split(Path(record.data["root"]), "val")
    right = sum(
        int(result.labels[0]) == label for result, (_, label) in zip(model([p for p, _ in pairs]), pairs, strict=True)
    )
    assert right / len(pairs) > 0.7
    assert compare_with_sdk(exported.bundle, [path for path, _ in pairs]) > 30
    assert json.loads((exported.bundle / bundle.PARITY).read_text())["images"] == 32
