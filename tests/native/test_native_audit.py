"""What `--benchmark` says so that it can be audited: the timed calls' own answers, one input alone, and where the time goes."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import pytest
from graphs import add_graph
from tiny_bundles import (
    WEIGHT,
    build_detector,
    build_graph,
    build_manifest,
    build_segmenter,
    detector_manifest,
    save,
    segmenter_manifest,
    write_bundle,
)

from benchmarks import native
from benchmarks.timing import TimerSettings
from slipway_runtime import manifest as m
from train.data import label_maps

Infer = Callable[..., "subprocess.CompletedProcess[str]"]
#: A short warm-up that settles at once: what is timed matters here, not how long it takes.
TIMER = TimerSettings(seconds=0.01, window_ms=1, tolerance=1000)
QUICK = ("--benchmark", "--json", "--timer", TIMER.model_dump_json(), "--threads", 1, "--workers", 1)


def build_bundle(folder: Path, task: str) -> Path:
    if task == "classification":
        return write_bundle(folder, build_graph(), build_manifest())
    if task == "segmentation":
        return write_bundle(folder, build_segmenter(), segmenter_manifest())
    masks = np.random.default_rng(0).random((2, 4, 4), np.float32)
    found = np.array([[8, 8, 24, 24, 0.9], [2, 0, 30, 30, 0.8]], np.float32)
    return write_bundle(folder, build_detector(found, np.array([1, 2]), masks), detector_manifest((4, 4)))


@pytest.fixture(params=["classification", "segmentation", "detection"])
def bundle(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return build_bundle(tmp_path / "bundle", request.param)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return build_bundle(tmp_path / "bundle", "classification")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five images, all different; light, so that the detector finds something in each."""
    random = np.random.default_rng(1)
    for index in range(5):
        save(tmp_path / "images" / f"{index}.png", random.integers(130, 255, (40, 40, 3), np.uint8))
    return tmp_path / "images"


def report_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def lines_of(done: "subprocess.CompletedProcess[str]") -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("batch", [1, 2])
def test_the_timed_calls_answer_as_plain_ones(bundle: Path, images: Path, sanitized: Infer, batch: int) -> None:
    report = report_of(sanitized(bundle, images, *QUICK, "--answers", "--batch", batch))
    answers, lines = report["answers"], lines_of(sanitized(bundle, images, "--json"))
    batches = len(lines) // batch
    assert answers["e2e"] == lines[: batches * batch]
    for boundary in ("model", "host"):
        assert answers[boundary] == report["expected"][boundary]
        assert len(answers[boundary]) == batches
        assert len(report["boundaries"][boundary]["samples_us"]) % batches == 0
    assert answers["model"] == answers["host"]


def test_label_maps_are_those_that_are_written(tmp_path: Path, images: Path, sanitized: Infer) -> None:
    segmenter = build_bundle(tmp_path / "segmenter", "segmentation")
    report = report_of(sanitized(segmenter, images, *QUICK, "--answers", "--boundaries", "e2e"))
    assert sanitized(segmenter, images, "--out", tmp_path / "out").returncode == 0
    maps = [label_maps.load(path) for path in sorted((tmp_path / "out").glob("*.labels.png"))]
    assert report["answers"]["label_maps"] == [
        hashlib.sha256(each.astype(np.uint8).tobytes()).hexdigest() for each in maps
    ]


