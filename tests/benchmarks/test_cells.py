"""`python -m benchmarks run` on a small real bundle: what is measured, skipped, refused, and what fails alone."""

import subprocess
import sys
from pathlib import Path

import journal_cases as cases
import numpy as np
import onnxruntime
import pytest
from colour_bench import BRIEF, NAME, Bench, write_data, write_graph

from benchmarks import matrix, process, results, run
from benchmarks.environment import ROOT
from benchmarks.journal import Run
from benchmarks.matrix import Matrix
from benchmarks.memory import peak_rss_mib
from benchmarks.outcome import Spec
from benchmarks.timing import TimerSettings
from train.experiment import Experiment
from train.files import sha256


def test_rows_accuracy_and_files(colours: Experiment, bench: Bench) -> None:
    code, found = bench(colours, "repetitions=2", "batch_sizes=[1, 4]")
    assert code == 0
    assert found["measured"]
    assert {(row["batch"], row["boundary"], row["status"]) for row in found["rows"]} == {
        (batch, boundary, "ok") for batch in (1, 4) for boundary in ("model", "host", "e2e")
    }
    stored = results.read(colours.bench / "results.jsonl")
    for row in stored.rows:
        samples_us = [value for repetition in stored.samples_us[row.key] for value in repetition]
        assert len(stored.samples_us[row.key]) == row.repetitions == 2
        assert row.samples == len(samples_us) >= 20
        assert row.latency_ms_median is not None
        assert row.latency_ms_median.value == pytest.approx(np.median(samples_us) / 1e3)
        assert row.latency_ms_median.low <= row.latency_ms_median.value <= row.latency_ms_median.high
        assert row.throughput_ips is not None
        # Wall time holds the samples and the loop around them: images / wall time is less than batch / mean.
        assert 0 < row.throughput_ips <= row.batch / (np.mean(samples_us) / 1e6) * 1.001
        assert row.peak_rss_mib is not None
        assert row.peak_rss_mib > 10
        assert row.artifact_sha256 == sha256(colours.bundle / "model.onnx")
        assert row.bundle_sha256 == sha256(colours.bundle / "manifest.json")
    (accuracy,) = stored.accuracy
    # Eight of nine labels are right.
    assert (accuracy.images, accuracy.values) == (9, {"top1_percent": pytest.approx(800 / 9), "top5_percent": 100})
    assert accuracy.artifact_sha256 == stored.rows[0].artifact_sha256
    assert "| onnxruntime | fp32 | 4 | e2e |" in (colours.bench / "report.md").read_text()
    assert sorted(path.name for path in colours.bench.iterdir()) == ["report.html", "report.md", "results.jsonl"]


def test_what_is_current_is_not_measured_again(colours: Experiment, bench: Bench) -> None:
    assert bench(colours)[1]["measured"]
    before = (colours.bench / "results.jsonl").read_bytes()
    assert bench(colours) == (0, {**results.read(colours.bench / "results.jsonl").summary(), "measured": False})
    assert (colours.bench / "results.jsonl").read_bytes() == before
    assert bench(colours, arguments=["--force"])[1]["measured"]
    assert (colours.bench / "results.jsonl").read_bytes() != before


def test_what_changed_is_measured_again(colours: Experiment, bench: Bench) -> None:
    assert bench(colours)[1]["measured"]
    assert bench(colours, "timer.seconds=0.03")[1]["measured"], "another matrix"
    write_graph(colours, gain=8)
    assert bench(colours, "timer.seconds=0.03")[1]["measured"], "another graph"
    (colours.bench / "results.jsonl").write_text("{")
    assert bench(colours, "timer.seconds=0.03")[1]["measured"], "half a line"
    assert not bench(colours, "timer.seconds=0.03")[1]["measured"]


def test_invalid_rows_are_stamped_and_measured_again(colours: Experiment, bench: Bench) -> None:
    never = "timer={seconds: 0.02, window_ms: 1, settled_windows: 20, max_windows: 19}"
    code, found = bench(colours, never)
    assert code == 6, "not one valid row"
    assert {row["status"] for row in found["rows"]} == {"invalid"}
    assert all(row["latency_ms_median"] for row in found["rows"])
    assert "**INVALID**" in (colours.bench / "report.md").read_text()
    assert bench(colours, never)[1]["measured"]


def test_showing_what_is_current_imports_no_engine(colours: Experiment, bench: Bench) -> None:
    bench(colours)
    arguments = ["run", NAME, "--work", str(colours.work), *(f"--set={override}" for override in BRIEF)]
    code = f"import sys; from benchmarks.__main__ import main; main({arguments}); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "current: " in found.stderr
    assert not {"torch", "onnxruntime", "mmengine", "scipy"} & set(found.stdout.split())


