"""Colour splash and detection on the command line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from tiny_bundles import save

import slipway_runtime
from slipway_runtime import splash
from slipway_runtime.__main__ import main
from slipway_runtime.errors import UsageError
from slipway_runtime.image import decode

BundleMaker = Callable[..., Path]
Captured = pytest.CaptureFixture[str]
COLOURED = (30, 140, 250)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A coloured image of 128×128, twice the tiny detector's input."""
    return save(tmp_path / "photos" / "party.png", np.full((128, 128, 3), COLOURED, np.uint8))


def test_grey_but_for_the_area() -> None:
    rng = np.random.default_rng(0)
    image, area = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), rng.random((40, 50)) < 0.3
    before = image.copy()
    found = splash.splash(image, area)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(found[area], image[area])
    luma = image[~area] @ np.array([0.114, 0.587, 0.299])  # ITU-R BT.601; blue, green, red
    assert np.abs(found[~area] - luma[:, None]).max() <= 0.51
    assert np.abs(image[~area].mean(axis=1) - luma).max() > 20, "a plain mean would be noticed"


def test_the_area_is_that_of_the_shown_detections(detector: Path) -> None:
    (result,) = slipway_runtime.load(detector)(np.full((128, 128, 3), 255, np.uint8))
    green, red = np.zeros((2, 128, 128), bool)
    green[16:48, 16:48] = True
    red[:, 64:] = True

    def share(found: np.ndarray, wanted: np.ndarray) -> float:
        return float((found == wanted).mean())

    assert share(result.area(), green | red) > 0.99, "the blue one is too unlikely"
    assert share(result.area([1]), green) > 0.99
    assert share(result.area([2, 0]), red) > 0.99
    assert not result.area([3]).any()
    assert share(result.area([2]), green) < 0.5


def test_the_area_of_a_segmenter(segmenter: Path) -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, :5], image[:, 5:] = (0, 255, 0), (0, 0, 255)
    (result,) = slipway_runtime.load(segmenter)(image)
    np.testing.assert_array_equal(result.area([1]), image[..., 1] > 0)
    np.testing.assert_array_equal(result.area([1, 3]), result.area([1]))
    assert result.area().all()


