"""`python -m benchmarks audit`: a process a backend, a table, a file and an exit code."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from colour_bench import NAME

from benchmarks.__main__ import main
from benchmarks.audit import Audit, Finding, command, run
from train import cli
from train.errors import BackendError, MeasurementError
from train.experiment import Experiment

BRIEF = [
    "inputs=2",
    "threads=1",
    "timer={seconds: 0.05, min_calls: 4, window_ms: 2, window_calls: 2, settled_windows: 2, tolerance: 1000}",
]


def audit(experiment: Experiment, *arguments: str) -> int:
    sets = [f"--set={override}" for override in BRIEF]
    return cli.run(main, ["audit", experiment.name, "--work", str(experiment.work), *sets, *arguments])


def finding(passed: bool | None) -> Finding:
    return Finding(check="timer", boundary="host", passed=passed, detail="x")


def test_onnxruntime_passes_and_what_is_not_here_is_named(
    colours: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    code = audit(colours, "--json", "--backends", "onnxruntime", "onnxruntime:int8", "--set", "boundaries=[model]")
    printed = capsys.readouterr()
    found = json.loads(printed.out)["experiments"][NAME]
    by_check = {each["check"]: each for each in found[0]["findings"]}
    assert set(by_check) == {"answers", "caching", "timer", "synchronisation"}
    # Calls of microseconds: what differs by a tenth of them on a busy machine is not what this test is about.
    assert by_check["answers"]["passed"]
    assert by_check["timer"]["passed"]
    assert code == (0 if all(each["passed"] for each in by_check.values()) else 6), printed.err
    assert (found[1]["status"], found[1]["findings"]) == ("unavailable", [])
    assert "no model.int8.onnx in the bundle" in printed.err
    written = json.loads((colours.bench / run.FILE_NAME).read_text())
    assert written["audits"] == found
    assert written["experiment"] == NAME
    assert len(written["bundle_sha256"]) == 64


def test_nothing_that_can_run_is_exit_code_4(colours: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(colours, "--backends", "onnxruntime:int8") == 4
    assert "nothing can run here: no model.int8.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--backends", "onnxruntim"], ["--backends", "onnxruntime:fp8"], ["--backends", "pytorch:int8"]]
)
def test_what_does_not_exist_is_exit_code_2(colours: Experiment, arguments: list[str]) -> None:
    assert audit(colours, *arguments) == 2
    assert not (colours.bench / run.FILE_NAME).exists()


def test_a_backend_that_breaks_is_exit_code_6(
    colours: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "ort_infer"
    program.write_text("#!/bin/sh\necho 'error: broken' >&2\nexit 3\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("ORT_INFER", str(program))
    assert audit(colours, "--backends", "ort_infer") == 6
    assert "| failed: broken |" in capsys.readouterr().err


def test_the_program_is_audited_where_it_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks.matrix import Matrix

    monkeypatch.setenv("ORT_INFER", str(tmp_path / "missing"))
    assert ("ort_infer", "fp32") not in run._default(Matrix())
    monkeypatch.setenv("ORT_INFER", os.environ.get("SHELL", "/bin/sh"))
    assert ("ort_infer", "fp32") in run._default(Matrix())


@pytest.mark.parametrize(
    ("audits", "error"),
    [
        ([("ok", [True, None])], None),
        ([("ok", [True]), ("unavailable", [])], None),
        ([("ok", [True, False])], MeasurementError),
        ([("ok", [True]), ("failed", [])], MeasurementError),
        ([("unavailable", [])], BackendError),
    ],
)
def test_judgement(audits: list[Any], error: type[Exception] | None) -> None:
    made = [
        Audit(backend="x", precision="fp32", status=status, reason="r", findings=[finding(passed) for passed in each])
        for status, each in audits
    ]
    if error is None:
        return command.judge(made)
    with pytest.raises(error, match="audit: "):
        command.judge(made)
    return None


def test_the_table_names_every_verdict() -> None:
    made = Audit(backend="x", precision="bf16", findings=[finding(True), finding(False), finding(None)])
    text = command.table("cls/x", [made, Audit(backend="y", precision="fp32", status="unavailable", reason="why")])
    assert [line.split(" | ")[3] for line in text.splitlines()[4:]] == ["yes", "NO", "–", "–"]
    assert "unavailable: why" in text
