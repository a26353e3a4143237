import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image as Pil

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.__main__ import main
from slipway_runtime.image import decode

Colours = dict[str, Path]
OPACITIES = ["b i --opacity 1.1", "b i --opacity -0.1", "b i --opacity nan", "b i --opacity half"]
Captured = pytest.CaptureFixture[str]
BundleMaker = Callable[..., Path]


@pytest.fixture
def folder(colours: Colours) -> Path:
    """A folder of four images, one of them in a subfolder, with things beside them that are none."""
    root = colours["red"].parent
    (root / "deeper").mkdir()
    colours["red"].rename(root / "deeper" / "red.PNG")
    (root / "notes.txt").write_text("no image")
    (root / "album.jpg").mkdir()
    return root


def test_a_line_an_image(bundle: Path, colours: Colours, capsys: Captured) -> None:
    assert main([str(bundle), str(colours["red"]), str(colours["blue"])]) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith(f"{colours['red']}  red (0.")
    assert second.startswith(f"{colours['blue']}  blue (0.")
    assert "grey (0." in first
    assert err == ""


def test_json_lines(bundle: Path, folder: Path, capsys: Captured) -> None:
    assert main([str(bundle), str(folder), "--json", "--batch", "3", "--topk", "3", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    names = ["blue.png", "deeper/red.PNG", "green.png", "grey.png"]
    assert [row["image"] for row in rows] == [str(folder / name) for name in names]
    assert [row["top"][0]["name"] for row in rows] == ["blue", "red", "green", "grey"]
    for row in rows:
        assert row["task"] == "classification"
        found = [entry["score"] for entry in row["top"]]
        assert len(found) == 3
        assert found == sorted(found, reverse=True)
    assert err == ""


def test_a_corrupt_image_does_not_stop_the_rest(bundle: Path, folder: Path, capsys: Captured) -> None:
    (folder / "corrupt.png").write_bytes((folder / "blue.png").read_bytes()[:60])
    assert main([str(bundle), str(folder), "--json", "--batch", "2"]) == 3
    out, err = capsys.readouterr()
    assert [json.loads(line)["top"][0]["name"] for line in out.splitlines()] == ["blue", "red", "green", "grey"]
    first, second = err.splitlines()
    assert first.startswith(f"error: {folder / 'corrupt.png'}: not a whole image")
    assert second == "error: 1 of 5 files could not be read"


def test_drawings_are_written_beside_nothing_else(bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    assert main([str(bundle), str(folder), "--out", str(out)]) == 0
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["blue.png", "deeper/red.PNG", "green.png", "grey.png"]
    assert decode(out / "blue.png").shape == (9, 7, 3)


def test_a_segmenter_prints_shares_and_writes_overlays_and_label_maps(
    segmenter: Path, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "drawn"
    assert main([str(segmenter), str(folder), "--out", str(out), "--opacity", "1", "--batch", "2"]) == 0
    printed, said = capsys.readouterr()
    assert printed.splitlines()[0] == f"{folder / 'blue.png'}  blue 100.0 %"
    assert said == f"wrote 4 predictions below {out}\n"
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    names = ["blue", "deeper/red", "green", "grey"]
    assert written == sorted([f"{name}.labels.png" for name in names] + [*map(str, relative(folder))])
    for label, name in enumerate(["blue", "green", "deeper/red", "grey"]):
        with Pil.open(out / f"{name}.labels.png") as picture:
            assert picture.size == (7, 9)
            assert set(picture.tobytes()) == {label}
    assert decode(out / "deeper" / "red.PNG")[8, 6].tolist() == [0, 0, 255]


def relative(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() == ".png"]


def test_a_segmenters_json(segmenter: Path, colours: Colours, capsys: Captured) -> None:
    assert main([str(segmenter), str(colours["green"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "image": str(colours["green"]),
        "task": "segmentation",
        "width": 7,
        "height": 9,
        "classes": [{"label": 1, "name": "green", "pixels": 63, "share": 1.0}],
    }


def test_options_of_another_task_are_refused(bundle: Path, segmenter: Path, colours: Colours, capsys: Captured) -> None:
    for arguments, message in (
        ([str(segmenter), "--topk", "1"], "--topk is for classification; tiny does segmentation"),
        ([str(bundle), "--opacity", "0"], "--opacity is for segmentation and detection; tiny does classification"),
    ):
        assert main([*arguments, str(colours["red"])]) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"error: {message}\n")


def test_label_maps_never_replace_each_other(segmenter: Path, folder: Path, tmp_path: Path, capsys: Captured) -> None:
    shutil.copy(folder / "blue.png", folder / "blue.bmp")
    out = tmp_path / "drawn"
    assert main([str(segmenter), str(folder), "--out", str(out)]) == 2
    assert "blue.bmp and" in (said := capsys.readouterr().err)
    assert "would both become blue.labels.png" in said
    (folder / "blue.bmp").rename(folder / "blue.labels.png")
    assert main([str(segmenter), str(folder), "--out", str(out)]) == 2
    assert not out.exists()


def test_drawings_never_replace_a_source_or_each_other(
    bundle: Path, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    before = (folder / "blue.png").read_bytes()
    assert main([str(bundle), str(folder), "--out", str(folder)]) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert (folder / "blue.png").read_bytes() == before
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert main([str(bundle), str(folder), str(other), "--out", str(tmp_path / "drawn")]) == 2
    assert "would both become blue.png" in capsys.readouterr().err
    assert not (tmp_path / "drawn").exists()


@pytest.mark.parametrize("name", ["image.unknown", "taken/blue.png"])
def test_a_drawing_that_cannot_be_written_is_one_line(
    bundle: Path, colours: Colours, tmp_path: Path, capsys: Captured, name: str
) -> None:
    source = tmp_path / name
    source.parent.mkdir(exist_ok=True)
    shutil.copy(colours["blue"], source)
    out = tmp_path / "out"
    if name != "image.unknown":
        out.write_text("a file where the folder should be")
    assert main([str(bundle), str(source), "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert "cannot be written" in err
    assert len(err.splitlines()) == 1
    assert not out.is_dir() or not list(out.iterdir())


@pytest.mark.parametrize(
    ("break_it", "code", "message"),
    [
        (lambda bundle: shutil.rmtree(bundle), 3, "no such file"),
        (lambda bundle: (bundle / m.FILE_NAME).unlink(), 3, "not a bundle's manifest"),
        (lambda bundle: (bundle / m.FILE_NAME).write_text("{"), 3, "not valid JSON"),
        (lambda bundle: (bundle / m.GRAPH_NAME).unlink(), 3, "cannot be read"),
        (lambda bundle: (bundle / m.GRAPH_NAME).write_bytes(b""), 3, "content was altered"),
    ],
)
def test_a_broken_bundle_is_one_line(
    bundle: Path, colours: Colours, break_it: Callable[[Path], None], code: int, message: str, capsys: Captured
) -> None:
    break_it(bundle)
    assert main([str(bundle), str(colours["red"])]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err


@pytest.mark.parametrize("content", [b"", b"just text", b"\x89PNG\r\n\x1a\n"])
def test_a_bad_image_is_one_line(bundle: Path, tmp_path: Path, content: bytes, capsys: Captured) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    assert main([str(bundle), str(path)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "bad.png: not a whole image" in err


def test_other_bad_input(bundle: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty.jpg").mkdir()
    for argument in ("empty.jpg", "missing.jpg", "x" * 300):
        assert main([str(bundle), str(tmp_path / argument)]) == 3
        err = capsys.readouterr().err
        assert argument in err
        assert len(err.splitlines()) == 1


def test_a_graph_that_gives_no_numbers(make_bundle: BundleMaker, colours: Colours, capsys: Captured) -> None:
    bundle = make_bundle(weight=np.full((3, 4), np.nan, np.float32))
    assert main([str(bundle), str(colours["red"])]) == 5
    assert "no finite numbers" in capsys.readouterr().err


def test_a_missing_device(bundle: Path, colours: Colours, capsys: Captured) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDAExecutionProvider")
    assert main([str(bundle), str(colours["red"]), "--device", "cuda"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "CPUExecutionProvider" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    ["", "b", "b i --batch 0", "b i --topk x", "b i --threads -1", "b i --device tpu", *OPACITIES],
)
def test_wrong_arguments(arguments: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_batch_that_the_graph_does_not_have(make_bundle: BundleMaker, colours: Colours, capsys: Captured) -> None:
    bundle = make_bundle(shape=(2, 3, 16, 16))
    arguments = [str(bundle), *map(str, colours.values())]
    assert main([*arguments, "--batch", "3"]) == 2
    assert "this graph takes 2" in capsys.readouterr().err
    assert main([*arguments[:-1]]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_help_and_version(capsys: Captured) -> None:
    for argument, expected in (("--help", "examples:"), ("--version", slipway_runtime.__version__)):
        with pytest.raises(SystemExit) as stop:
            main([argument])
        assert stop.value.code == 0
        assert expected in capsys.readouterr().out


def shell(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "slipway_runtime", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment}, timeout=120)


def test_as_a_process(bundle: Path, colours: Colours, tmp_path: Path) -> None:
    odd = tmp_path / "grüne Wiese №1.png"
    shutil.copy(colours["green"], odd)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(cv2.imencode(".jpg", np.zeros((99, 99, 3), np.uint8))[1].tobytes()[:400])
    done = shell(bundle, odd, broken, PYTHONIOENCODING="ascii")
    assert done.returncode == 3
    assert b"gr\\xfcne Wiese \\u21161.png  green (0." in done.stdout
    assert done.stderr.count(b"error:") == 2
    assert done.stderr.count(b"\n") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no UTF-8 are Linux's")
def test_a_name_that_is_no_text(bundle: Path, colours: Colours, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff\xfe.png")
    shutil.copy(colours["green"], odd)
    assert shell(bundle, odd).returncode == 0
    done = shell(bundle, odd, "--json")
    assert json.loads(done.stdout)["top"][0]["name"] == "green"


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def running(bundle: Path, colours: Colours) -> Iterator[subprocess.Popen[bytes]]:
    """A process with thousands of images before it that has printed its first line."""
    command = [sys.executable, "-m", "slipway_runtime", str(bundle), *[str(colours["red"])] * 10_000]
    # A shell's background jobs ignore Ctrl-C, and so would their children.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_heed_ctrl_c) as process:
        assert process.stdout
        assert b"red (0." in process.stdout.readline()
        yield process
        process.kill()


def test_a_reader_that_leaves_is_no_traceback(running: subprocess.Popen[bytes]) -> None:
    assert running.stdout
    assert running.stderr
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(60) == 1


def test_interruption(running: subprocess.Popen[bytes]) -> None:
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert re.fullmatch(rb"interrupted: [0-9]+ of 10000 files are done\n", err)
    assert running.returncode == 130