def test_labels_to_keep(detector: Path, segmenter: Path, bundle: Path, make_detector: BundleMaker) -> None:
    masks, areas, scores = (slipway_runtime.load(path).manifest for path in (detector, segmenter, bundle))
    boxes = slipway_runtime.load(make_detector([(0, 0, 9, 9, 0.9, 0)], name="boxes")).manifest
    assert splash.labels(masks, None) is None
    assert splash.labels(masks, ["red", "blue"]) == [2, 0]
    assert splash.labels(areas, ["grey"]) == [3]
    for manifest, names, message in (
        (boxes, None, "needs a model that gives masks; tiny gives boxes only"),
        (scores, ["red"], "needs a model that gives masks; tiny gives no places"),
        (areas, None, "name those that stay in colour with --class, of blue, green, red, grey"),
        (masks, ["red", "pink"], "--class pink: no class of tiny, which knows blue, green, red, grey"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            splash.labels(manifest, names)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", ["classification", "boxes"])
def test_a_prediction_without_pixels_has_no_area(task: str, bundle: Path, make_detector: BundleMaker) -> None:
    path = bundle if task == "classification" else make_detector([(0, 0, 9, 9, 0.9, 0)])
    (result,) = slipway_runtime.load(path)(np.full((9, 9, 3), 255, np.uint8))
    with pytest.raises(UsageError, match="does not say which pixels"):
        result.area()


def test_detections_on_the_command_line(detector: Path, photo: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main([str(detector), str(photo)]) == 0
    assert capsys.readouterr().out == f"{photo}  green 0.90  red 0.50\n"
    assert main([str(detector), str(photo), "--json", "--score", "0.2", "--out", str(tmp_path / "out")]) == 0
    row = json.loads(capsys.readouterr().out)
    assert [found["name"] for found in row["detections"]] == ["green", "red", "blue"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["party.png"]
    drawn = decode(tmp_path / "out" / "party.png")
    assert (drawn != COLOURED).any()
    assert main([str(detector), str(photo), "--score", "1"]) == 0
    assert capsys.readouterr().out == f"{photo}  nothing with a score of 1 or more\n"


@pytest.mark.parametrize(
    ("options", "red_kept"), [([], True), (["--class", "green"], False), (["--score", ".6"], False)]
)
def test_a_splash_of_an_image(
    detector: Path, photo: Path, tmp_path: Path, capsys: Captured, options: list[str], red_kept: bool
) -> None:
    out = tmp_path / "out"
    assert main([str(detector), str(photo), "--splash", "--out", str(out), *options]) == 0
    assert capsys.readouterr().out.startswith(f"{photo}  green 0.90")
    drawn = decode(out / "party.png")
    assert drawn[30, 30].tolist() == list(COLOURED)
    assert (drawn[100, 100].tolist() == list(COLOURED)) is red_kept
    assert len(set(drawn[100, 30].tolist())) == 1, "grey"


def test_a_splash_of_a_segmenters_class(segmenter: Path, tmp_path: Path) -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, :5], image[:, 5:] = (0, 255, 0), (0, 0, 255)
    source = save(tmp_path / "photos" / "two.png", image)
    assert main([str(segmenter), str(source), "--splash", "--class", "red", "--out", str(tmp_path / "out")]) == 0
    drawn = decode(tmp_path / "out" / "two.png")
    assert drawn[0, 0].tolist() == [150] * 3
    assert drawn[0, 9].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--splash"], "--splash draws; say where to with --out DIR"),
        (["--class", "red"], "--class says what stays in colour; add --splash"),
        (["--splash", "--out", "OUT", "--class", "pink"], "--class pink: no class of tiny"),
        (["--topk", "3"], "--topk is for classification; tiny does detection"),
    ],
)
def test_wrong_options_are_one_line(
    detector: Path, photo: Path, tmp_path: Path, capsys: Captured, options: list[str], message: str
) -> None:
    options = [str(tmp_path / "out") if option == "OUT" else option for option in options]
    assert main([str(detector), str(photo), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", ["--score 1.5", "--score x", "--splash --opacity 0.3"])
def test_wrong_arguments(options: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["b", "i", *options.split()])
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_score_is_for_detectors(segmenter: Path, photo: Path, capsys: Captured) -> None:
    assert main([str(segmenter), str(photo), "--score", "0.5"]) == 2
    assert capsys.readouterr().err == "error: --score is for detection; tiny does segmentation\n"


FRAMES = 300


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A coloured video of 12 seconds: six parts, each of which takes a tiny model a fifth of a second."""
    path = tmp_path / "clips" / "party.mp4"
    path.parent.mkdir()
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", 25, width=64, height=64)
        for index in range(FRAMES):
            image = np.full((64, 64, 3), COLOURED, np.uint8)
            image[:, : index % 64] = (200, 60, 150)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


def shell(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "slipway_runtime", *map(str, arguments)]


def killed(command: list[str], parts: Path) -> None:
    """Run it until its first part is there, and kill it."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not list(parts.glob("*.npz")):
            assert time.monotonic() < until
            time.sleep(0.002)
        process.kill()
    assert not parts.with_name("party.mp4").exists()


def resumed(command: list[str]) -> bool:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ}, timeout=120)
    first, _ = done.stderr.splitlines()
    assert f": {FRAMES} frames" in first
    return "of them before an interruption" in first


def test_a_killed_splash_of_a_video_goes_on(detector: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command, parts = shell(detector, clip, "--splash", "--out", out), out / ".party.mp4.parts"
    killed(command, parts)
    assert resumed(command)
    assert [path.name for path in out.iterdir()] == ["party.mp4"]
    at_once = shell(detector, clip, "--splash", "--out", tmp_path / "at-once")
    assert not resumed(at_once)
    assert (out / "party.mp4").read_bytes() == (tmp_path / "at-once" / "party.mp4").read_bytes()
    with av.open(out / "party.mp4") as made:
        assert made.streams.video[0].codec_context.pix_fmt == "yuv420p"
        frame = next(made.decode(video=0)).to_ndarray(format="bgr24").astype(int)
    assert np.ptp(frame[60, 8]) < 12, "grey"
    assert np.ptp(frame[16, 16]) > 150, "in colour"


def test_other_options_and_json_start_over(detector: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command, parts = shell(detector, clip, "--splash", "--out", out), out / ".party.mp4.parts"
    killed(command, parts)
    assert not resumed([*command, "--score", "0.4"])
    (out / "party.mp4").unlink()
    killed(command, parts)
    assert not resumed([*command, "--json"])
