"""Imports run against the data: benchmarks → deploy → train, and `slipway_runtime` imports none of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "deploy" / "runtime" / "slipway_runtime"
HEAVY = ("torch", "torchvision", "mmengine", "mmcv", "mmpretrain", "mmdet", "mmseg", "mmdeploy")
#: Who may not import whom.
FORBIDDEN = {
    "train": ("deploy", "benchmarks", "slipway_runtime"),
    "deploy": ("benchmarks",),
    "slipway_runtime": ("train", "deploy", "benchmarks", *HEAVY),
    "train.data": HEAVY,
}


def files(room: str) -> list[Path]:
    if room == "slipway_runtime":
        return sorted(RUNTIME.rglob("*.py"))
    found = sorted((ROOT / room.replace(".", "/")).rglob("*.py"))
    return [path for path in found if not path.is_relative_to(ROOT / "deploy" / "runtime")]


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


def wrong(path: Path, forbidden: tuple[str, ...]) -> set[str]:
    return set(imported(path)) & set(forbidden)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_wrong_arrow(room: str) -> None:
    found = files(room)
    assert len(found) > 3
    arrows = {str(path.relative_to(ROOT)): bad for path in found if (bad := wrong(path, FORBIDDEN[room]))}
    assert not arrows


@pytest.mark.parametrize(
    "text",
    [
        "import deploy.export",
        "from deploy import export",
        "def f():\n    import deploy",
        "if True:\n    from deploy.x import y as z",
    ],
)
def test_control_a_wrong_arrow_is_seen(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.py"
    file.write_text(text)
    assert wrong(file, FORBIDDEN["train"]) == {"deploy"}
