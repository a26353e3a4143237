"""Whole folders: who runs when, what the numbers become, and where they are written."""

import json
from pathlib import Path

import pytest

from benchmarks import brief, native
from benchmarks.environment import ROOT, capture
from benchmarks.folder import __main__ as command
from benchmarks.folder import measure
from benchmarks.folder.measure import Folder, Stored
from train import cli, documents
from train.errors import BackendError
from train.experiment import Experiment


def folder(name: str = "cls/x") -> Folder:
    return Folder(
        experiment=name,
        images=10,
        sizes=[(8, 8), (9, 8)],
        seconds={
            "ort_infer": [[1.0, 1.0, 1.1], [1.0, 0.9, 1.0]],
            "slipway_runtime": [[2.0], [2.0]],
            "pytorch": [[5.0, 4.0], [4.0]],
        },
        graph_seconds=[[0.8, 0.8, 0.8], [0.8, 0.8, 0.8]],
        peak_rss_mib={"ort_infer": 90.0, "slipway_runtime": 200.0, "pytorch": 900.0},
    )


def test_numbers_of_a_folder() -> None:
    found = folder()
    assert found.images_per_second("ort_infer") == 10
    assert found.images_per_second("pytorch") == 2.5
    ratio = found.faster_than("slipway_runtime")
    assert (ratio.value, ratio.low <= 2 <= ratio.high) == (2, True)
    assert found.faster_than("pytorch").value == 4
    assert found.whole_to_graph().value == pytest.approx(1.25)


def test_each_round_has_an_order_of_its_own() -> None:
    rounds = measure.order(range(2), 20)
    cells = {(subject, way) for subject in (0, 1) for way in ("ort_infer", "slipway_runtime", "pytorch")}
    assert all(len(block) == 6 and set(block) == cells for block in rounds)
    assert len({tuple(block) for block in rounds}) > 15
    assert rounds == measure.order(range(2), 20)


def test_the_table(tmp_path: Path) -> None:
    stored = Stored(environment=capture(("onnxruntime",), 2, "cpu"), folders=[folder("cls/x"), folder("seg/y")])
    text = command.render(stored)
    assert "| cls/x | 10 of 8×8 to 9×8 (2 sizes) | `slipway_runtime` | 5.0 | 2.00 [" in text
    assert "| seg/y | 10 of 8×8 to 9×8 (2 sizes) | `ort_infer` | 10.0 | – | 1.250 [" in text
    assert "2 threads; onnxruntime " in text
    document = tmp_path / "native.md"
    document.write_text(f"# A\n{command.BEGIN}\nold\n{command.END}\n{brief.BEGIN}\nkept\n{brief.END}\n")
    documents.insert(document, text, command.BEGIN, command.END)
    assert document.read_text() == f"# A\n{command.BEGIN}\n{text}{command.END}\n{brief.BEGIN}\nkept\n{brief.END}\n"


def test_results_lie_with_the_machines_others() -> None:
    machine = capture((), 2, "cpu").model_copy(update={"cpu_model": "AMD EPYC 7B13 64-Core", "cores": 2})
    assert command.place(machine).parent.name == "amd-epyc-2-cores"
    assert command.place(machine).name not in ("results.jsonl", ""), "README's table takes those"


def test_the_page_shows_what_was_stored() -> None:
    stored = sorted((ROOT / "benchmarks" / "results").rglob("folder.json"))
    if not stored:
        pytest.skip("nothing stored yet")
    tables = [command.render(Stored.model_validate_json(path.read_text())) for path in stored]
    document = command.DOCUMENT.read_text()
    assert any(f"{command.BEGIN}\n{text}{command.END}" in document for text in tables), "make bench-folder"


@pytest.fixture(scope="module")
def _program() -> None:
    try:
        native.find()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("_program")
def test_end_to_end(digits_experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [digits_experiment.name, "--work", str(digits_experiment.work), "--rounds=2", "--images=3"]
    assert cli.run(command.main, [*arguments, "--dry", "--json"]) == 0
    (found,) = Stored.model_validate(json.loads(capsys.readouterr().out)).folders
    assert found.images == 3
    assert {way: len(rounds) for way, rounds in found.seconds.items()} == dict.fromkeys(command.TITLES, 2)
    assert [len(seconds) for seconds in found.seconds["slipway_runtime"]] == [measure.PASSES] * 2
    assert all(len(seconds) >= 5 for seconds in found.seconds["ort_infer"])
    assert all(value > 0 for rounds in found.seconds.values() for seconds in rounds for value in seconds)
    assert found.peak_rss_mib["ort_infer"] < found.peak_rss_mib["slipway_runtime"] < found.peak_rss_mib["pytorch"]
