"""Two results, before and after: what got worse fails, what only varies does not."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import journal_cases as cases
import numpy as np
import pytest

from benchmarks import __main__ as cli_room
from benchmarks import environment
from benchmarks.journal import Record
from benchmarks.outcome import Outcome
from deploy import metrics
from train import cli

IMAGES = 400
ENGINE = ("onnxruntime", "fp32")
Diff = Callable[..., tuple[int, str, str]]


def _packed(wrong: int) -> tuple[dict[str, float], str]:
    """Top-1 and what is kept by image, where the first `wrong` images are wrong."""
    right = np.arange(IMAGES) >= wrong
    return {"top1_percent": 100 * float(right.mean())}, metrics.pack(truth=np.arange(IMAGES) % 5, right=right)


def _outcomes(seed: int, scale: float = 1.0, wrong: int = 40, spread: float = 0.02) -> list[Outcome]:
    """Three processes with a spread of their own, 100 calls each."""
    rng = np.random.default_rng(seed)
    values, packed = _packed(wrong)
    samples = [2500 * scale * rng.lognormal(sigma=spread) * rng.lognormal(sigma=0.05, size=100) for _ in range(3)]
    return [cases.outcome(*each, accuracy=values, per_image=packed) for each in samples]


def _machine(**changes: Any) -> environment.Environment:
    """This one, and quiet."""
    return environment.capture(["torch"], 2, "cpu").model_copy(update={"load_average_1m": 0.1} | changes)


def _records(outcomes: Sequence[Outcome], **changes: Any) -> list[Record]:
    changes.setdefault("environment", _machine())
    return cases.records({("pytorch", "fp32"): _outcomes(99, scale=3), ENGINE: outcomes}, **changes)


@pytest.fixture
def diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Diff:
    """Run the verb on two journals: exit code, stdout, stderr."""

    def run(before: list[Record], after: list[Record], *arguments: str) -> tuple[int, str, str]:
        for old in tmp_path.glob("*/results.jsonl"):
            old.unlink()
        files = [cases.write(tmp_path / side / "results.jsonl", lines) for side, lines in (("a", before), ("b", after))]
        code = cli.run(cli_room.main, ["diff", *map(str, files), *arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def _table(text: str, first: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    start = next(i for i, line in enumerate(lines) if line[0] == first)
    rest = lines[start + 2 :]
    end = next((i for i, line in enumerate(rest[1:]) if set(line) == {"---"}), len(rest))
    return rest[:end]


def test_noise_alone_passes(diff: Diff) -> None:
    code, text, error = diff(_records(_outcomes(1)), _records(_outcomes(2)))
    assert (code, error) == (0, "")
    rows = _table(text, "row")
    assert [row[0] for row in rows] == ["pytorch cpu fp32 b1 model", "onnxruntime cpu fp32 b1 model"]
    assert all(row[-1] in ("pass", "undecided") for row in rows)
    (_, entry) = _table(text, "accuracy")
    assert entry == ["onnxruntime fp32", "top1", "90.000", "90.000", "+0.000 [+0.000, +0.000], McNemar's p = 1", "pass"]
    assert ">" not in text.splitlines()[2], "no warning"


@pytest.mark.parametrize("seed", range(6))
def test_noise_between_processes_does_not_fail(diff: Diff, seed: int) -> None:
    """Medians of three noisy processes differ by more than the limit, and the interval knows."""
    code, _, _ = diff(_records(_outcomes(seed, spread=0.1)), _records(_outcomes(seed + 100, spread=0.1)))
    assert code == 0


def test_a_slow_down_fails(diff: Diff) -> None:
    code, text, error = diff(_records(_outcomes(1)), _records(_outcomes(2, scale=1.4)))
    assert code == 6
    assert "cls/x: onnxruntime cpu fp32 b1 model takes 1.4" in error
    assert "as long as before; at most 1.05× is allowed (diff.slower_percent in gates.yaml)" in error
    assert [row[-1] for row in _table(text, "row")][1] == "fail"
    # The other way round it got faster, which is none.
    assert diff(_records(_outcomes(2, scale=1.4)), _records(_outcomes(1)))[0] == 0


def test_twenty_percent_slower_is_a_regression_on_a_quiet_machine(diff: Diff) -> None:
    quiet = [_records(_outcomes(seed, scale, spread=0.005)) for seed, scale in ((1, 1.0), (2, 1.0), (3, 1.2))]
    code, text, _ = diff(quiet[0], quiet[1])
    assert (code, text.splitlines()[-1].split(":")[0]) == (0, "**No change**")
    code, text, error = diff(quiet[0], quiet[2])
    assert code == 6
    assert "takes 1.2" in error
    assert text.splitlines()[-1] == "**Worse than before.**"


def test_the_limit_is_the_files(diff: Diff, tmp_path: Path) -> None:
    loose = tmp_path / "gates.yaml"
    loose.write_text("diff: {slower_percent: 100}")
    before, after = _records(_outcomes(1)), _records(_outcomes(2, scale=1.4))
    assert diff(before, after, "--gates", str(loose))[0] == 0


def test_a_slow_down_within_the_noise_is_undecided(diff: Diff) -> None:
    code, text, _ = diff(_records(_outcomes(1)), _records(_outcomes(2, scale=1.06)))
    assert code == 0
    assert _table(text, "row")[1][-1] == "undecided"
    assert "undecided: the interval holds the limit" in text


def test_lost_accuracy_fails_before_speed_does(diff: Diff) -> None:
    code, text, error = diff(_records(_outcomes(1)), _records(_outcomes(2, scale=1.4, wrong=52)))
    assert code == 5
    assert "top1 of onnxruntime fp32 was 90.000 %, is 87.000 %: -3.000 points, at most 0.05 may be lost" in error
    entry = _table(text, "accuracy")[1]
    assert entry[-1] == "fail"
    assert entry[4].startswith("-3.000 [-4.")
    assert entry[4].endswith("McNemar's p = 0.000488")
    gained = diff(_records(_outcomes(1, wrong=52)), _records(_outcomes(2)))
    assert gained[0] == 0, "a gain is no loss"


def test_without_per_image_data_the_values_decide(diff: Diff) -> None:
    before, after = (
        _records([each.model_copy(update={"per_image": None}) for each in _outcomes(1, wrong=wrong)])
        for wrong in (40, 52)
    )
    code, text, _ = diff(before, after)
    assert code == 5
    assert _table(text, "accuracy")[1][4] == "-3.000"


def test_another_machine_is_warned_of_and_its_times_are_not_judged(diff: Diff) -> None:
    other = _machine(cpu_model="Another", versions={"numpy": "9"})
    code, text, _ = diff(_records(_outcomes(1)), _records(_outcomes(2, scale=2), environment=other))
    assert code == 0
    assert "> **another machine: cpu_model was " in text
    assert ", is Another; times are shown, not judged**" in text
    assert ", is numpy 9**" in text
    assert {row[-1] for row in _table(text, "row")} == {"undecided"}
    # Accuracy is: it does not depend on the machine's speed.
    assert diff(_records(_outcomes(1)), _records(_outcomes(2, wrong=52), environment=other))[0] == 5


def test_other_versions_are_warned_of_and_judged(diff: Diff) -> None:
    other = _machine(versions={"numpy": "9"})
    code, text, _ = diff(_records(_outcomes(1)), _records(_outcomes(2, scale=2), environment=other))
    assert code == 6
    assert ", is numpy 9**" in text


def test_a_busy_machine_is_warned_of(diff: Diff) -> None:
    busy = _machine(load_average_1m=70.5, cores=2)
    code, text, _ = diff(_records(_outcomes(1)), _records(_outcomes(2), environment=busy))
    assert code == 0
    assert "> **the machine was busy after, load 70.5 on 2 cores: measure on a quiet one**" in text
    assert "busy before" not in text


def test_another_data_set_has_another_accuracy(diff: Diff) -> None:
    after = _records(_outcomes(2, wrong=80), data_fingerprint="f6")
    code, text, _ = diff(_records(_outcomes(1)), after)
    assert code == 0
    assert "> **another data set: accuracy is not compared**" in text
    assert "- not compared: accuracy of onnxruntime fp32: counted over another data set" in text


def test_rows_of_one_side_are_named(diff: Diff) -> None:
    before = cases.records({("pytorch", "fp32"): _outcomes(98, scale=3), ("ort_infer", "fp32"): _outcomes(1)})
    code, text, _ = diff(before, _records(_outcomes(2)))
    assert code == 0
    assert "- not compared: ort_infer cpu fp32 b1 model: only before" in text
    assert "- not compared: onnxruntime cpu fp32 b1 model: only after" in text
    assert "- not compared: accuracy of ort_infer fp32: only before" in text


def test_a_row_that_broke_fails_and_one_that_is_invalid_is_named(diff: Diff) -> None:
    broken = [Outcome(status="failed", reason="out of memory")] * 3
    code, text, error = diff(_records(_outcomes(1)), _records(broken))
    assert code == 6
    assert "was ok before, failed after: onnxruntime cpu fp32 b1 model: out of memory" in error
    assert "- failed: onnxruntime cpu fp32 b1 model: out of memory" in text
    invalid = [cases.outcome(timings={"model": cases.timing(invalid="noise")}) for _ in range(3)]
    code, text, _ = diff(_records(_outcomes(1)), _records(invalid))
    assert code == 0
    assert "- not compared: onnxruntime cpu fp32 b1 model: after it is invalid: noise" in text


def test_nothing_in_common_is_no_pass(diff: Diff) -> None:
    code, _, error = diff(_records(_outcomes(1)), _records(_outcomes(1), experiment="cls/y"))
    assert code == 3
    assert "nothing to compare: before has cls/x, after has cls/y" in error
    gone = cases.records({("pytorch", "fp32"): [Outcome(status="unavailable", reason="no torch")] * 3})
    code, _, error = diff(gone, gone)
    assert code == 6
    assert "nothing to compare: pytorch cpu fp32 b1 model: before it is unavailable: no torch" in error


def test_json(diff: Diff) -> None:
    code, text, _ = diff(_records(_outcomes(1)), _records(_outcomes(2, scale=1.4)), "--json")
    assert code == 6
    (change,) = json.loads(text)["experiments"]
    assert change["rows"][1]["status"] == "fail"
    assert change["rows"][1]["slower"]["low"] > 1.05
    assert change["accuracy"][1]["comparison"]["points"] == {"value": 0, "low": 0, "high": 0}


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, seed in (("a", 1), ("b", 2)):
        for name in ("x", "y"):
            file = tmp_path / side / "cls" / name / "bench" / "results.jsonl"
            cases.write(file, _records(_outcomes(seed), experiment=f"cls/{name}"))
    folders = [str(tmp_path / side) for side in "ab"]
    assert cli.run(cli_room.main, ["diff", *folders]) == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# cls/x", "# cls/y"]
    assert cli.run(cli_room.main, ["diff", str(tmp_path), folders[1]]) == 3
    assert "two results of cls/x below; name the file of one" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.run(cli_room.main, ["diff", str(tmp_path / "empty"), folders[1]]) == 3
    assert "expected results.jsonl somewhere below" in capsys.readouterr().err
