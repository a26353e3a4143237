"""The table of docs/reliability.md: every row has its control, and the page says what the tests say."""

import os
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"

INTRODUCTION = """# What goes wrong, and what stays whole

`make test-faults` injects each fault for real and checks the line; each has a control, the same fault with the guard taken
away, that shows the damage. This page is written from those tests: `SLIPWAY_WRITE_DOCS=1 make test-faults`. Exit codes:
2 usage or config · 3 bad data, checkpoint or model file · 4 the machine lacks something · 5 numbers that do not agree ·
6 a measurement failed · 130 Ctrl-C; a dash where the command goes on, or was killed.
"""


def render(table) -> str:
    parts = [INTRODUCTION]
    for title, lines in sorted(table.chapters.items()):
        parts += [
            "",
            f"## {title.rstrip('.')}",
            "",
            "| fault | what a user sees | exit code | what is intact |",
            "|---|---|---|---|",
        ]
        for line in lines:
            cells = (line.fault, line.sees, "–" if line.code is None else str(line.code), line.intact)
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def test_every_row_has_a_control(table):
    rows = {line.row for lines in table.chapters.values() for line in lines}
    assert rows - table.controlled == set(), "rows whose guard was never taken away"
    assert table.controlled - rows == set(), "controls of no row"
    assert not table.rowless, "tests with neither a fault nor a control"


def test_the_page_is_what_the_tests_say(table):
    page = render(table)
    if os.environ.get("SLIPWAY_WRITE_DOCS"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "stale: run SLIPWAY_WRITE_DOCS=1 make test-faults"
