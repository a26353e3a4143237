"""The audit of a program from outside: a program whose reports are right passes, each fault fails its own check."""

from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest

from benchmarks.audit import Finding, program
from benchmarks.native.reports import Answers, Report, Timed
from benchmarks.timing import TimerSettings

PATHS = [[Path("a.png")], [Path("b.png")]]
SETTINGS = TimerSettings(seconds=0.1)


class Reporting:
    """What the audit asks of `native.Program`, by a loop that really takes the time which it reports, but for a fault."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def measure(self, paths: Any, boundary: str, batch: int, settings: TimerSettings, **options: bool) -> Report:
        start = perf_counter()
        sleep(settings.seconds)
        wall = perf_counter() - start
        sample = 80.0 if self.fault == "caching" and options.get("repeat_one") else 100.0
        timed = Timed(
            samples_us=[sample] * 10 if options.get("repeat_one") else [sample, 50.0] * 10,
            wall_s=wall * (0.9 if self.fault == "timer" else 1),
        )
        found: dict[str, Any] = {"e2e": ['{"x": 1}', '{"x": 2}'], "model": [{"y": "0"}, {"y": "1"}]}
        wanted = {"model": [{"y": "0"}, {"y": "2" if self.fault == "answers" else "1"}]}
        return Report(
            boundaries={boundary: timed}, answers=Answers(**found), expected=Answers(**wanted), peak_rss_mib=1
        )

    def lines(self, paths: Any, *options: object) -> list[str]:
        return ['{"x": 1}\n', '{"x": 3}\n' if self.fault == "answers" else '{"x": 2}\n']


def check(fault: str, name: str, boundary: Any) -> Finding:
    subject = program._Subject(Reporting(fault), boundary, PATHS)  # type: ignore[arg-type]
    found: Finding = getattr(subject, name)(SETTINGS)
    return found


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "LONGER_S", 1.0)


@pytest.mark.parametrize("boundary", ["model", "e2e"])
@pytest.mark.parametrize("name", ["answers", "caching", "timer"])
def test_a_right_program_passes_and_a_wrong_one_does_not(name: str, boundary: str) -> None:
    assert check("", name, boundary).passed
    assert check(name, name, boundary).passed is False


def test_a_program_that_reports_no_answers_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reporting, "lines", lambda *_: [])
    report = Report(boundaries={}, answers=Answers(), expected=Answers(), peak_rss_mib=1)
    monkeypatch.setattr(Reporting, "measure", lambda *_, **__: report)
    assert check("", "answers", "e2e").passed is False
    assert check("", "answers", "model").passed is False


def test_what_cannot_be_seen_from_outside_is_named() -> None:
    found = Finding.impossible("synchronisation", "model", program._UNREACHABLE)
    assert found.passed is None
    assert found.detail.startswith("not applicable: ")
