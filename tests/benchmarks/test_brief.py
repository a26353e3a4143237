"""The short table, and the README that shows it."""

from pathlib import Path

import pytest

from benchmarks import brief, results
from train.errors import UsageError

ROOT = Path(__file__).parents[2]
STORED = sorted((ROOT / "benchmarks" / "results").rglob("results.jsonl"))


def test_the_readme_shows_what_was_measured() -> None:
    assert STORED
    table = brief.render([results.read(path) for path in STORED])
    assert f"{brief.BEGIN}\n{table}{brief.END}" in (ROOT / "README.md").read_text(), "make readme"


def test_every_backend_has_a_line_with_its_numbers() -> None:
    result = results.read(STORED[0])
    lines = brief.render([result]).splitlines()
    row = next(row for row in result.rows if (row.backend, row.batch, row.boundary) == ("onnxruntime", 1, "model"))
    line = next(line for line in lines if "| onnxruntime |" in line)
    assert f" {row.latency_ms_median:.2f} " in line
    assert row.artifact_sha256[:8] in line
    assert sum(result.experiment in line for line in lines) == len(result.matrix.backends)


def test_each_task_has_a_table_with_its_own_headline() -> None:
    classifier = next(found for found in map(results.read, STORED) if found.task == "classification")
    values = {"miou_percent": 61.5, "iou_percent/road": 80.0}
    accuracy = [entry.model_copy(update={"values": values}) for entry in classifier.accuracy]
    rows = [row.model_copy(update={"sizes": [(360, 480)]}) for row in classifier.rows]
    changes = {"experiment": "seg/x", "task": "segmentation", "accuracy": accuracy, "rows": rows}
    text = brief.render([classifier.model_copy(update=changes), classifier])
    assert [line.split(" | ")[2] for line in text.splitlines() if "backend" in line] == ["top-1 %", "mIoU %"]
    lines = [line for line in text.splitlines() if "seg/x" in line]
    assert len(lines) == len(classifier.matrix.backends)
    assert all("| 61.50 of " in line and "| 360×480 |" in line for line in lines)
    assert "road" not in text
    assert text.count("fp32 on ") == 1


def test_a_row_that_is_not_ok_shows_no_number() -> None:
    result = results.read(STORED[0]).model_copy(deep=True)
    for row in result.rows:
        row.status = "invalid"
    line = next(line for line in brief.render([result]).splitlines() if "| onnxruntime |" in line)
    assert line.count(" – ") >= 5


def test_insert_replaces_what_stands_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text(f"a\n{brief.BEGIN}\nold\n{brief.END}\nb\n")
    brief.insert(document, "new\n")
    assert document.read_text() == f"a\n{brief.BEGIN}\nnew\n{brief.END}\nb\n"
    document.write_text("no markers")
    with pytest.raises(UsageError, match="no place for a table"):
        brief.insert(document, "new\n")
