"""Precisions in a bundle: what is written and listed, what is made anew, which images decide."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import slipway_runtime
from deploy import graph, precision
from deploy.precision.calibration import add, images
from slipway_runtime import manifest
from slipway_runtime.errors import BundleError, ImageError
from train import tasks
from train.errors import InputError, UsageError
from train.experiment import Experiment

COUNT = 24


@pytest.fixture
def whole(digits_experiment: Experiment, tmp_path: Path) -> Experiment:
    """The tiny experiment and its bundle once more, to add to."""
    copy = Experiment(digits_experiment.name, tmp_path / "work")
    shutil.copytree(digits_experiment.root, copy.root)
    return copy


@pytest.fixture
def with_set(whole: Experiment, tmp_path: Path) -> Callable[[str], Experiment]:
    """Call it with a split to have that split's images of a copied data set unreadable."""

    def damage(split: str) -> Experiment:
        record = whole.read()
        root = tmp_path / "set"
        shutil.copytree(record.data["root"], root)
        whole.write(dataclasses.replace(record, data={**record.data, "root": str(root)}))
        for path, _ in tasks.named("classification").samples(root, split):
            path.write_bytes(b"no image")
        return whole

    return damage


def predictions(experiment: Experiment, name: str) -> np.ndarray:
    model = slipway_runtime.load(experiment.bundle, precision=name)
    record = experiment.read()
    paths = [path for path, _ in tasks.named("classification").samples(Path(record.data["root"]), "val")][:40]
    return np.array([result.labels[0] for result in model(paths)])


def test_both_are_added_listed_and_predict_alike(whole: Experiment) -> None:
    reports = add.add(whole, ["fp16", "int8"], count=COUNT)
    described = manifest.read(whole.bundle)
    manifest.check_files(whole.bundle, described)
    assert {"model.fp16.onnx", "model.fp16.json", "model.int8.onnx", "model.int8.json"} < set(described.files)
    expected = predictions(whole, "fp32")
    for name, report in reports.items():
        assert report["new"]
        assert report["share_percent"] >= precision.get(name).GATE
        made = onnx.load(whole.bundle / f"model.{name}.onnx")
        graph.check(made)
        assert graph.specs(made) == (described.inputs, described.outputs)
        assert manifest.METADATA_KEY in {entry.key for entry in made.metadata_props}
        assert json.loads((whole.bundle / f"model.{name}.json").read_text()) == {
            key: value for key, value in report.items() if key != "new"
        }
        assert np.mean(predictions(whole, name) == expected) > 0.9
    assert (whole.bundle / "model.int8.onnx").stat().st_size < (whole.bundle / "model.onnx").stat().st_size / 2
    assert reports["int8"]["calibration"]["calibration_images"] == COUNT
    assert {layer["precision"] for layer in reports["int8"]["layers"]} == {"int8"}
    assert all(np.isfinite(layer["sqnr_db"]) for layer in reports["int8"]["layers"])


def test_what_is_current_is_kept_and_force_makes_it_anew(whole: Experiment) -> None:
    assert add.add(whole, ["fp16"], count=COUNT)["fp16"]["new"]
    written = (whole.bundle / "model.fp16.onnx").stat().st_mtime_ns
    assert not add.add(whole, ["fp16"], count=COUNT)["fp16"]["new"]
    assert (whole.bundle / "model.fp16.onnx").stat().st_mtime_ns == written
    assert add.add(whole, ["fp16"], count=COUNT, force=True)["fp16"]["new"]
    assert add.add(whole, ["fp16"], count=COUNT + 1)["fp16"]["new"], "other images"
    assert add.add(whole, ["fp16"], count=COUNT + 1, gate=99)["fp16"]["new"], "another gate"
    (whole.bundle / "model.fp16.onnx").write_bytes(b"altered")
    assert add.add(whole, ["fp16"], count=COUNT + 1, gate=99)["fp16"]["new"], "another file"