def test_hashes_are_of_the_outputs_bytes(bundle: Path, images: Path, tmp_path: Path, sanitized: Infer) -> None:
    report = report_of(sanitized(bundle, images, *QUICK, "--answers", "--boundaries", "model"))
    if report["onnxruntime"] != onnxruntime.__version__:
        pytest.skip("another ONNX Runtime may round otherwise")
    assert sanitized(bundle, images, "--inputs", tmp_path / "inputs").returncode == 0
    session = onnxruntime.InferenceSession(bundle / m.GRAPH_NAME, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = []
    for path in sorted((tmp_path / "inputs").glob("*.npy")):
        outputs = session.run(names, {"image": np.load(path)[None]})
        expected.append(
            {name: hashlib.sha256(each.tobytes()).hexdigest() for name, each in zip(names, outputs, strict=True)}
        )
    assert report["answers"]["model"] == expected


def test_control_another_graph_answers_otherwise(classifier: Path, images: Path, sanitized: Infer) -> None:
    add_graph(classifier, "model.int8.onnx", build_graph(WEIGHT * 1.001))
    report = report_of(sanitized(classifier, images, *QUICK, "--answers", "--precision", "int8"))
    whole = report_of(sanitized(classifier, images, *QUICK, "--answers"))
    plain = lines_of(sanitized(classifier, images, "--json"))
    assert all(mine != other for mine, other in zip(report["answers"]["e2e"], plain, strict=True))
    assert report["answers"]["e2e"] == lines_of(sanitized(classifier, images, "--json", "--precision", "int8"))
    for mine, other in zip(report["answers"]["model"], whole["expected"]["model"], strict=True):
        assert mine.keys() == other.keys()
        assert mine != other


def test_without_the_options_nothing_is_added(classifier: Path, images: Path, sanitized: Infer) -> None:
    report = report_of(sanitized(classifier, images, *QUICK))
    assert set(report) == {"boundaries", "folder", "peak_rss_mib", "onnxruntime"}
    assert set(report["boundaries"]) == {"model", "host", "e2e"}


def test_repeat_one_times_the_first_input_alone(classifier: Path, images: Path, sanitized: Infer) -> None:
    first, *_ = lines_of(sanitized(classifier, images, "--json"))
    report = report_of(sanitized(classifier, images, *QUICK, "--repeat-one", "--answers", "--stages"))
    assert report["answers"]["e2e"] == [first]
    assert [len(report["answers"][boundary]) for boundary in ("model", "host")] == [1, 1]
    assert set(report) == {
        "boundaries",
        "answers",
        "expected",
        "stages_us",
        "stages_invalid",
        "peak_rss_mib",
        "onnxruntime",
    }
    batches = report_of(sanitized(classifier, images, *QUICK, "--repeat-one", "--answers", "--batch", 3))
    assert len(batches["answers"]["e2e"]) == 3
    assert len(batches["answers"]["model"]) == 1


@pytest.fixture
def unequal(tmp_path: Path) -> Path:
    """A folder of a large image and a tiny one, which take very different times to decode."""
    random = np.random.default_rng(2)
    for name, side in (("a", 1500), ("b", 8)):
        save(tmp_path / "unequal" / f"{name}.png", random.integers(0, 255, (side, side, 3), np.uint8))
    return tmp_path / "unequal"


def test_samples_are_in_the_order_of_the_images(classifier: Path, unequal: Path, ort_infer: Infer) -> None:
    report = report_of(ort_infer(classifier, unequal, *QUICK, "--boundaries", "e2e", "--stages"))
    for samples in (report["boundaries"]["e2e"]["samples_us"], report["stages_us"]["decode"]):
        assert len(samples) >= 10
        assert median(samples[0::2]) > 10 * median(samples[1::2])


def test_stages_are_those_of_one_image(bundle: Path, images: Path, sanitized: Infer) -> None:
    report = report_of(sanitized(bundle, images, *QUICK, "--boundaries", "e2e", "--stages", "--batch", 2))
    stages = report["stages_us"]
    assert list(stages) == ["decode", "preprocess", "compute", "postprocess"]
    counts = {len(samples) for samples in stages.values()}
    assert len(counts) == 1
    assert counts.pop() % 5 == 0
    assert all(sample >= 0 for samples in stages.values() for sample in samples)
    assert all(median(samples) > 0 for samples in stages.values())
    assert "stages_invalid" in report


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--answers --json", "--benchmark"),
        ("--answers --benchmark", "--json"),
        ("--stages --benchmark", "--json"),
        ("--repeat-one", "--benchmark"),
        ("--repeat-one --benchmark --boundaries e2e,folder", "'folder' goes through all images"),
    ],
)
def test_options_that_mean_nothing_alone(
    classifier: Path, images: Path, sanitized: Infer, options: str, says: str
) -> None:
    done = sanitized(classifier, images, *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr.splitlines()[0]


def test_the_harness_reads_it(classifier: Path, images: Path, binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, str(binary))
    add_graph(classifier, "model.int8.onnx", build_graph(WEIGHT * 2))
    paths = sorted(images.iterdir())
    found = {}
    for precision in ("fp32", "int8"):
        program = native.Program(classifier, m.read(classifier), "cpu", 1, precision)
        plain = program.measure(paths, "e2e", 1, TIMER)
        assert (plain.answers, plain.expected, plain.stages_us) == (None, None, None)
        report = program.measure(paths, "e2e", 1, TIMER, answers=True, stages=True)
        assert report.answers
        assert report.answers.e2e == [line.removesuffix("\n") for line in program.lines(paths, "--json")]
        assert report.stages_us
        assert len(report.stages_us.compute) % len(paths) == 0
        found[precision] = report.answers.e2e
        host = program.measure(paths, "host", 2, TIMER, answers=True, repeat_one=True)
        assert host.answers
        assert host.expected
        assert len(host.answers.host) == 1
        assert host.answers.host == host.expected.host
    assert found["fp32"] != found["int8"]
