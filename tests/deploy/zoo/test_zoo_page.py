"""docs/supported-models.md and the README's totals are made of stored results, and of nothing else."""

from pathlib import Path
from typing import Any

import pytest

from deploy import zoo
from deploy.zoo import page, run
from train import documents
from train.errors import InputError

FOUND: dict[str, Any] = dict(
    status="exact", reason="", nodes=30, mib=4.4, total_seconds=10.0, heads=1e-6, predictions=2e-5
)
THEIRS: dict[str, Any] = dict(
    exports=True, loads=False, library=True, agrees=True, custom=["mmdeploy::NMS"], reason="no such operator"
)


def results(**dynamic: Any) -> dict[run.Cell, dict[str, Any]]:
    first, second = zoo.select(zoo.read(), "PSPNet,ATSS")
    found = {cell: dict(FOUND) for cell in run.cells([first, second])}
    found[run.Cell(second, "dynamic")] |= dynamic
    return found


def theirs(**update: Any) -> dict[run.Cell, dict[str, Any]]:
    line = zoo.select(zoo.read(), "ATSS")[0]
    return {cell: {**THEIRS, **update} for cell in run.cells([line], ["mmdeploy"])}


def test_totals_count_what_is_exact() -> None:
    stored = page.gather({**results(status="refused", reason="a | loop"), **theirs()})
    text = page.brief(stored)
    assert "exports 2 models of mmpretrain, mmdet and mmseg: 2 (100 %) with a static shape " in text
    assert "and 1 (50 %) with one graph for every size" in text
    assert "for 0 static and 0 dynamic" in text, "MMDeploy's need a custom operator"
    assert "for 1 static and 1 dynamic" in page.brief(page.gather({**results(), **theirs(custom=[], loads=True)}))
    assert "1 more take one size themselves" in page.brief(page.gather(results(status="batch", reason="a layer")))


def test_the_page_has_a_row_a_model_and_a_reason_for_each_miss() -> None:
    text = page.render(page.gather({**results(status="refused", reason="a loop"), **theirs(agrees=False)}))
    (row,) = [line for line in text.splitlines() if line.startswith("| PSPNet |")]
    assert "| exact | refused | 1.0e-06 | 2.0e-05 | 30 | 4 | 20 |" in row
    assert "- PSPNet, dynamic: refused: a loop\n" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| ATSS |")]
    assert "| differs | differs | mmdeploy::NMS |" in row
    assert "- ATSS: static: no such operator; dynamic: no such operator\n" in text
    assert "| all | 2 | 2 (100 %) | 1 (50 %) | 0 | 1 | 1 / 0 / 0 | 1 / 0 / 0 |" in text


def test_mmdeploys_results_of_before_are_kept() -> None:
    before = page.gather({**results(), **theirs()})
    (kept,) = [model for model in page.gather(results(), before).models if model.line.model == "ATSS"]
    assert kept.mmdeploy["static"]["custom"] == ["mmdeploy::NMS"]


def test_both_documents_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORED", "PAGE", "README"):
        monkeypatch.setattr(page, name, tmp_path / name)
    page.README.write_text(f"# A\n{page.BEGIN}\nold\n{page.END}\nz\n")
    stored = page.gather(results())
    page.write(stored)
    assert page.read(page.STORED) == stored
    assert page.PAGE.read_text() == page.render(stored)
    assert page.README.read_text() == f"# A\n{page.BEGIN}\n{page.brief(stored)}{page.END}\nz\n"
    page.STORED.write_text("{}")
    with pytest.raises(InputError, match="run make zoo"):
        page.read(page.STORED)


def test_the_committed_page_is_of_the_committed_results() -> None:
    stored = page.read()
    assert page.PAGE.read_text() == page.render(stored)
    assert documents.between(page.README, page.BEGIN, page.END) == page.brief(stored)
    assert {model.line.model for model in stored.models} == {line.model for line in zoo.read()}
    by_name = {line.model: line for line in zoo.read()}
    for model in stored.models:
        for shape in zoo.SHAPES:
            assert model.status(shape) == by_name[model.line.model].expected(shape), model.line
