"""`ort_infer`'s arguments and what it writes: wrong ones are refused as `slipway_runtime` refuses them, and nothing is ever
left half done. All of it under the sanitizers.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_bundles import (
    build_detector,
    build_graph,
    build_manifest,
    build_segmenter,
    detector_manifest,
    save,
    segmenter_manifest,
    write_bundle,
)

from slipway_runtime.__main__ import main

Infer = Callable[..., "subprocess.CompletedProcess[str]"]
Captured = pytest.CaptureFixture[str]
RED = np.full((40, 30, 3), (0, 0, 255), np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", build_graph(), build_manifest())


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "segmenter", build_segmenter(), segmenter_manifest())


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    graph = build_detector(np.array([[8, 8, 24, 24, 0.9]], np.float32), np.array([1]))
    return write_bundle(tmp_path / "detector", graph, detector_manifest())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "images" / "red.png", RED)


def python(*arguments: object) -> int:
    """The exit code of the other runtime."""
    try:
        return main([*map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "BUNDLE is required"),
        ("{bundle}", "FILE is required"),
        ("{bundle} {image} --surprise", "--surprise"),
        ("{bundle} {image} --topk 0", "--topk"),
        ("{bundle} {image} --topk x", "--topk"),
        ("{bundle} {image} --topk", "--topk"),
        ("{bundle} {image} --batch 0", "--batch"),
        ("{bundle} {image} --batch -1", "--batch"),
        ("{bundle} {image} --batch 1.5", "--batch"),
        ("{bundle} {image} --threads 0", "--threads"),
        ("{bundle} {image} --threads many", "--threads"),
        ("{detector} {image} --score 2", "got '2'"),
        ("{detector} {image} --score -0.1", "--score"),
        ("{detector} {image} --score nan", "--score"),
        ("{detector} {image} --score high", "--score"),
        ("{segmenter} {image} --opacity 1.1", "--opacity"),
        ("{segmenter} {image} --opacity nan", "--opacity"),
        ("{bundle} {image} --device xyz", "--device"),
        ("{bundle} {image} --device CPU", "--device"),
        ("{segmenter} {image} --topk 1", "--topk is for classification; tiny does segmentation"),
        ("{detector} {image} --topk 1", "--topk is for classification; tiny does detection"),
        ("{bundle} {image} --score 0.5", "--score is for detection; tiny does classification"),
        ("{segmenter} {image} --score 0.5", "--score is for detection; tiny does segmentation"),
        ("{bundle} {image} --opacity 0.5", "--opacity is for segmentation and detection; tiny does classification"),
    ],
)
def test_wrong_arguments(
    bundle: Path,
    segmenter: Path,
    detector: Path,
    image: Path,
    sanitized: Infer,
    capsys: Captured,
    arguments: str,
    says: str,
) -> None:
    filled = arguments.format(bundle=bundle, segmenter=segmenter, detector=detector, image=image).split()
    done = sanitized(*filled)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr.splitlines()[0]
    assert python(*filled) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "option", ["--workers 0", "--workers 1000000", "--threads 1000000", "--seconds 0", "--boundaries all"]
)
def test_wrong_arguments_of_its_own(bundle: Path, image: Path, sanitized: Infer, option: str) -> None:
    done = sanitized(bundle, image, *option.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert option.split()[0] in done.stderr


@pytest.mark.parametrize("timer", ["{", "{}", '{"seconds": 1e999}', '{"seconds": 1, "surprise": 2}'])
def test_wrong_timers(bundle: Path, image: Path, sanitized: Infer, timer: str) -> None:
    done = sanitized(bundle, image, "--benchmark", "--timer", timer)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --timer: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("which", "option"),
    [
        ("bundle", "--topk 1"),
        ("bundle", "--topk 1000"),
        ("bundle", "--batch 2147483647"),
        ("bundle", "--threads 1 --workers 1"),
        ("segmenter", "--opacity 0"),
        ("detector", "--score 0 --opacity 1"),
        ("detector", "--score 1"),
    ],
)
def test_control_options_at_their_edges(
    request: pytest.FixtureRequest, image: Path, sanitized: Infer, which: str, option: str
) -> None:
    done = sanitized(request.getfixturevalue(which), image, *option.split())
    assert (done.returncode, done.stderr) == (0, "")


def test_a_batch_larger_than_the_folder_can_be_measured(bundle: Path, image: Path, sanitized: Infer) -> None:
    batch = ("--batch", 2147483647)
    done = sanitized(bundle, image, "--benchmark", "--seconds", 0.01, "--boundaries", "e2e,folder", "--json", *batch)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["folder"]["images"] == 1


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_missing_device(bundle: Path, image: Path, sanitized: Infer, device: str) -> None:
    done = sanitized(bundle, image, "--device", device)
    if "this ONNX Runtime has" not in done.stderr:
        pytest.skip("this ONNX Runtime is built for GPUs")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert f"device '{device}' needs" in done.stderr
    assert "CPUExecutionProvider" in done.stderr


def test_help_and_version(sanitized: Infer) -> None:
    for argument, expected in (("--help", "examples:"), ("--version", "ONNX Runtime 1.")):
        done = sanitized(argument)
        assert (done.returncode, done.stderr) == (0, "")
        assert expected in done.stdout


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("option", ["--out", "--inputs"])
@pytest.mark.parametrize("place", ["taken", "taken/deeper", "/proc/nowhere"])
def test_a_place_that_cannot_be_written_to(
    bundle: Path, image: Path, tmp_path: Path, sanitized: Infer, capsys: Captured, option: str, place: str
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    done = sanitized(bundle, image, option, tmp_path / place)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "cannot be written (" in done.stderr
    if option == "--out":
        assert python(bundle, image, "--out", tmp_path / place) == 2
        assert "cannot be written (" in capsys.readouterr().err
    assert files(tmp_path / "images") == ["red.png"]
    assert (tmp_path / "taken").read_text().startswith("a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written_to(bundle: Path, image: Path, tmp_path: Path, sanitized: Infer) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    done = sanitized(bundle, image, "--out", tmp_path / "locked")
    assert done.returncode == 2
    assert "cannot be written (Permission denied)" in done.stderr


def test_a_target_that_is_a_folder_leaves_nothing_behind(
    bundle: Path, image: Path, tmp_path: Path, sanitized: Infer
) -> None:
    (tmp_path / "out" / "red.png").mkdir(parents=True)
    done = sanitized(bundle, image, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "cannot be written (Is a directory)" in done.stderr
    assert files(tmp_path / "out") == []


def test_drawings_never_replace_a_source_or_each_other(
    segmenter: Path, tmp_path: Path, sanitized: Infer, capsys: Captured
) -> None:
    folder, other, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    for place in (folder / "red.png", other / "red.png"):
        save(place, RED)
    before = (folder / "red.png").read_bytes()

    def refused(says: str, *arguments: object) -> None:
        done = sanitized(segmenter, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert says in done.stderr
        assert python(segmenter, *arguments) == 2
        assert says in capsys.readouterr().err
        assert not out.exists()

    refused("would overwrite", folder, "--out", folder)
    refused("would overwrite", folder / "red.png", "--out", folder / ".." / "a")
    refused("would both become red.png", folder, other, "--out", out)
    (tmp_path / "link").symlink_to(folder)
    refused("would overwrite", folder, "--out", tmp_path / "link")
    save(folder / "red.jpg", RED)
    refused("would both become red.labels.png", folder, "--out", out)
    (folder / "red.jpg").rename(folder / "red.labels.png")
    refused("would overwrite", folder / "red.png", folder / "red.labels.png", "--out", folder)
    assert (folder / "red.png").read_bytes() == before
    # The control: apart, all of them are drawn.
    assert sanitized(segmenter, other, "--out", out).returncode == 0
    assert files(out) == ["red.labels.png", "red.png"]


def test_a_full_disk_is_said(bundle: Path, image: Path, sanitized_build: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [str(sanitized_build / "ort_infer"), str(bundle), str(image)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "error: stdout: cannot be written (No space left on device)\n"


@contextlib.contextmanager
def running(build: Path, *arguments: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has printed its first line, and what that was."""
    command = [str(build / "ort_infer"), *map(str, arguments)]
    # A shell's background jobs ignore Ctrl-C, and so would their children.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pipesize=4096,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "ASAN_OPTIONS": "exitcode=99", "UBSAN_OPTIONS": "exitcode=99"},
    ) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["image"]
        yield process
        process.kill()


