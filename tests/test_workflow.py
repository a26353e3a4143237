"""The workflow of CI: it runs targets that are there, may do no more than read, and uses actions that cannot change."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    return read


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def runs(workflow: dict[str, Any]) -> Iterator[str]:
    """Every command of every job, with each of its matrix' values."""
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for values in product(*matrix.values()):
            for step in job["steps"]:
                text = step.get("run", "")
                for name, value in zip(matrix, values, strict=True):
                    text = text.replace(f"${{{{ matrix.{name} }}}}", value)
                yield from text.splitlines()


def verbs(commands: Iterator[str]) -> set[str]:
    return {verb for command in commands if command.startswith("make ") for verb in command.split()[1:]}


def test_every_target_that_it_makes_is_there(workflow: dict[str, Any]) -> None:
    made = verbs(runs(workflow))
    assert {"lint", "test", "test-docker", "sbom", "audit-deps"} <= made
    assert made <= TARGETS


def test_control_a_target_that_is_not_there_is_seen(workflow: dict[str, Any]) -> None:
    text = WORKFLOW.read_text().replace("[lint, test,", "[lint, tests,")
    assert verbs(runs(yaml.safe_load(text))) - TARGETS == {"tests"}


def test_it_may_read_and_no_more(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert not [job for job in workflow["jobs"].values() if "permissions" in job]
    assert "secrets." not in WORKFLOW.read_text()
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    # Text of an event in a command would be run.
    assert not [step for step in steps(workflow) if "github." in step.get("run", "")]


def loose(text: str) -> list[str]:
    """Actions that are not named by a commit, with its version beside it."""
    used = re.findall(r"uses: *(.*)$", text, re.M)
    return [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action)]


def test_actions_are_pinned_by_commit() -> None:
    assert "uses:" in WORKFLOW.read_text()
    assert not loose(WORKFLOW.read_text())
    assert loose("- uses: actions/checkout@v7\n") == ["actions/checkout@v7"]


def test_the_environment_is_kept_until_a_requirement_changes(workflow: dict[str, Any]) -> None:
    (cache,) = (step["with"] for step in steps(workflow) if step.get("uses", "").startswith("actions/cache@"))
    assert ".venv" in cache["path"].split()
    hashed = re.findall(r"'([^']+)'", cache["key"])
    assert "requirements/dev.txt" in hashed
    assert all((ROOT / name).is_file() for name in hashed)
    assert "python-version" in cache["key"]  # .venv has links to it
