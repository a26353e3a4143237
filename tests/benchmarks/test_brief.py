"""The short table, and the README that shows it."""

from pathlib import Path

import pytest

from benchmarks import brief, results
from benchmarks.results import Results
from train import documents
from train.errors import UsageError

ROOT = Path(__file__).parents[2]
STORED = sorted((ROOT / "benchmarks" / "results").rglob("results.jsonl"))


def test_the_readme_shows_what_was_measured() -> None:
    assert STORED
    table = brief.render([results.read(path) for path in STORED])
    assert f"{brief.BEGIN}\n{table}{brief.END}" in (ROOT / "README.md").read_text(), "make readme"


def _stored() -> Results:
    """The demo's results."""
    return next(found for found in map(results.read, STORED) if found.experiment == "cls/resnet18_digits")


def test_every_engine_that_is_no_pytorch_has_a_line_and_of_pytorch_the_strongest() -> None:
    result = _stored()
    lines = brief.render([result]).splitlines()
    row = next(
        row for row in result.rows if (row.backend, row.precision, row.boundary) == ("onnxruntime", "fp32", "model")
    )
    assert row.latency_ms_median is not None
    line = next(line for line in lines if "| onnxruntime fp32 |" in line)
    assert f" {row.latency_ms_median.value:.2f} " in line
    assert row.artifact_sha256[:8] in line
    assert sum("| pytorch" in line for line in lines) <= 2
    shown = {line.split(" | ")[1] for line in lines if result.experiment in line}
    assert {f"{name} {precision}" for name, precision in result.matrix.engines if "pytorch" not in name} < shown
    assert sum("| strongest |" in line for line in lines) == 1


def test_each_task_has_a_table_with_its_own_headline() -> None:
    classifier = _stored()
    values = {"miou_percent": 61.5, "iou_percent/road": 80.0}
    accuracy = [entry.model_copy(update={"values": values}) for entry in classifier.accuracy]
    rows = [row.model_copy(update={"sizes": [(360, 480)]}) for row in classifier.rows]
    changes = {"experiment": "seg/x", "task": "segmentation", "accuracy": accuracy, "rows": rows}
    text = brief.render([classifier.model_copy(update=changes), classifier])
    assert [line.split(" | ")[2] for line in text.splitlines() if "| engine |" in line] == ["top-1 %", "mIoU %"]
    lines = [line for line in text.splitlines() if "seg/x" in line]
    assert len(lines) > 2
    assert all("| 61.50 of " in line and "| 360×480 |" in line for line in lines)
    assert "road" not in text
    assert text.count("threads; torch") == 1


def test_a_row_that_is_not_ok_shows_no_number() -> None:
    result = _stored().model_copy(deep=True)
    for row in result.rows:
        row.status = "invalid"
    line = next(line for line in brief.render([result]).splitlines() if "| onnxruntime fp32 |" in line)
    assert line.count(" – ") >= 5


def test_insert_replaces_what_stands_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text(f"a\n{brief.BEGIN}\nold\n{brief.END}\nb\n")
    documents.insert(document, "new\n", brief.BEGIN, brief.END)
    assert document.read_text() == f"a\n{brief.BEGIN}\nnew\n{brief.END}\nb\n"
    document.write_text("no markers")
    with pytest.raises(UsageError, match="no place for a table"):
        documents.insert(document, "new\n", brief.BEGIN, brief.END)