@pytest.fixture
def long_folder(tmp_path: Path) -> Path:
    """Thousands of images."""
    folder = tmp_path / "many"
    first = save(folder / "00000.png", RED)
    for index in range(1, 20_000):
        (folder / f"{index:05}.png").hardlink_to(first)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wait", [0, 1.5], ids=["at once", "before a full pipe"])
def test_an_interrupted_run_leaves_nothing_half_done(
    segmenter: Path, long_folder: Path, tmp_path: Path, sanitized_build: Path, number: signal.Signals, wait: float
) -> None:
    out, inputs = tmp_path / "out", tmp_path / "inputs"
    with running(sanitized_build, segmenter, long_folder, "--json", "--out", out, "--inputs", inputs) as process:
        time.sleep(wait)
        process.send_signal(number)
        start = time.monotonic()
        time.sleep(wait / 10)
        printed, said = process.communicate(timeout=60)
        assert time.monotonic() - start < 3
    assert process.returncode == 130
    rows = [json.loads(line) for line in printed.splitlines()]
    done = len(rows) + 1
    assert done < 20_000
    assert [row["image"] for row in rows] == [str(long_folder / f"{index:05}.png") for index in range(1, done)]
    assert said.decode().splitlines()[-1] == f"interrupted: {done} of 20000 files are done"
    names = [f"{index:05}" for index in range(done)]
    # Workers may have written what was not printed any more, but that is whole too.
    written = files(out)
    assert {f"{name}{ending}" for name in names for ending in (".png", ".labels.png")} <= set(written)
    assert not [name for name in [*written, *files(inputs)] if name.endswith(".tmp")]
    for name in written:
        assert cv2.imdecode(np.fromfile(out / name, np.uint8), cv2.IMREAD_COLOR).shape == RED.shape
    for name in files(inputs):
        assert np.load(inputs / name).shape == (3, 40, 30)


def test_a_second_interrupt_ends_it_at_once(bundle: Path, long_folder: Path, sanitized_build: Path) -> None:
    with running(sanitized_build, bundle, long_folder, "--json") as process:
        time.sleep(1.5)  # nobody reads: the first one waits for the line that is being written
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == -signal.SIGINT


def test_a_reader_that_leaves_is_no_crash(bundle: Path, long_folder: Path, sanitized_build: Path) -> None:
    with running(sanitized_build, bundle, long_folder, "--json") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_names_that_are_no_text(bundle: Path, tmp_path: Path, sanitized_build: Path, image: Path) -> None:
    odd = tmp_path / os.fsdecode(b'\xff\xfe "quoted".png')
    odd.write_bytes(image.read_bytes())
    command = [str(sanitized_build / "ort_infer"), str(bundle), str(odd)]
    plain = subprocess.run(command, capture_output=True, check=False)
    assert plain.returncode == 0
    assert plain.stdout.startswith(os.fsencode(odd) + b"  red (0.")
    row = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    assert row["image"].endswith('"quoted".png')
