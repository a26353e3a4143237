"""A list of two models, and an exporter of theirs that is there at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.zoo import run

#: Stands in for `deploy.zoo.cell`: `answers.json` says what to print, or how to fail, for each cell.
EXPORTER = """
import json, os, pathlib, sys, time
folder = pathlib.Path(__file__).parent
with (folder / "ran.txt").open("a") as file:
    file.write(f"{sys.argv[1]} {sys.argv[2]}\\n")
answer = json.loads((folder / "answers.json").read_text()).get(f"{sys.argv[1]} {sys.argv[2]}", {})
if "sleep" in answer:
    (folder / "pid.txt").write_text(str(os.getpid()))
    time.sleep(answer["sleep"])
if "say" in answer:
    sys.exit(answer["say"])
if answer.get("crash"):
    os.abort()
print("a log line that strayed")
print(json.dumps({"status": "exact", "reason": "", "nodes": 3, "mib": 1.0, "total_seconds": 0.1, "heads": 1e-6,
                  "predictions": 2e-6, **answer}))
"""
LIST = """
models:
  - {model: One, package: mmseg, config: a.py, size: [64, 64], static: exact, dynamic: exact}
  - {model: Two+, package: mmdet, config: b.py, size: [64, 64], static: exact, dynamic: "refused: it may not"}
"""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "zoo.yaml"
    path.write_text(LIST)
    return path


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[], list[str]]:
    """Which cells the exporter was asked for since the last time."""

    def read() -> list[str]:
        path = tmp_path / "ran.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(lines)

    return read


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put the exporter there, and say what it answers."""
    (tmp_path / "stand_in_exporter.py").write_text(EXPORTER)
    monkeypatch.setitem(run.EXPORTERS, "slipway", "stand_in_exporter")
    monkeypatch.setattr(run, "_source", lambda package, exporter: "the same")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def say(**given: dict[str, Any]) -> None:
        by_cell = {name.replace("__", "+ ").replace("_", " "): answer for name, answer in given.items()}
        (tmp_path / "answers.json").write_text(json.dumps(by_cell))

    say()
    return say
