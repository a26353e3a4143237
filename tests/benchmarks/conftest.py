"""Fixtures of room 3: the small experiment of `colour_bench`, and the command line in this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from colour_bench import BRIEF, CLASSES, NAME, Bench, write_data, write_graph

from train.experiment import Experiment, Record
from train.files import sha256


@pytest.fixture
def colours(tmp_path: Path) -> Experiment:
    """`work/cls/colours`, trained (for this room: there are files and a record of them) and exported."""
    experiment = Experiment(NAME, tmp_path / "work")
    experiment.train.mkdir(parents=True)
    experiment.config.write_text("# a config\n")
    experiment.checkpoint.write_bytes(b"weights")
    data = {"root": str(tmp_path / "data"), "source": "imagefolder", "fingerprint": "f" * 64, "classes": list(CLASSES)}
    write_data(tmp_path / "data")
    experiment.write(
        Record(
            experiment=NAME,
            fingerprint="0" * 64,
            config_sha256=sha256(experiment.config),
            checkpoint_sha256=sha256(experiment.checkpoint),
            data=data,
        )
    )
    write_graph(experiment)
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
