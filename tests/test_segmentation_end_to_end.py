"""A labelme folder through all rooms from the command line; and what the terminal shows of bad label maps."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_end_to_end import Run, one_line

TINY_LABELME = Path(__file__).parent / "configs" / "seg" / "tiny_labelme.py"
PALETTE = [0, 0, 0, 255, 0, 0]


def masks(root: Path) -> Path:
    """Three images and index masks (0, 1) in train and in val, and their two classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(3):
            image = rng.integers(0, 255, (20, 24, 3), np.uint8)
            Image.fromarray(image).save(root / "images" / split / f"{index}.jpg")
            write_mask(root / "masks" / split / f"{index}.png", (20, 24))
    (root / "classes.txt").write_text("ground 0,0,0\ncat 255,0,0\n")
    return root


def write_mask(path: Path, size: tuple[int, int], label: int = 1, palette: list[int] | None = None) -> None:
    """The left half 0, the right half a label."""
    values = np.zeros(size, np.uint8)
    values[:, size[1] // 2 :] = label
    image = Image.fromarray(values)
    if palette:
        image.putpalette(palette)
    image.save(path)


def mismatch(root: Path) -> None:
    write_mask(root / "masks/train/1.png", (24, 20))


def out_of_range(root: Path) -> None:
    write_mask(root / "masks/train/1.png", (20, 24), label=7)


def missing(root: Path) -> None:
    (root / "masks/train/1.png").unlink()


def empty(root: Path) -> None:
    for path in root.glob("*/val/*"):
        path.unlink()


def other_palette(root: Path) -> None:
    for path in root.glob("masks/*/*.png"):
        write_mask(path, (20, 24), palette=[255, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("spoil", "signs"),
    [
        (mismatch, ("1.png", "20×24", "24×20")),
        (out_of_range, ("1.png", "7")),
        (missing, ("train/1 ", "no label map")),
        (empty, ("val",)),
        (other_palette, (".png", "palette")),
    ],
)
def test_bad_label_maps(spoil: Callable[[Path], None], signs: tuple[str, ...], run_module: Run, tmp_path: Path) -> None:
    root, work = masks(tmp_path / "photos"), tmp_path / "work"
    spoil(root)
    result = run_module("train", "seg/pspnet-r18_masks", "--work", work, "--data", root)
    assert result.returncode == 3, result.stderr
    assert one_line(result.stderr, *signs), result.stderr
    assert not [path for path in work.rglob("*") if path.is_file()]


def labelme(root: Path) -> Path:
    """Scenes of a polygon and a circle each, as labelme writes them."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        (root / split).mkdir(parents=True)
        for index in range(count):
            image = np.full((60, 80, 3), 40, np.uint8)
            x, y = (int(n) for n in rng.integers(0, 20, 2))
            triangle = [[x + 5, y + 35], [x + 15, y + 5], [x + 25, y + 35]]
            cv2.fillPoly(image, [np.array(triangle)], (0, 0, 255))
            cv2.circle(image, (60, y + 15), 10, (0, 255, 0), -1)
            cv2.imwrite(str(root / split / f"{index}.png"), image)
            shapes = [
                {"label": "tent", "shape_type": "polygon", "points": triangle},
                {"label": "ball", "shape_type": "circle", "points": [[60, y + 15], [70, y + 15]]},
            ]
            content = {"imagePath": f"{index}.png", "imageData": None, "shapes": shapes}
            (root / split / f"{index}.json").write_text(json.dumps(content))
    return root


def test_a_labelme_folder_becomes_a_measured_model(run_module: Run, tmp_path: Path) -> None:
    """The README's three commands, with a small network and a short measurement."""
    work = tmp_path / "work"
    origin = labelme(tmp_path / "photos")
    trained = run_module("train", TINY_LABELME, "--work", work, "--data", origin, "--device", "cpu", "--json")
    assert trained.returncode == 0, trained.stderr
    exported = run_module("deploy", "export", TINY_LABELME, "--work", work, "--json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["parity"]["passed"]
    brief = ("--quick", "--set", "batch_sizes=[1]", "--set", "boundaries=[e2e]", "--json")
    measured = run_module("benchmarks", "run", TINY_LABELME, "--work", work, *brief)
    assert measured.returncode == 0, measured.stderr
    first, second = json.loads(measured.stdout)["experiments"]["seg/tiny_labelme"]["accuracy"]
    assert first["images"] == second["images"] == 6
    assert first["values"]["miou_percent"] == pytest.approx(second["values"]["miou_percent"], abs=0.05)
    assert second["values"]["miou_percent"] > 45, "29 is what background alone gives"
