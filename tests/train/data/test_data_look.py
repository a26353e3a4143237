"""The contact sheet shows labels where they are, and leaves the set as it is."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data import prepare
from train.data.look import GAP, LINE, SIDE, main, sheet
from train.errors import InputError, UsageError

Write = Callable[..., Path]
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def segmented(tmp_path: Path, mask: Write) -> Path:
    """Grey images whose upper half is `ground`, black, and whose lower half is `leaf`, red, or ignored."""
    for split in ("train", "val"):
        for i in range(5):
            path = tmp_path / "photos" / "images" / split / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 20), (100, 100, 100 + i)).save(path)
            mask(tmp_path / "photos" / "masks" / split / f"{i}.png", 0, 1 if i else 255)
    (tmp_path / "photos" / "classes.txt").write_text("ground 0 0 0\nleaf 200 0 0\n")
    return prepare("masks", tmp_path / "set", origin=tmp_path / "photos").root


def test_labels_lie_over_the_images(segmented: Path) -> None:
    image, total = sheet(segmented, "val", 4)
    assert total == 5
    pixels = np.asarray(image)
    height = round(20 * SIDE / 24)
    assert image.size == (GAP + 2 * (SIDE + GAP), GAP + 2 * (height + LINE + GAP) + 2 * LINE)
    middle, upper, lower = GAP + SIDE // 2, GAP + height // 4, GAP + 3 * height // 4
    assert pixels[upper, middle].tolist() == [100, 100, 100]
    assert pixels[lower, middle].tolist() == [178, 178, 178]  # ignored: white, half
    assert pixels[upper, middle + SIDE].tolist() == [100, 100, 101]
    assert pixels[lower, middle + SIDE].tolist() == [150, 50, 50]  # leaf


def test_the_legend_has_colours_and_shares(segmented: Path) -> None:
    pixels = np.asarray(sheet(segmented, "train", 9)[0])
    legend = pixels[-2 * LINE :]
    assert (legend == (200, 0, 0)).all(axis=-1).any()
    assert (legend[:, : SIDE // 2] < 128).any()


def test_a_classification_set(class_folders: Path, tmp_path: Path) -> None:
    made = prepare("imagefolder", tmp_path / "set", origin=class_folders)
    image, total = sheet(made.root, "val", 16)
    assert total == 4
    assert image.width == GAP + 2 * (SIDE + GAP)


def test_the_command(segmented: Path, contents: Contents, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(segmented)
    assert main([str(segmented), "--split", "val", "--count", "3", "--json"]) == 0
    captured = capsys.readouterr()
    out = segmented.parent / "set-look.png"
    assert json.loads(captured.out) == {"out": str(out), "split": "val", "shown": 3, "images": 5}
    assert f"wrote: {out} (3 of 5 val images)" in captured.err
    with Image.open(out) as image:
        assert image.format == "PNG"
    assert contents(segmented) == before
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=segmented, check=False).returncode == 0


def test_what_cannot_be_drawn(segmented: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prepared set"):
        main([str(tmp_path / "photos")])
    with pytest.raises(InputError, match="found splits: train, val"):
        main([str(segmented), "--split", "test"])
    with pytest.raises(UsageError, match="lies in the prepared set"):
        main([str(segmented), "--out", str(segmented / "train" / "look.png")])
    with pytest.raises(UsageError, match="--count 0"):
        main([str(segmented), "--count", "0"])
    (segmented / "val" / "0.png").unlink()
    (segmented / "val" / "0.png").write_text("x")
    with pytest.raises(InputError, match=r"0\.png: no readable image"):
        sheet(segmented, "val", 5)


@pytest.mark.data
def test_real_street_scenes(real_data: Path, tmp_path: Path) -> None:
    made = prepare("masks", tmp_path / "set", origin=real_data / "camvid_mini")
    image, total = sheet(made.root, "val", 16)
    assert total == 12
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 1000
