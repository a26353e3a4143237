"""The sweep: a process a cell, several at once, resumed, compared with what the list expects."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import __main__ as room
from deploy import zoo
from deploy.zoo import run
from train import cli

Answers = Callable[..., None]
Ran = Callable[[], list[str]]
ALL = ["One dynamic", "One static", "Two+ dynamic", "Two+ static"]


@pytest.fixture
def sweep(listed: Path, answers: Answers, tmp_path: Path) -> Callable[..., int]:
    """Run the verb on the list; its exit code."""
    answers(Two__dynamic={"status": "refused", "reason": "no"})

    def verb(*arguments: str) -> int:
        return cli.run(
            room.main, ["zoo", "--list", str(listed), "--work", str(tmp_path / "work"), "--jobs", "2", *arguments]
        )

    return verb


def test_what_is_done_is_not_run_again(sweep: Callable[..., int], ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("--only", "One") == 0
    said = capsys.readouterr().err
    assert "[2/2] mmseg One " in said
    assert "static: 1 exact" in said
    assert "next: make zoo" in said
    assert ran() == ["One dynamic", "One static"]
    assert sweep("--json") == 0
    told = capsys.readouterr()
    assert "2 of 4 are done already" in told.err
    assert json.loads(told.out)["results"]["mmdet Two+ dynamic"]["status"] == "refused"
    assert ran() == ["Two+ dynamic", "Two+ static"]
    assert sweep("--force") == 0
    assert ran() == ALL


def test_another_rewrite_or_line_is_run_anew(
    sweep: Callable[..., int], ran: Ran, listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep()
    ran()
    listed.write_text(listed.read_text().replace("config: a.py, size: [64, 64]", "config: a.py, size: [64, 96]"))
    sweep()
    assert ran() == ["One dynamic", "One static"]
    # What is expected changes no result, and mmdet's rewrites are none of mmseg's.
    listed.write_text(listed.read_text().replace("it may not", "it cannot"))
    sweep()
    assert ran() == []
    monkeypatch.setattr(run, "_source", lambda package, exporter: package.replace("mmdet", "changed"))
    sweep()
    ran()
    monkeypatch.setattr(run, "_source", lambda package, exporter: package)
    sweep()
    assert ran() == ["Two+ dynamic", "Two+ static"]


def test_the_source_is_that_of_the_package() -> None:
    sources = {run._source(package, exporter) for package in run.WHEELS for exporter in run.EXPORTERS}
    assert len(sources) == 4, "MMDeploy runs no rewrite of ours"


def test_what_the_list_does_not_expect_gives_5(
    sweep: Callable[..., int], answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(One_static={"status": "wrong", "reason": "max |Δ| 3"})
    assert sweep("--json") == 5
    told = capsys.readouterr()
    assert "mmseg One static wrong, expected exact: max |Δ| 3" in told.err
    assert "2 of 4 are not as" in told.err  # and Two+ is exact now
    assert len(json.loads(told.out)["differing"]) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"say": "error: no such layer"}, "no such layer"),
        ({"crash": True}, "the process was killed by SIGABRT"),
        ({"sleep": 30}, "took longer than 4 s"),
    ],
    ids=["error", "crash", "timeout"],
)
def test_a_cell_that_ends_badly_is_a_result(
    sweep: Callable[..., int], answers: Answers, ran: Ran, tmp_path: Path, answer: dict[str, object], reason: str
) -> None:
    answers(One_static=answer, Two__dynamic={"status": "refused", "reason": "no"})
    assert sweep("--timeout", "4") == 5
    stored = json.loads((tmp_path / "work" / "zoo" / "mmseg-one-static-slipway.json").read_text())
    assert stored["result"]["status"] == "failed"
    assert stored["result"]["reason"].startswith(reason)
    answers(Two__dynamic={"status": "refused", "reason": "no"})
    ran()
    assert sweep() == 0
    assert ran() == ["One static"], "what ended badly is run again"


def test_ctrl_c_ends_every_process_and_the_next_run_goes_on(
    listed: Path, answers: Answers, ran: Ran, tmp_path: Path, sweep: Callable[..., int]
) -> None:
    answers(One_dynamic={"sleep": 100}, Two__dynamic={"status": "refused", "reason": "no"})
    program = (
        "import sys; from deploy import __main__ as room; from deploy.zoo import run; from train import cli;"
        "run.EXPORTERS['slipway'] = 'stand_in_exporter'; run._source = lambda *_: 'the same'; sys.exit(cli.run(room.main))"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "zoo",
        "--list",
        str(listed),
        "--work",
        str(tmp_path / "work"),
        "--jobs",
        "1",
    ]
    root = str(run.ROOT)
    path = os.pathsep.join((root, f"{root}/deploy/runtime", str(tmp_path)))
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    pid = tmp_path / "pid.txt"
    deadline = time.monotonic() + 60
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    assert "interrupted; run the same command again to go on" in child.stderr.read()
    assert child.wait(30) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert ran() == ["One dynamic", "One static"]
    answers(Two__dynamic={"status": "refused", "reason": "no"})
    assert sweep() == 0
    assert ran() == ["One dynamic", "Two+ dynamic", "Two+ static"]


def test_each_cell_has_a_file_of_its_own() -> None:
    names = {cell.name for cell in run.cells(zoo.read(), tuple(run.EXPORTERS))}
    assert len(names) == len(zoo.read()) * 2 * 2
