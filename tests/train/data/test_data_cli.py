"""`python -m train.data` as a person runs it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from train.data import sources
from train.data.__main__ import main

REPOSITORY = Path(__file__).parents[3]


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "train.data", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_help_teaches(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    assert done.returncode == 0
    for name, source in sources().items():
        assert f"  {name}" in done.stdout
        assert source.summary in done.stdout
    assert "python -m train.data digits" in done.stdout


def test_default_place_json_and_second_run(class_folders: Path) -> None:
    done = call(class_folders.parent, "imagefolder", "--from", "photos", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["root"] == "work/data/imagefolder"
    assert result["images"] == {"train": 16, "val": 4}
    assert "wrote: work/data/imagefolder (16 train, 4 val images, 2 classes)" in done.stderr
    assert done.stderr.splitlines()[-1] == "next: make train-cls EXP=cls/resnet18_flowers DATA=work/data/imagefolder"
    again = call(class_folders.parent, "imagefolder", "--from", "photos")
    assert again.returncode == 0
    assert again.stdout == ""
    assert again.stderr.startswith("current: work/data/imagefolder (")


def test_a_bad_image_stops_with_one_line_and_nothing_written(class_folders: Path) -> None:
    (class_folders / "dog" / "4.jpg").write_bytes(b"GIF89a")
    done = call(class_folders.parent, "imagefolder", "--from", "photos", "--out", "out")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 20 images cannot be read: dog/4.jpg (not an image); ")
    assert [path.name for path in class_folders.parent.iterdir()] == ["photos"]
    skipped = call(class_folders.parent, "imagefolder", "--from", "photos", "--out", "out", "--skip-bad")
    assert skipped.returncode == 0
    assert "warning: 1 unreadable images left out: dog/4.jpg (not an image)\n" in skipped.stderr


@pytest.mark.parametrize(
    ("source", "spoil", "expected"),
    [
        ("masks", lambda masks: Image.new("L", (9, 9)).save(masks / "0.png"), "masks/val/0.png (9×9 pixels, its image"),
        (
            "masks",
            lambda masks: Image.new("L", (24, 20), 7).save(masks / "0.png"),
            "masks/val/0.png (label 7 in 480 pix",
        ),
        ("masks", lambda masks: (masks / "1.png").unlink(), "masks/val/1 (no label map)"),
        ("masks", lambda masks: shutil.rmtree(masks.parents[1] / "images" / "val"), "without val"),
        ("voc", lambda masks: None, "expected JPEGImages/, SegmentationClass/"),
        ("labelme", lambda masks: None, "no labelme file"),
    ],
)
def test_label_maps_that_are_wrong(
    source: str,
    spoil: Callable[[Path], object],
    expected: str,
    tmp_path: Path,
    photo: Callable[..., Path],
    mask: Callable[..., Path],
) -> None:
    for split in ("train", "val"):
        for i in range(2):
            photo(tmp_path / "photos" / "images" / split / f"{i}.jpg")
            mask(tmp_path / "photos" / "masks" / split / f"{i}.png", 0, 1)
    (tmp_path / "photos" / "classes.txt").write_text("ground\nleaf\n")
    assert call(tmp_path, "masks", "--from", "photos", "--out", "good").returncode == 0
    spoil(tmp_path / "photos" / "masks" / "val")
    done = call(tmp_path, source, "--from", "photos", "--out", "out")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert expected in last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "photos"]


def test_a_missing_folder(tmp_path: Path) -> None:
    done = call(tmp_path, "flowers", "--from", "nowhere")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "error: nowhere: no such folder; --from must name the folder that holds the images\n"
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_name(tmp_path: Path) -> None:
    done = call(tmp_path, "flower")
    assert done.returncode == 2
    assert "did you mean 'flowers'?" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_training_images_suggests_no_training(
    class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (class_folders / "ann.txt").write_text("cat/1.jpg 0\n")
    assert main(["imagefolder", "--from", str(class_folders), "--out", str(tmp_path / "out")]) == 0
    assert "next:" not in capsys.readouterr().err