def test_a_failing_cell_fails_alone(colours: Experiment, bench: Bench) -> None:
    write_graph(colours, only_batch=1)
    code, found = bench(colours, "batch_sizes=[1, 2]", "repetitions=2", "accuracy_batch_size=1")
    assert code == 6
    assert {(row["batch"], row["status"]) for row in found["rows"]} == {(1, "ok"), (2, "failed")}
    reason = next(row["reason"] for row in found["rows"] if row["status"] == "failed")
    assert "onnxruntime: the graph failed on this input" in reason
    assert "\n" not in reason


def test_a_fixed_batch_makes_other_batches_unavailable(colours: Experiment, bench: Bench) -> None:
    write_graph(colours, batch=2)
    code, found = bench(colours, "batch_sizes=[1, 2]")
    assert code == 0
    assert {(row["batch"], row["status"]) for row in found["rows"]} == {(1, "unavailable"), (2, "ok")}
    assert "batch is fixed at 2" in found["rows"][0]["reason"]
    assert found["accuracy"][0]["images"] == 9


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here")
def test_a_missing_device_is_no_fall_back(colours: Experiment, bench: Bench) -> None:
    bench(colours)
    report = (colours.bench / "report.md").read_bytes()
    before = (colours.bench / "results.jsonl").read_bytes()
    code, found = bench(colours, arguments=["--device", "cuda"])
    assert code == 4
    assert {row["status"] for row in found["rows"]} == {"unavailable"}
    assert {row["device"] for row in found["rows"]} == {"cuda"}
    assert "CUDAExecutionProvider" in found["rows"][0]["reason"]
    assert all(row["latency_ms_median"] is None for row in found["rows"])
    assert (colours.bench / "results.jsonl").read_bytes().startswith(before)
    assert (colours.bench / "report.md").read_bytes() == report, "nothing does not replace something"
    assert results.read(colours.bench / "results.jsonl").device == "cpu"


def _error(
    capsys: pytest.CaptureFixture[str], experiment: Experiment, name: str = NAME, *extra: str
) -> tuple[int, str]:
    from benchmarks.__main__ import main
    from train import cli

    code = cli.run(main, ["run", name, "--work", str(experiment.work), *extra])
    assert not experiment.bench.exists(), "nothing was measured"
    return code, capsys.readouterr().err


