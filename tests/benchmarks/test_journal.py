"""`results.jsonl`: appended, never altered, and whole up to the moment of a crash."""

from pathlib import Path

import journal_cases as cases
import pytest

from benchmarks import journal, results
from train.errors import InputError

FOUND = {engine: [cases.outcome()] * 3 for engine in cases.ENGINES}


def test_records_survive_the_disk(tmp_path: Path) -> None:
    made = cases.records(FOUND)
    path = cases.write(tmp_path / "bench" / "results.jsonl", made)
    assert journal.read(path) == made
    assert path.read_text().count("\n") == len(made) == 7


def test_appending_leaves_what_is_there(tmp_path: Path) -> None:
    made = cases.records(FOUND)
    path = cases.write(tmp_path / "x.jsonl", made[:3])
    before = path.read_bytes()
    journal.append(path, made[3])
    assert path.read_bytes().startswith(before)
    assert journal.read(path) == made[:4]


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_half_a_line_is_none_and_the_next_one_is_whole(tmp_path: Path, cut: int) -> None:
    made = cases.records(FOUND)
    path = cases.write(tmp_path / "x.jsonl", made[:3])
    path.write_bytes(path.read_bytes()[:-cut])
    left = journal.read(path)
    assert left == made[: 3 if cut == 1 else 2], "a line that lacks its end alone is whole"
    journal.append(path, made[3])
    assert journal.read(path) == [*left, made[3]]


def test_the_newest_cell_of_a_key_counts(tmp_path: Path) -> None:
    made = cases.records(FOUND)
    newer = made[1].model_copy(update={"outcome": cases.outcome(99.0)})
    assert journal.cells([*made, newer])[newer.key] == newer  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected benchmark results"),
        ("", "found no run"),
        ("{", "found no run"),
        ("[]", "1: []; this program reads schema_version 2"),
        ('{"schema_version": 1}', "schema_version 1, kind None; this program reads schema_version 2"),
        ('{"schema_version": 2, "kind": "walk"}', "kind 'walk'"),
        ('{"schema_version": 2, "kind": "run"}', "1: date_utc: Field required"),
    ],
)
def test_what_is_no_journal_is_refused_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "results.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        results.read(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    made = cases.records({("pytorch", "fp32"): [cases.outcome(peak_rss_mib=float("nan"))]})
    with pytest.raises(ValueError, match="Out of range float"):
        cases.write(tmp_path / "x.jsonl", made)
    assert len(journal.read(tmp_path / "x.jsonl")) == 1