@pytest.mark.parametrize("listed_before", [False, True])
def test_a_crash_before_the_manifest_leaves_the_bundle_whole(
    whole: Experiment, monkeypatch: pytest.MonkeyPatch, listed_before: bool
) -> None:
    if listed_before:
        add.add(whole, ["fp16"], count=COUNT)
    listing = add._list

    def crash(root: Path, **files: object) -> None:
        if "add" in files:
            raise KeyboardInterrupt
        listing(root, **files)

    with monkeypatch.context() as patched:
        patched.setattr(add, "_list", crash)
        with pytest.raises(KeyboardInterrupt):
            add.add(whole, ["fp16"], count=COUNT, force=True)
    assert (whole.bundle / "model.fp16.onnx").is_file()
    manifest.check_files(whole.bundle, manifest.read(whole.bundle))
    with pytest.raises(BundleError, match="no graph in fp16; it has fp32"):
        slipway_runtime.load(whole.bundle, precision="fp16")
    assert add.add(whole, ["fp16"], count=COUNT)["fp16"]["new"]
    slipway_runtime.load(whole.bundle, precision="fp16")


def test_validation_images_are_never_read(with_set: Callable[[str], Experiment]) -> None:
    experiment = with_set("val")
    assert add.add(experiment, ["fp16"], count=COUNT)["fp16"]["new"]


def test_control_training_images_are_read(with_set: Callable[[str], Experiment]) -> None:
    with pytest.raises(ImageError):
        add.add(with_set("train"), ["fp16"], count=COUNT)


def test_images_are_of_training_disjoint_and_the_same_each_time(digits_experiment: Experiment) -> None:
    record = digits_experiment.read()
    chosen = images.choose(record, count=COUNT)
    training = {path for path, _ in tasks.named("classification").samples(Path(record.data["root"]), "train")}
    searched = [path for path, _ in chosen.search]
    assert len(chosen.calibration) == COUNT
    assert len(searched) == images.SEARCH
    assert not set(chosen.calibration) & set(searched)
    assert {*chosen.calibration, *searched} <= training
    assert images.choose(record, count=COUNT) == chosen
    assert images.choose(record, count=COUNT).fingerprint() == chosen.fingerprint()
    assert len(images.choose(record, count=10**6).search) >= 200


def test_images_without_labels(whole: Experiment, tmp_path: Path) -> None:
    record = whole.read()
    folder = tmp_path / "photos"
    folder.mkdir()
    for path, _ in tasks.named("classification").samples(Path(record.data["root"]), "train")[::40]:
        shutil.copy(path, folder / path.name)
    report = add.add(whole, ["int8"], folder=folder, count=16)["int8"]
    assert report["calibration"]["truth"] == "the float model's own predictions"
    assert report["scores"]["float32"] == {"top1_percent": 100.0}
    # Another folder with the same images gives the same; another image does not.
    folder = folder.rename(tmp_path / "pictures")
    assert not add.add(whole, ["int8"], folder=folder, count=16)["int8"]["new"]
    next(iter(sorted(folder.iterdir()))).unlink()
    assert images.choose(record, folder, 16).fingerprint() != report["fingerprint"]


def test_what_cannot_be_calibrated_says_so(whole: Experiment, tmp_path: Path) -> None:
    record = whole.read()
    without = dataclasses.replace(record, data={**record.data, "images": {"train": 0, "val": 84}})
    with pytest.raises(UsageError, match=r"no training images.*--calibration"):
        images.choose(without)
    gone = dataclasses.replace(record, data={**record.data, "root": str(tmp_path / "gone")})
    with pytest.raises(InputError, match="gone"):
        images.choose(gone)
    with pytest.raises(UsageError, match="no such folder"):
        images.choose(record, tmp_path / "gone")
    with pytest.raises(UsageError, match="gate"):
        add.add(whole, ["fp16"], gate=101)
    with pytest.raises(UsageError, match=r"unknown precision 'int4'.*known: fp16, int8"):
        add.add(whole, ["int4"])
    (tmp_path / "one").mkdir()
    with pytest.raises(ImageError):
        images.choose(record, tmp_path / "one")


def test_the_registry_is_what_the_runtime_knows() -> None:
    assert tuple(precision.names()) == manifest.PRECISIONS[1:]
