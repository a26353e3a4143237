"""Results on disk, their gates, and the Markdown made of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as cli_room
from benchmarks import environment, gates, report, results
from benchmarks.matrix import Matrix
from benchmarks.results import Accuracy, Ratio, Results, Row
from train import cli
from train.errors import BackendError, InputError, MeasurementError, VerificationError

SHA = {"pytorch": "a1" * 32, "onnxruntime": "b2" * 32}


def _row(backend: str, **changes: Any) -> Row:
    made = Row(
        experiment="cls/x",
        backend=backend,
        device="cpu",
        precision="fp32",
        batch=1,
        boundary="model",
        artifact_sha256=SHA[backend],
        bundle_sha256="c3" * 32,
        status="ok",
        repetitions=3,
        samples=100,
        latency_ms_median=2.5,
        latency_ms_p90=2.75,
        throughput_ips=390.04,
        peak_rss_mib=241.6,
    )
    return made.model_copy(update=changes)


def _accuracy(backend: str, top1: float) -> Accuracy:
    values = {"top1_percent": top1, "top5_percent": 99.5}
    return Accuracy(
        backend=backend, device="cpu", precision="fp32", artifact_sha256=SHA[backend], images=2000, values=values
    )


def _results(*rows: Row, top1: float = 90.0, **changes: Any) -> Results:
    rows = rows or (_row("pytorch"), _row("onnxruntime", speedup=Ratio(value=2.0, low=1.9, high=2.1)))
    made = Results(
        experiment="cls/x",
        task="classification",
        fingerprint="d4",
        data_fingerprint="e5",
        parity_passed=True,
        environment=environment.capture(["torch"], 2, "cpu"),
        matrix=Matrix(),
        rows=list(rows),
        accuracy=[_accuracy("pytorch", 90.0), _accuracy("onnxruntime", top1)],
        samples_us={row.key: [[2500.0, 2400.5], [2600.1]] for row in rows},
    )
    return made.model_copy(update=changes)


def test_results_survive_the_disk(tmp_path: Path) -> None:
    made = _results()
    path = tmp_path / "results.json"
    results.write(path, made)
    assert results.read(path) == made
    assert "[ 2500.0, 2400.5 ]" in path.read_text(), "samples lie on one line"
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected benchmark results"),
        ("{", "expected benchmark results"),
        ("[]", "schema_version None, this program reads 1"),
        ('{"schema_version": 2}', "schema_version 2, this program reads 1"),
        ('{"schema_version": 1}', "experiment: Field required"),
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        results.read(path)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        results.write(tmp_path / "results.json", _results(_row("pytorch", throughput_ips=float("nan"))))
    assert not list(tmp_path.iterdir())


def _table(text: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_table_shows_every_number_with_its_unit() -> None:
    assert _table(report.render([_results()]))[1] == {
        "backend": "onnxruntime",
        "precision": "fp32",
        "batch": "1",
        "boundary": "model",
        "median ms": "2.500",
        "p90": "2.750",
        "p95": "–",
        "p99": "–",
        "images/s": "390.0",
        "vs pytorch [95 % CI]": "2.00× [1.90, 2.10]",
        "top-1 %": "90.00",
        "top-5 %": "99.50",
        "peak MiB": "242",
        "artifact": "b2b2b2b2",
        "status": "ok",
    }


def test_the_remarks_say_delta_parity_and_environment() -> None:
    text = report.render([_results(top1=89.98)])
    assert "Δ top-1 of onnxruntime fp32 against pytorch: -0.020 percentage points over 2000 images (gate: 0.05)" in text
    assert "Parity of the bundle: passed" in text
    assert "cpu on " in text
    assert "2 threads" in text
    assert "p90 64, p95 130, p99 662" in text
    assert "**FAILED**" in report.render([_results(parity_passed=False)])
    assert "not checked (no parity.json)" in report.render([_results(parity_passed=None)])
    assert "One process" in report.render([_results(matrix=Matrix(repetitions=1))])


@pytest.mark.parametrize(
    ("status", "stamp"), [("invalid", "**INVALID**"), ("unavailable", "unavailable"), ("failed", "failed")]
)
def test_a_row_that_is_not_ok_is_stamped_with_its_reason(status: str, stamp: str) -> None:
    text = report.render([_results(_row("pytorch", status=status, reason="did\nnot | work"))])
    (row,) = _table(text)
    assert row["status"] == stamp
    assert f"- {stamp}: did not | work (pytorch cpu fp32 b1 model)" in text
    # An invalid row's numbers are shown; of the others there are none, so no accuracy either.
    assert (row["top-1 %"] == "–") == (status != "invalid")
    assert "INVALID" not in report.render([_results()])


def test_the_remarks_name_the_inputs_sizes() -> None:
    rows = [
        _row("pytorch", sizes=[(224, 224)]),
        _row("onnxruntime", sizes=[(224, 224)]),
        _row("onnxruntime", boundary="e2e", sizes=[(100, 90), (375, 500)]),
    ]
    text = report.render([_results(*rows)])
    assert "- Inputs of 224×224 pixels (b1 model)." in text
    assert "- Inputs of 100×90 to 375×500 (2 sizes) pixels (b1 e2e)." in text
    assert "Inputs of" not in report.render([_results()]), "results stored before sizes were"
    assert "windows" not in text
    assert "`e2e` whole images" in report.render([_results(_row("pytorch", unit="window"))])


def test_good_results_pass_the_gates() -> None:
    assert gates.verdict(_results(top1=90.05)) is None
    assert gates.verdict(_results(_row("pytorch"), _row("onnxruntime", status="invalid", reason="noise"))) is None
    assert gates.verdict(_results(_row("pytorch", status="unavailable", reason="no"), _row("onnxruntime"))) is None


@pytest.mark.parametrize("top1", [89.94, 90.06])
def test_an_accuracy_difference_fails_either_way(top1: float) -> None:
    error = gates.verdict(_results(top1=top1))
    assert isinstance(error, VerificationError)
    assert f"top1 of onnxruntime fp32 is {top1:.3f} %, of pytorch 90.000 %: {top1 - 90:+.3f} points" in str(error)


@pytest.mark.parametrize(
    ("statuses", "error", "message"),
    [
        (("unavailable", "unavailable"), BackendError, "nothing could be measured. pytorch: why; onnxruntime: why"),
        (("ok", "failed"), MeasurementError, "onnxruntime cpu fp32 b1 model failed: why"),
        (("invalid", "invalid"), MeasurementError, "no row is valid; first: why"),
        (("unavailable", "invalid"), MeasurementError, "no row is valid"),
    ],
)
def test_rows_that_end_a_run_badly(statuses: tuple[str, str], error: type[Exception], message: str) -> None:
    rows = [_row(name, status=status, reason="why") for name, status in zip(SHA, statuses, strict=True)]
    found = gates.verdict(_results(*rows))
    assert type(found) is error
    assert message in str(found)


def test_the_report_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        made = _results(experiment=f"cls/{name}")
        results.write(tmp_path / "cls" / name / "bench" / "results.json", made)
    assert cli.run(cli_room.main, ["report", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# cls/a", "# cls/b"]
    assert cli.run(cli_room.main, ["report", str(tmp_path / "cls/a/bench/results.json"), "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["experiments"].values()
    assert only["rows"][1]["speedup"]["value"] == 2.0
    assert "samples_us" not in only


def test_the_report_verb_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(cli_room.main, ["report", str(tmp_path)]) == 3
    assert "expected results.json somewhere below" in capsys.readouterr().err
