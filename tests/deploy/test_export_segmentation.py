"""Segmentation exports: whole and slide, full and stride, one size and every size, and what is refused."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import slipway_runtime
from deploy import bundle, export, parity, reference
from deploy.outputs import Output
from deploy.reference import Reference
from slipway_runtime import manifest as manifests
from train import runner
from train.errors import UsageError
from train.experiment import Experiment
from train.tasks import segmentation

TINY = Path(__file__).parents[1] / "configs" / "seg" / "tiny_scenes.py"


@pytest.fixture(scope="module")
def unpatched_segmenter(scenes_experiment: Experiment) -> Reference:
    """The tiny segmenter's unpatched model."""
    postprocess = manifests.read(scenes_experiment.bundle).postprocess
    return reference.load(scenes_experiment.config, scenes_experiment.checkpoint, postprocess)


@pytest.fixture(scope="module")
def lively(
    scenes_experiment: Experiment, unpatched_segmenter: Reference, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Weights that see every class somewhere: two epochs teach the tiny segmenter little more than the background."""
    saved = torch.load(scenes_experiment.checkpoint)
    path = segmentation.samples(Path(scenes_experiment.read().data["root"]), "val")[0][0]
    image = next(unpatched_segmenter.samples([path]))[0]
    weight, bias = (saved["state_dict"][f"decode_head.conv_seg.{name}"] for name in ("weight", "bias"))
    spread = unpatched_segmenter.predict(image[None])["output"].mean((0, 2, 3)) - bias
    weight *= 20
    bias.copy_(-20 * spread)
    weights = tmp_path_factory.mktemp("lively") / "weights.pth"
    torch.save(saved, weights)
    return weights


def adopted(scenes_experiment: Experiment, weights: Path, work: Path, changes: str = "") -> Experiment:
    """Weights of the tiny segmenter under its config with changes."""
    config = work / "changed.py"
    config.write_text(f"_base_ = ['{TINY}']\n{changes}\n")
    (work / "data").symlink_to(scenes_experiment.work / "data")
    return runner.adopt(runner.Request(str(config), work=work), weights)[0]


def test_the_bundle_says_what_a_segmenter_needs(scenes_experiment: Experiment) -> None:
    described = manifests.read(scenes_experiment.bundle)
    assert described.task == "segmentation"
    assert described.classes == ("background", *"0123456789")
    assert described.palette is not None
    assert len(set(described.palette)) == 11
    assert described.inputs[0].shape == ("batch", 3, "height", "width")
    assert described.outputs[0].shape == ("batch", 11, "height", "width")
    found = described.postprocess
    assert (found.align_corners, found.logits, found.window) == (False, "full", None)


def test_the_graph_pools_exactly_and_with_standard_operators(scenes_experiment: Experiment) -> None:
    graph = onnx.load(scenes_experiment.bundle / bundle.GRAPH).graph
    assert {node.domain for node in graph.node} == {""}
    assert not [node for node in graph.node if node.op_type == "AveragePool"], "MMDeploy's approximation"


def test_twelve_sizes_with_one_file(scenes_experiment: Experiment, unpatched_segmenter: Reference) -> None:
    session = slipway_runtime.open_session(scenes_experiment.bundle)
    sizes = [
        (64, 64),
        (65, 64),
        (64, 97),
        (33, 41),
        (128, 256),
        (101, 75),
        (160, 90),
        (47, 200),
        (8, 8),
        (17, 129),
        (96, 31),
        (211, 199),
    ]
    assert len(set(sizes)) == 12
    for size in sizes:
        images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(sum(size)))
        output = Output()
        found = session.run({"input": images.numpy()})["output"]
        output.update(found, unpatched_segmenter.predict(images)["output"].numpy())
        assert output.passed, (size, output)


@pytest.mark.parametrize("shape", ["dynamic", "stride"])
@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_the_runtime_predicts_what_mmseg_predicts(
    scenes_experiment: Experiment, lively: Path, tmp_path: Path, mode: str, shape: str
) -> None:
    slide = "model = dict(test_cfg=dict(mode='slide', crop_size=(64, 72), stride=(40, 50)))"
    experiment = adopted(scenes_experiment, lively, tmp_path, slide if mode == "slide" else "")
    exported = export.export(experiment, shape=shape)
    assert exported.parity["passed"]
    predictions = exported.parity["predictions"]
    assert predictions["of"] > 32 * 144 * 144
    assert predictions["agreement"] >= 0.9999
    described = manifests.read(experiment.bundle)
    assert described.postprocess.logits == ("stride" if shape == "stride" else "full")
    assert (described.postprocess.window is not None) == (mode == "slide")
    if mode == "slide":
        # Control: the same weights see other labels in whole mode, so the agreement above says something.
        model = slipway_runtime.load(experiment.bundle)
        whole = model.manifest.postprocess.model_copy(update={"window": None})
        other = slipway_runtime.Model(model.manifest.model_copy(update={"postprocess": whole}), model.session)
        root = Path(experiment.read().data["root"])
        paths = [path for path, _ in segmentation.samples(root, "val")][:4]
        maps = [(a.label_map, b.label_map) for a, b in zip(model(paths), other(paths), strict=True)]
        assert len(np.unique(maps[0][0])) > 3
        assert np.mean([(a == b).mean() for a, b in maps]) < 0.999


def test_one_size_needs_images_of_one_size(scenes_experiment: Experiment, tmp_path: Path) -> None:
    experiment = adopted(scenes_experiment, scenes_experiment.checkpoint, tmp_path)
    with pytest.raises(UsageError, match=r"images of one size, .* gives \d+×\d+ .* and \d+×\d+ .*SHAPE=dynamic"):
        export.export(experiment, shape="static")
    assert not experiment.bundle.exists()


@pytest.mark.parametrize("shape", ["static", "batch"])
def test_padding_gives_images_one_size(scenes_experiment: Experiment, lively: Path, tmp_path: Path, shape: str) -> None:
    """Padding by the data preprocessor is cut off the logits again, as mmseg does it."""
    padded = "model = dict(data_preprocessor=dict(test_cfg=dict(_delete_=True, size=(128, 128))))"
    experiment = adopted(scenes_experiment, lively, tmp_path, padded)
    exported = export.export(experiment, shape=shape)
    assert exported.parity["passed"]
    assert exported.parity["sizes"] == [[128, 128]]
    assert manifests.read(experiment.bundle).inputs[0].shape[1:] == (3, 128, 128)


def test_resized_images_are_labelled_at_their_own_size(
    scenes_experiment: Experiment, lively: Path, tmp_path: Path
) -> None:
    resize = pipeline("dict(type='Resize', scale=(120, 90), keep_ratio=True)")
    experiment = adopted(scenes_experiment, lively, tmp_path, resize)
    exported = export.export(experiment)
    assert exported.parity["passed"]
    image = np.zeros((200, 240, 3), np.uint8)
    model = slipway_runtime.load(experiment.bundle)
    assert model.preprocess(image).array.shape[1:] != image.shape[:2]
    assert model(image)[0].label_map.shape == image.shape[:2]


def test_images_below_the_networks_minimum(
    run_module: Callable[..., "subprocess.CompletedProcess[str]"], scenes_experiment: Experiment, tmp_path: Path
) -> None:
    """A U-Net halves four times: what it cannot divide it refuses, and so do we, in one line."""
    config = tmp_path / "unet.py"
    base = Path(__file__).parents[2] / "configs/train/seg/fcn-unet_digits.py"
    config.write_text(f"_base_ = ['{base}']\nmodel = dict(data_preprocessor=dict(test_cfg=None))\n")
    (tmp_path / "data").symlink_to(scenes_experiment.work / "data")
    request = runner.Request(str(config), work=tmp_path)
    planned = runner.plan(request)
    from train import checkpoint
    from train import config as configs

    configs.activate(planned.config, planned.file)
    weights = tmp_path / "unet.pth"
    checkpoint.save(runner.build_model(planned.config), weights, {})
    result = run_module("deploy", "export", config, "--work", tmp_path, "--checkpoint", weights)
    assert result.returncode == 3
    assert re.search(r"^error: the model refuses .*\d+×\d+ .*size_divisor", result.stderr, re.M), result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "seg").exists() or not list(tmp_path.rglob("bundle"))


def test_a_small_set_is_verified_on_mirrored_images(scenes_experiment: Experiment, tmp_path: Path) -> None:
    record = scenes_experiment.read()
    root = tmp_path / "small"
    shutil.copytree(record.data["root"], root)
    for split, count in (("train", 7), ("val", 3)):
        listed = root / "labels" / f"{split}.txt"
        listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:count]))
    record.data.update(root=str(root))
    images = parity.validation_images(record, tmp_path)
    assert len(images) == 32
    assert len({content(path).tobytes() for path in images}) == 32
    assert np.array_equal(content(images[10]), cv2.flip(content(images[0]), 1))


def content(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path)), np.uint8)


def pipeline(*steps: str) -> str:
    """A test pipeline with these steps between loading and packing."""
    listed = ["dict(type='LoadImageFromFile')", *steps, "dict(type='LoadAnnotations')", "dict(type='PackSegInputs')"]
    return (
        f"test_pipeline = [{', '.join(listed)}]\n"
        "val_dataloader = dict(dataset=dict(pipeline=test_pipeline))\n"
        "test_dataloader = dict(dataset=dict(pipeline=test_pipeline))"
    )
