"""MMDeploy's own exporter on the list: its settings, what is made of a run, and cases whose end is known."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from deploy import rewrites, zoo
from deploy.matching import Matched
from deploy.tasks import classification
from deploy.zoo import mmdeploy, mmdeploy_compare, mmdeploy_export

SETTINGS = yaml.safe_load(mmdeploy.SETTINGS.read_text())
LINES = {line.model: line for line in zoo.read()}


def line(model: str) -> zoo.Line:
    return LINES[model]


def test_its_settings_are_of_models_of_the_list() -> None:
    assert set(SETTINGS["models"]) <= set(LINES)
    for own in SETTINGS["models"].values():
        mmdeploy.Theirs(documented=own.get("documented", ""))
        assert own.get("config", "detection") in SETTINGS["configs"]


def test_a_deploy_config_is_its_documentations() -> None:
    found = mmdeploy.deploy_config(SETTINGS, line("PSPNet"), "static")
    height, width = line("PSPNet").size
    assert found["onnx_config"]["opset_version"] == 11
    assert found["onnx_config"]["input_shape"] == [width, height]
    assert "dynamic_axes" not in found["onnx_config"]
    assert found["codebase_config"]["type"] == "mmseg"
    assert found["backend_config"] == {"type": "onnxruntime"}
    found = mmdeploy.deploy_config(SETTINGS, line("Mask R-CNN"), "dynamic")
    assert found["onnx_config"]["input_shape"] is None
    assert set(found["onnx_config"]["dynamic_axes"]) == {"input", "dets", "labels", "masks"}
    assert found["codebase_config"]["post_processing"]["keep_top_k"] == 100


def test_our_rewrites_have_no_place_in_its_process() -> None:
    rewrites.register("mmseg")
    with pytest.raises(RuntimeError, match=r"not MMDeploy alone: rewriters of \['deploy', 'mmdeploy'\]"):
        mmdeploy_export.assert_own()


@pytest.mark.parametrize(
    ("exported", "wanted"),
    [
        (
            {"errors": {"11": "TypeError: no", "17": "TypeError: still no"}},
            {"exports": False, "reason": "TypeError: no"},
        ),
        (
            {"errors": {}, "died": "its process ended with -11"},
            {"exports": False, "reason": "its process ended with -11"},
        ),
        (
            {"custom": ["mmdeploy::Grid"], "load_error": "Fail: mmdeploy:Grid", "library_error": ""},
            {
                "exports": True,
                "loads": False,
                "library": True,
                "custom": ["mmdeploy::Grid"],
                "reason": "Fail: mmdeploy:Grid",
            },
        ),
        (
            {"load_error": "Fail: a", "library_error": "Fail: b"},
            {"loads": False, "library": False, "reason": "Fail: a"},
        ),
        ({"load_error": "", "library_error": ""}, {"loads": True, "library": True, "reason": ""}),
        ({"load_error": ""}, {"loads": True, "library": False}),
    ],
)
def test_what_a_process_left_is_a_verdict(exported: dict[str, Any], wanted: dict[str, Any]) -> None:
    theirs = mmdeploy.Theirs()
    written = {} if exported.get("errors") is not None else {"opset": 11, "seconds": 1.0, "nodes": 2, "mib": 0.1}
    mmdeploy._take(theirs, {"errors": {}, "died": "", **written, **exported})
    assert {name: getattr(theirs, name) for name in wanted} == wanted


def test_a_reason_names_no_folder_and_ends() -> None:
    assert mmdeploy._shortened("Load model from /tmp/zoo-1/graph.onnx failed") == "Load model from graph.onnx failed"
    assert len(mmdeploy._shortened("x" * 1000)) == mmdeploy.LONGEST + 1


class Identity:
    """A reference whose output is its input."""

    task = classification

    def predict(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"output": images.flatten(1)}

    exact = predict


@pytest.mark.parametrize(("wrong", "agrees"), [(0.0, True), (1e-6, True), (0.1, False)])
def test_scores_agree_within_our_own_tolerance(wrong: float, agrees: bool, tmp_path: Path) -> None:
    batch = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    np.savez(tmp_path / "outputs-3.npz", output=batch.flatten(1).numpy() + np.float32(wrong))
    why, max_error, detections = mmdeploy_compare.compare(tmp_path, Identity(), {"3": ""}, [batch], 3)
    assert (why == "") is agrees
    assert detections is None
    assert max_error == pytest.approx(wrong, rel=0.1, abs=1e-7)
    assert "no result" in mmdeploy_compare.compare(tmp_path, Identity(), {}, [batch], 3).why


def test_detections_and_masks_are_matched_one_to_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn = np.zeros((2, 8, 8), bool)
    drawn[0, :4], drawn[1, 4:] = True, True
    own = {
        "bboxes": np.float32([[0, 0, 8, 4], [0, 4, 8, 8]]),
        "scores": np.float32([0.9, 0.5]),
        "labels": np.int64([1, 2]),
        "masks": drawn,
    }
    monkeypatch.setattr(mmdeploy_compare, "predictions", lambda *_: [mmdeploy_compare._detections(own)])
    reference = SimpleNamespace(task=SimpleNamespace(CODEBASE={"task": "ObjectDetection"}), model=None)
    reference.exact = reference.__class__
    batch = torch.zeros(1, 3, 8, 8)

    def verdict(**changed: Any) -> str:
        arrays = {f"{name}-0": value for name, value in {**own, **changed}.items()}
        np.savez(tmp_path / "outputs-0.npz", **arrays)
        monkeypatch.setattr(Matched, "update", without_rounding)
        return mmdeploy_compare.compare(tmp_path, reference, {"0": ""}, [batch], 0).why

    update = Matched.update

    def without_rounding(self: Matched, found: Any, wanted: Any, rounding: Any = None) -> None:
        update(self, found, wanted)

    assert verdict() == ""
    assert "1 of 2 detections" in verdict(scores=np.float32([0.9, 0.4]))
    assert verdict(masks=drawn[::-1]) == "1×8×8: masks of IoU ≥ 0.98 are 0 of 2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "exports", "loads", "agrees"), [("ResNet", True, True, True), ("PSPNet", True, True, False)]
)
def test_known_cases(model: str, exports: bool, loads: bool, agrees: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Its average pooling is not PSPNet's; nothing in a ResNet is rewritten."""
    assert mmdeploy.main([model, "static"]) == 0
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (found["exports"], found["loads"], found["agrees"]) == (exports, loads, agrees), found["reason"]
    assert found["custom"] == []
    assert found["opset"] == 11
