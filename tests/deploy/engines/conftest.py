"""A bundle to build engines of, and the verb in this process."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import engine_bundles
import pytest

from deploy.__main__ import main
from deploy.engines.building import process, worker
from deploy.engines.building.spec import Answer, Spec
from train.experiment import Experiment

Verb = Callable[..., dict[str, Any]]


@pytest.fixture
def tiny(tmp_path: Path) -> Experiment:
    """A tiny classifier, exported in fp32 and fp16."""
    return engine_bundles.experiment(tmp_path)[0]


@pytest.fixture
def verb_in_child(tiny: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """`python -m deploy engine` on it; what `--json` prints, and as "stderr" what a person sees."""

    def run(*options: str) -> dict[str, Any]:
        assert main(["engine", str(tmp_path / "cls" / "tiny.py"), "--work", str(tiny.work), "--json", *options]) == 0
        said = capsys.readouterr()
        return {**json.loads(said.out), "stderr": said.err}

    return run


@pytest.fixture
def verb(verb_in_child: Verb, monkeypatch: pytest.MonkeyPatch) -> Verb:
    """As `verb_in_child`, but for the process: what it does is done in this one, which is quicker."""

    def here(spec: Spec, folder: Path) -> Answer:
        return worker.build(import_module("tensorrt"), spec)

    monkeypatch.setattr(process, "run", here)
    return verb_in_child