def test_what_does_not_belong_together_is_refused(colours: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(colours.read().data["root"])
    write_data(root, fingerprint="e" * 64)
    code, text = _error(capsys, colours)
    assert (code, "has fingerprint eeeeeeeeeeee…" in text) == (3, True)
    write_data(root)
    manifest = colours.bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace(sha256(colours.checkpoint), "a" * 64))
    code, text = _error(capsys, colours)
    assert (code, "the bundle was exported from checkpoint aaaaaaaaaaaa…" in text) == (3, True)
    manifest.unlink()
    code, text = _error(capsys, colours)
    assert (code, "expected a bundle, found none" in text) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cls/colors",), "unknown experiment 'cls/colors': did you mean 'cls/colours'?"),
        ((NAME, "--set", "backends=[onnxruntme]"), "unknown backend 'onnxruntme': did you mean 'onnxruntime'?"),
        ((NAME, "--set", "batches=[1]"), "unknown key 'batches': did you mean 'batch_sizes'?"),
        ((NAME, "--config", "none.yaml"), "expected a benchmark configuration"),
    ],
)
def test_usage_errors(
    colours: Experiment, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, text = _error(capsys, colours, *arguments)
    assert code == 2
    assert text.startswith("error: ")
    assert message in text


def test_a_reason_names_no_folder_of_this_machine(colours: Experiment, bench: Bench) -> None:
    graph = colours.bundle / "model.onnx"
    manifest = colours.bundle / "manifest.json"
    old = sha256(graph)
    graph.write_bytes(b"no graph")
    manifest.write_text(manifest.read_text().replace(old, sha256(graph)))
    code, found = bench(colours)
    assert code == 6
    assert found["rows"][0]["reason"].startswith("cls/colours/bundle/model.onnx: not a usable ONNX file")
    assert str(colours.work) not in (colours.bench / "results.jsonl").read_text()


def _spec(experiment: Experiment) -> Spec:
    return Spec(
        work=experiment.work,
        experiment=NAME,
        backend="onnxruntime",
        precision="fp32",
        device="cpu",
        batch=1,
        repetition=0,
        boundaries=("model",),
        inputs=1,
        threads=1,
        seed=0,
        timer=TimerSettings(seconds=0.01, window_ms=1, tolerance=1000),
    )


def test_a_cell_that_takes_too_long_is_stopped(colours: Experiment) -> None:
    spec = _spec(colours).model_copy(update={"timer": TimerSettings(seconds=1000, max_calls=10**9)})
    outcome = process.run(spec, timeout_s=0.5)
    assert (outcome.status, outcome.reason) == ("failed", "took longer than cell_timeout_s = 0.5")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -9 $$", "the process was killed by SIGKILL"),
        ("echo noise >&2; echo 'error: no such graph' >&2; exit 3", "no such graph"),
        ("exit 7", "the process exited with 7"),
        ("exit 0", "the process exited with 0"),
    ],
)
def test_a_crash_becomes_a_reason(
    colours: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    outcome = process.run(_spec(colours), timeout_s=60)
    assert (outcome.status, outcome.reason) == ("failed", reason)


def test_cells_are_interleaved_in_a_seeded_random_order() -> None:
    subject: run.Subject = "exp"  # type: ignore[assignment]  # the order does not look into it
    lines = cases.records({engine: [] for engine in cases.ENGINES}, Matrix(backends=["pytorch", "onnxruntime"]))
    assert isinstance(lines[0], Run)
    plans = [plan.model_copy(update={"batch": batch}) for plan in lines[0].plan for batch in (1, 2, 3)]
    order = [plan for _, plan in run.schedule([(subject, plan) for plan in plans], seed=0)]
    rounds = [order[i : i + 6] for i in range(0, 18, 6)]
    assert [{plan.repetition for plan in block} for block in rounds] == [{0}, {1}, {2}]
    blocks = [[(plan.backend, plan.batch) for plan in block] for block in rounds]
    assert all(len(set(block)) == 6 for block in blocks)
    assert len({tuple(block) for block in blocks}) > 1
    again = [plan for _, plan in run.schedule([(subject, plan) for plan in plans], seed=0)]
    other = [plan for _, plan in run.schedule([(subject, plan) for plan in plans], seed=1)]
    assert order == again != other


def test_all_at_once(colours: Experiment, bench: Bench) -> None:
    code, found = bench(colours, "scenarios=[stream, offline]", "batch_sizes=[1, 2]")
    assert code == 0
    offline = [row for row in found["rows"] if row["scenario"] == "offline"]
    (row,) = offline
    assert (row["batch"], row["boundary"], row["status"]) == (2, "e2e", "ok")
    # A pass has 16 images; images a second follow from the passes.
    assert row["throughput_ips"] == pytest.approx(16 / (row["latency_ms_median"]["value"] / 1e3), rel=0.5)
    assert "| e2e offline |" in (colours.bench / "report.md").read_text()


def test_steps_from_file_to_prediction_add_up_to_the_whole(colours: Experiment, bench: Bench) -> None:
    code, found = bench(colours, "stages=true", "batch_sizes=[1, 2]", "timer.seconds=0.2")
    assert code == 0
    staged = {(row["batch"], row["boundary"]): row for row in found["rows"] if row["stages_ms"]}
    assert list(staged) == [(1, "e2e")]
    stages = staged[1, "e2e"]["stages_ms"]
    assert list(stages) == ["decode", "preprocess", "postprocess", "compute"]
    assert sum(stages.values()) == pytest.approx(staged[1, "e2e"]["latency_ms_median"]["value"], rel=0.5)


def test_a_shape_is_of_tensors(colours: Experiment, bench: Bench) -> None:
    code, found = bench(colours, "shapes=[null, [16, 24]]")
    assert code == 0
    rows = {(tuple(row["shape"] or ()), row["boundary"]): row for row in found["rows"]}
    assert set(rows) == {((), "model"), ((), "host"), ((), "e2e"), ((16, 24), "model"), ((16, 24), "host")}
    assert rows[(16, 24), "model"]["sizes"] == [[16, 24]]
    assert len(found["accuracy"]) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backends={pytorch: [int8]}", "pytorch has no int8, it has fp32"),
        ("backends={onnxruntime: [bf16]}", "bf16 is there with pytorch"),
    ],
)
def test_an_impossible_cell_is_a_wrong_matrix(
    colours: Experiment, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    code, text = _error(capsys, colours, NAME, "--set", override)
    assert code == 2
    assert message in text
    assert text.count("\n") == 1


def test_peak_memory_is_the_processes_own() -> None:
    ballast = np.ones(400 * 2**20, np.uint8)
    code = (
        "from benchmarks.memory import *; a = peak_rss_mib(); b = bytes(100 * 2**20) + b'x'; print(a, peak_rss_mib())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    before, after = map(float, found.stdout.split())
    # getrusage would report this process's own peak here, which a child inherits.
    assert before < 350 < ballast.nbytes / 2**20 < peak_rss_mib()
    assert after - before > 90


def test_the_brief_matrix_is_valid() -> None:
    path = ROOT / "configs" / "bench" / "quick.yaml"
    assert matrix.read(path, BRIEF).engines == [("onnxruntime", "fp32")]
