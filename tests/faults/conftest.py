"""What the faults' tests share: their markers, collected into the table of docs/reliability.md.

Each row has tests marked `fault`, which inject it and see it refused or survived, and at least one marked `control`: the
same fault with the guard taken away, which must show the damage.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: What takes seconds: `make test` runs it too.
BRIEF = {f"test_faults_{name}.py" for name in ("configs", "datasets", "images", "manifest", "table")}


@dataclass(frozen=True)
class Line:
    """One line of the table, as a test's `fault` marker says it; `code` is None where no command ends with one."""

    row: str
    fault: str
    sees: str
    code: int | None
    intact: str


@dataclass
class Table:
    """All lines by the title of their file, the rows that have a control, and the tests that name no row."""

    chapters: dict[str, list[Line]] = field(default_factory=dict)
    controlled: set[str] = field(default_factory=set)
    rowless: list[str] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)

    def add(self, item: pytest.Item) -> None:
        """Take a test's markers; parametrised tests say theirs once."""
        self.files.add(item.path)
        faults = [Line(**mark.kwargs) for mark in item.iter_markers("fault")]
        controls = [mark.kwargs["row"] for mark in item.iter_markers("control")]
        if not faults and not controls:
            self.rowless.append(item.nodeid)
        self.controlled.update(controls)
        title = item.getparent(pytest.Module).obj.__doc__.splitlines()[0]  # type: ignore[union-attr]
        lines = self.chapters.setdefault(title, [])
        lines.extend(line for line in faults if line not in lines)


_TABLE = pytest.StashKey[Table]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before any test is deselected: mark this folder's tests as `faults`, but for the brief ones, and read their rows."""
    table = config.stash.setdefault(_TABLE, Table())
    for item in items:
        if item.path.parent == HERE:
            if item.path.name not in BRIEF:
                item.add_marker("faults")
            if item.path.name != "test_faults_table.py":
                table.add(item)


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    """The table of the whole folder; skips where only some of its files were named."""
    found = request.config.stash[_TABLE]
    if found.files != set(HERE.glob("test_faults_*.py")) - {HERE / "test_faults_table.py"}:
        pytest.skip("the table needs every file of tests/faults")
    return found
