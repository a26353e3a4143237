"""Fixtures of room 3: the small experiments of `colour_bench`, and the command line in this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from colour_bench import (
    BRIEF,
    NAME,
    PIXELS,
    Bench,
    write_data,
    write_graph,
    write_scenes,
    write_segmenter,
    write_training,
)

from train.experiment import Experiment


@pytest.fixture
def colours(tmp_path: Path) -> Experiment:
    """`work/cls/colours`, trained and exported."""
    experiment = write_training(NAME, tmp_path)
    write_data(tmp_path / "data")
    write_graph(experiment)
    return experiment


@pytest.fixture
def pixels(tmp_path: Path) -> Experiment:
    """`work/seg/colours`, trained and exported; eight images, three of one size."""
    experiment = write_training(PIXELS, tmp_path)
    write_scenes(tmp_path / "data", [(12, 9), (8, 12), (12, 9), (9, 9), (12, 9), (9, 12), (7, 9), (10, 9)])
    write_segmenter(experiment)
    return experiment


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    """Run `python -m benchmarks run … --json` in this process (its cells have their own): exit code and JSON."""
    from benchmarks.__main__ import main
    from train import cli

    def run(experiment: Experiment, *sets: str, arguments: Sequence[str] = ()) -> tuple[int, dict[str, Any]]:
        overrides = [f"--set={override}" for override in (*BRIEF, *sets)]
        code = cli.run(main, ["run", experiment.name, "--work", str(experiment.work), "--json", *overrides, *arguments])
        out = capsys.readouterr().out
        return code, json.loads(out)["experiments"][experiment.name] if out else {}

    return run
