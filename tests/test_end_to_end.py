"""The three rooms from the command line, as a user runs them; and what the terminal shows when something is wrong."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.experiment import Experiment

TINY = Path(__file__).parent / "configs" / "cls" / "tiny_digits.py"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def walked(run_module: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[dict, str]]]:
    """train → export → bench, each as a process with --json; outputs and terminal by room."""
    work = tmp_path_factory.mktemp("walk")
    done = {}
    for module, arguments in {
        "train": [TINY, "--work", work, "--device", "cpu"],
        "deploy": ["export", TINY, "--work", work],
    }.items():
        result = run_module(module, *arguments, "--json")
        assert result.returncode == 0, result.stderr
        done[module] = (json.loads(result.stdout), result.stderr)
    return work, done


def test_each_room_says_what_it_wrote_and_what_comes_next(walked: tuple[Path, dict[str, tuple[dict, str]]]) -> None:
    work, done = walked
    result, terminal = done["train"]
    assert Path(result["checkpoint"]) == work / "cls/tiny_digits/train/checkpoint.pth"
    assert "eta:" in terminal
    assert "next: make export-cls EXP=cls/tiny_digits" in terminal
    result, terminal = done["deploy"]
    assert result["parity"]["passed"]
    assert "next: make bench EXP=cls/tiny_digits" in terminal


def test_no_registry_warning(walked: tuple[Path, dict[str, tuple[dict, str]]]) -> None:
    for room, (_, terminal) in walked[1].items():
        for sign in (
            "Failed to search registry",
            "Failed to import",
            "rewrite will not be applied",
            "Can not add symbolic",
        ):
            assert sign not in terminal, room


def test_a_second_time_nothing_is_done(run_module: Run, walked: tuple[Path, dict[str, tuple[dict, str]]]) -> None:
    work, _ = walked
    trained = run_module("train", TINY, "--work", work, "--device", "cpu", "--json")
    exported = run_module("deploy", "export", TINY, "--work", work, "--json")
    assert not json.loads(trained.stdout)["trained"], trained.stderr
    assert not json.loads(exported.stdout)["exported"], exported.stderr


def test_the_bundle_predicts(run_module: Run, walked: tuple[Path, dict[str, tuple[dict, str]]]) -> None:
    work, _ = walked
    result = run_module("slipway_runtime", work / "cls/tiny_digits/bundle", work / "data/digits/val", "--json")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    right = sum(Path(line["image"]).parent.name == line["top"][0]["name"] for line in lines)
    assert len(lines) == 359
    assert right / len(lines) > 0.8


def one_line(terminal: str, *signs: str) -> bool:
    errors = [line for line in terminal.splitlines() if line.startswith("error: ")]
    return "Traceback" not in terminal and len(errors) == 1 and all(sign in errors[0] for sign in signs)


def photos(folder: Path, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """A small folder of class folders with images that differ."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(10):
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(folder / name / f"{index}.jpg")
    return folder


def test_an_unknown_config_key(run_module: Run, tmp_path: Path) -> None:
    result = run_module("train", TINY, "--work", tmp_path, "--cfg-options", "train_cfg.max_epoch=1")
    assert result.returncode == 2
    assert one_line(result.stderr, "max_epoch", "did you mean 'max_epochs'"), result.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_class_folder(run_module: Run, tmp_path: Path) -> None:
    images = tmp_path / "images"
    photos(images / "train")
    photos(images / "val", ("cat",))
    work = tmp_path / "work"
    result = run_module("train", "cls/resnet18_flowers", "--work", work, "--data", images)
    assert result.returncode == 3
    assert one_line(result.stderr, "dog"), result.stderr
    assert not [path for path in work.rglob("*") if path.is_file()]


def test_a_truncated_image(run_module: Run, tmp_path: Path) -> None:
    images = photos(tmp_path / "images")
    broken = images / "cat" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    work = tmp_path / "work"
    result = run_module("train", "cls/resnet18_flowers", "--work", work, "--data", images)
    assert result.returncode == 3
    assert one_line(result.stderr, "3.jpg", "--skip-bad"), result.stderr
    assert not [path for path in work.rglob("*") if path.is_file()]


@pytest.mark.parametrize("fault", ["truncated", "malicious"])
def test_a_bad_checkpoint(
    run_module: Run, walked: tuple[Path, dict[str, tuple[dict, str]]], tmp_path: Path, fault: str
) -> None:
    import torch

    weights, mark = tmp_path / "w.pth", tmp_path / "executed"
    if fault == "truncated":
        weights.write_bytes(Experiment("cls/tiny_digits", walked[0]).checkpoint.read_bytes()[:5000])
    else:

        class Call:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, (f"touch {mark}",)

        torch.save({"state_dict": {"x": Call()}}, weights)
    work = tmp_path / "work"
    result = run_module("deploy", "export", TINY, "--work", work, "--checkpoint", weights)
    assert result.returncode == 3
    assert one_line(result.stderr, "w.pth", "posix.system" if fault == "malicious" else "truncated"), result.stderr
    assert not mark.exists()
    assert not (work / "cls").exists()


@pytest.mark.parametrize("module", ["train", "deploy", "benchmarks", "slipway_runtime", "train.data"])
def test_help_teaches(run_module: Run, module: str) -> None:
    result = run_module(module, "--help")
    assert result.returncode == 0
    assert "example" in result.stdout.lower()
