"""The Markdown made of results."""

import json
from pathlib import Path
from typing import Any

import journal_cases as cases
import pytest

from benchmarks import __main__ as cli_room
from benchmarks import environment, report, rows
from benchmarks.matrix import Matrix
from benchmarks.results import Accuracy, Interval, Results, Row
from train import cli

SHA = {"pytorch": "a1" * 32, "onnxruntime": "b2" * 32}


def _interval(value: float) -> Interval:
    return Interval(value=value, low=value * 0.95, high=value * 1.05)


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
        latency_ms_median=_interval(2.5),
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
    strongest = "pytorch cpu fp32 b1 model"
    second = _row("onnxruntime", speedup=_interval(2), speedup_eager=_interval(3), strongest=strongest)
    rows = rows or (_row("pytorch", strongest=strongest), second)
    made = Results(
        experiment="cls/x",
        task="classification",
        device="cpu",
        date_utc="2026-01-02T03:04:05+00:00",
        bundle_sha256="c3" * 32,
        data_fingerprint="e5",
        parity_passed=True,
        environment=environment.capture(["torch"], 2, "cpu"),
        matrix=Matrix(),
        rows=list(rows),
        accuracy=[_accuracy("pytorch", 90.0), _accuracy("onnxruntime", top1)],
        samples_us={row.key: [[2500.0, 2400.5], [2600.1]] for row in rows},
    )
    return made.model_copy(update=changes)


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
        "vs strongest PyTorch [95 % CI]": "2.00× [1.90, 2.10]",
        "vs eager [95 % CI]": "3.00× [2.85, 3.15]",
        "top-1 %": "90.00",
        "top-5 %": "99.50",
        "peak MiB": "242",
        "artifact": "b2b2b2b2",
        "status": "ok",
    }


def test_the_remarks_say_delta_parity_and_environment() -> None:
    text = report.render([_results(top1=89.98)])
    assert "Δ top-1 of onnxruntime fp32 against pytorch fp32: -0.020 percentage points over 2000 images." in text
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


def test_a_column_in_which_nothing_stands_is_left_out() -> None:
    assert not {"shape", "J/image"} & set(_table(report.render([_results()]))[0])
    rows = [_row("pytorch", shape=(32, 64), energy_j_per_image=0.5), _row("onnxruntime")]
    assert [(line["shape"], line["J/image"]) for line in _table(report.render([_results(*rows)]))] == [
        ("32×64", "0.500"),
        ("–", "–"),
    ]


def test_ratios_are_to_the_strongest_pytorch_row_to_eager_and_to_fp32() -> None:
    engines = {
        ("pytorch", "fp32"): 4000.0,
        ("pytorch-channels-last", "fp32"): 3000.0,
        ("onnxruntime", "fp32"): 2000.0,
        ("onnxruntime", "int8"): 1000.0,
    }
    matrix = Matrix(
        backends={"pytorch": "fp32", "pytorch-channels-last": "fp32", "onnxruntime": ["fp32", "int8"]},
        batch_sizes=(1,),
        boundaries=("model",),
        scenarios=("stream",),
    )
    found = rows.assemble(cases.records({each: [cases.outcome(us)] * 3 for each, us in engines.items()}, matrix))
    values = [
        [each and each.value for each in (row.speedup, row.speedup_eager, row.speedup_fp32)] for row in found.rows
    ]
    assert values == [[0.75, None, None], [None, 4 / 3, None], [1.5, 2, None], [3, 4, 2]]
    assert {row.strongest for row in found.rows} == {"pytorch-channels-last cpu fp32 b1 model"}
    text = report.render([found])
    assert "| vs its fp32 [95 % CI] |" in text
    assert "| 2.00× [2.00, 2.00] |" in text


def test_a_pytorch_row_that_lost_its_accuracy_is_not_the_strongest() -> None:
    worse = {"top1_percent": 50.0, "top5_percent": 99.5}
    found = rows.assemble(
        cases.records(
            {
                ("pytorch", "fp32"): [cases.outcome(4000.0)] * 3,
                ("pytorch-channels-last", "fp32"): [cases.outcome(3000.0, accuracy=worse)] * 3,
            }
        )
    )
    assert {row.strongest for row in found.rows} == {"pytorch cpu fp32 b1 model"}


def test_the_report_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        found = {engine: [cases.outcome(us)] * 3 for engine, us in zip(cases.ENGINES, (5000.0, 2500.0), strict=True)}
        lines = cases.records(found, experiment=f"cls/{name}")
        cases.write(tmp_path / "cls" / name / "bench" / "results.jsonl", lines)
    assert cli.run(cli_room.main, ["report", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# cls/a", "# cls/b"]
    assert cli.run(cli_room.main, ["report", str(tmp_path / "cls/a/bench/results.jsonl"), "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["experiments"].values()
    assert only["rows"][1]["speedup"]["value"] == 2
    assert "samples_us" not in only


def test_the_report_verb_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(cli_room.main, ["report", str(tmp_path)]) == 3
    assert "expected results.jsonl somewhere below" in capsys.readouterr().err
