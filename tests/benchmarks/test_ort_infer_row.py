"""`ort_infer` as a row of the table: a program times itself, and its own predictions are counted."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_bench import Bench, write_segmenter

from benchmarks import native
from benchmarks.environment import ROOT
from benchmarks.native import predictions, reports
from benchmarks.timing import TimerSettings
from slipway_runtime import manifest as manifests
from slipway_runtime.manifest import Window
from slipway_runtime.masks import run_lengths
from train import child
from train.errors import BackendError, MeasurementError
from train.experiment import Experiment

BOTH = ("backends=[onnxruntime, ort_infer]", "batch_sizes=[1, 2]")
BOUNDARIES = {"model", "host", "e2e"}


@pytest.fixture(scope="module")
def program() -> Path:
    """The program, built now where it is not yet."""
    if native.VARIABLE not in os.environ and not native.BUILT.is_file():
        subprocess.run(["make", "native"], cwd=ROOT, capture_output=True, check=False)
    try:
        return native.find()
    except BackendError as error:
        pytest.skip(str(error))


def fake(folder: Path, script: str) -> Path:
    """A program that runs a script of the shell."""
    path = folder / "ort_infer"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def rows_of(found: dict[str, Any], backend: str) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if row["backend"] == backend]


@pytest.fixture(params=["digits_experiment", "scenes_experiment", "masks_experiment"])
def experiment(program: Path, request: pytest.FixtureRequest) -> Any:
    """A trained one of each task; before `bench`, which takes what training prints for its own."""
    return request.getfixturevalue(request.param)


def test_a_row_like_the_others(experiment: Experiment, bench: Bench) -> None:
    code, found = bench(experiment, *BOTH, arguments=["--force"])
    assert code == 0, found
    ours, theirs = rows_of(found, "ort_infer"), rows_of(found, "onnxruntime")
    assert {(row["batch"], row["boundary"]) for row in ours} == {(n, name) for n in (1, 2) for name in BOUNDARIES}
    for row, other in zip(ours, theirs, strict=True):
        assert (row["status"], row["reason"]) == ("ok", None)
        assert row["samples"] >= 10
        assert row["peak_rss_mib"] > 10
        same = ("sizes", "artifact_sha256", "bundle_sha256", "batch", "boundary", "unit")
        assert [row[key] for key in same] == [other[key] for key in same]
    accuracy = {entry["backend"]: entry for entry in found["accuracy"]}
    assert accuracy["ort_infer"]["images"] == accuracy["onnxruntime"]["images"] > 0
    assert accuracy["ort_infer"]["values"] == pytest.approx(accuracy["onnxruntime"]["values"], rel=0, abs=1e-6)
    assert "ONNX Runtime" in found["environment"]["versions"]["ort_infer"]


@pytest.mark.usefixtures("program")
def test_images_of_several_sizes_and_windows(pixels: Experiment, bench: Bench) -> None:
    code, found = bench(pixels, *BOTH, "inputs=8")
    assert code == 0
    assert len(next(row for row in rows_of(found, "ort_infer") if row["boundary"] == "e2e")["sizes"]) > 1
    values = [entry["values"] for entry in found["accuracy"]]
    assert values[0] == values[1]
    write_segmenter(pixels, window=Window(height=6, width=6, stride_height=4, stride_width=4))
    code, found = bench(pixels, *BOTH, "inputs=8")
    assert code == 0
    assert {row["status"] for row in rows_of(found, "ort_infer")} == {"ok"}
    assert [row["sizes"] for row in rows_of(found, "ort_infer")] == [
        row["sizes"] for row in rows_of(found, "onnxruntime")
    ]


@pytest.mark.usefixtures("program")
def test_what_a_batch_lacks_is_left_out_alone(pixels: Experiment, bench: Bench) -> None:
    code, found = bench(pixels, *BOTH, "batch_sizes=[4]")
    assert code == 0
    status = {row["boundary"]: row["status"] for row in rows_of(found, "ort_infer")}
    assert status == {"model": "unavailable", "host": "unavailable", "e2e": "ok"}
    assert "no 4 images of one size" in rows_of(found, "ort_infer")[0]["reason"]


@pytest.mark.usefixtures("program")
def test_a_missing_device_is_unavailable(colours: Experiment, bench: Bench) -> None:
    code, found = bench(colours, "backends=[ort_infer]", arguments=["--device", "cuda"])
    if code == 0:
        pytest.skip("CUDA is here")
    assert code == 4
    assert {row["status"] for row in found["rows"]} == {"unavailable"}
    assert "CUDAExecutionProvider" in found["rows"][0]["reason"]


def test_a_missing_program_is_unavailable(
    colours: Experiment, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.VARIABLE, str(tmp_path / "none"))
    code, found = bench(colours, *BOTH)
    assert code == 0, "the others are measured"
    assert {row["status"] for row in rows_of(found, "ort_infer")} == {"unavailable"}
    assert {row["status"] for row in rows_of(found, "onnxruntime")} == {"ok"}
    assert "ort_infer" not in found["environment"]["versions"]
    monkeypatch.delenv(native.VARIABLE)
    monkeypatch.setattr(native, "BUILT", tmp_path / "none")
    with pytest.raises(BackendError, match="ort_infer is not built; run `make native`"):
        native.find()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo noise >&2; echo 'error: no such bundle' >&2; exit 3", "no such bundle"),
        ("echo 'not a report'", "ort_infer printed no measurement of e2e: 'not a report'"),
        ("echo '{\"peak_rss_mib\": 1}'", "ort_infer printed no measurement of e2e: '{\"peak_rss_mib\": 1}'"),
        ("exit 0", "ort_infer printed no measurement of e2e: nothing"),
        ("exit 7", "ort_infer exited with 7"),
        ("kill -9 $$", "ort_infer exited with -9"),
    ],
)
def test_control_a_program_that_fails_gives_a_reason(
    colours: Experiment, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setenv(native.VARIABLE, str(fake(tmp_path, script)))
    code, found = bench(colours, *BOTH, "boundaries=[e2e]")
    assert code == 6
    assert {(row["status"], row["reason"]) for row in rows_of(found, "ort_infer")} == {("failed", reason)}
    assert {row["status"] for row in rows_of(found, "onnxruntime")} == {"ok"}


def test_control_a_measurement_of_other_images_fails(
    colours: Experiment, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = '{"samples_us": [1.0], "wall_s": 0.1, "warmup_us": [], "invalid": null, "sizes": [[9, 9]]}'
    script = f'echo \'{{"boundaries": {{"e2e": {timed}}}, "peak_rss_mib": 1}}\''
    monkeypatch.setenv(native.VARIABLE, str(fake(tmp_path, script)))
    code, found = bench(colours, *BOTH, "boundaries=[e2e]")
    assert code == 6
    assert "ort_infer measured e2e on sizes [(9, 9)], expected [(8, 8)]" in rows_of(found, "ort_infer")[0]["reason"]


def test_a_program_ends_with_its_cell(
    colours: Experiment, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = tmp_path / "beats"

    class WhenItRuns(threading.Thread):
        """In place of the timer: it goes off as soon as the program runs."""

        def __init__(self, _: float, expire: Callable[[], None]) -> None:
            super().__init__(daemon=True)
            self.expire = expire

        def run(self) -> None:
            while not beats.exists():
                time.sleep(0.01)
            self.expire()

        def cancel(self) -> None: ...

    monkeypatch.setattr(child.threading, "Timer", WhenItRuns)
    script = f'[ "$1" = --version ] && exit; while :; do echo >> {beats}; sleep 0.05; done'
    monkeypatch.setenv(native.VARIABLE, str(fake(tmp_path, script)))
    code, found = bench(colours, "backends=[ort_infer]", "boundaries=[e2e]")
    assert (code, "took longer than cell_timeout_s" in found["rows"][0]["reason"]) == (6, True)
    count = beats.stat().st_size
    time.sleep(1)
    assert beats.stat().st_size == count


@pytest.mark.usefixtures("program")
def test_an_unsettled_latency_is_invalid(colours: Experiment, bench: Bench) -> None:
    never = "timer={seconds: 0.02, window_ms: 1, settled_windows: 20, max_windows: 19}"
    code, found = bench(colours, "backends=[ort_infer]", never)
    assert code == 6
    assert {row["status"] for row in found["rows"]} == {"invalid"}
    assert "did not settle" in found["rows"][0]["reason"]


@pytest.mark.parametrize("script", ["echo '{}'", "echo nonsense", "exit 0", "cat $3 $7; exit 3"])
def test_control_predictions_that_are_none(
    colours: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv(native.VARIABLE, str(fake(tmp_path, script)))
    opened = native.Program(colours.bundle, manifests.read(colours.bundle), "cpu", 1)
    with pytest.raises(MeasurementError):
        list(opened.predict(sorted((tmp_path / "data" / "val").rglob("*.png")), 1))


def test_masks_come_back_from_run_lengths() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((7, 5)) < share for share in (0.0, 0.3, 0.7, 1.0)]
    encoded = [{"size": [7, 5], "counts": run_lengths(mask)} for mask in masks]
    np.testing.assert_array_equal(predictions.RunLengths(encoded)[:], masks)


def test_reports_are_read_as_they_are_printed() -> None:
    report = reports.read('{"folder": {"images": 2, "graph_s": [1], "whole_s": [2]}, "peak_rss_mib": 3.5}', "folder")
    assert report.folder is not None
    assert (report.folder.whole_s, report.peak_rss_mib) == ([2.0], 3.5)
    with pytest.raises(MeasurementError, match="no measurement of e2e"):
        reports.read(report.model_dump_json(), "e2e")


@pytest.mark.usefixtures("program")
def test_the_timer_takes_the_harness_settings(colours: Experiment) -> None:
    opened = native.Program(colours.bundle, manifests.read(colours.bundle), "cpu", 1)
    paths = sorted((colours.work.parent / "data" / "val").rglob("*.png"))
    settings = TimerSettings(seconds=0.001, min_calls=18, max_calls=18, window_ms=1, tolerance=1000)
    timed = opened.measure(paths, "e2e", 1, settings).boundaries["e2e"]
    assert len(timed.samples_us) == 18
    assert sum(timed.samples_us) / 1e6 <= timed.wall_s
    assert opened.peak_rss_mib > 10
