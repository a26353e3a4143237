"""The runtime needs neither torch nor OpenMMLab: not imported, and not installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway_runtime.__main__ import main

ROOT = Path(__file__).parents[2]

_IMPORT_ALL = """
import importlib, pkgutil, sys
import slipway_runtime
for module in pkgutil.walk_packages(slipway_runtime.__path__, "slipway_runtime."):
    importlib.import_module(module.name)
    print(module.name)
roots = {name.partition(".")[0] for name in sys.modules}
wrong = {r for r in roots if r.startswith("mm") and r != "mmap"} | roots & {"torch", "train", "deploy", "benchmarks"}
sys.exit(f"imported: {sorted(wrong)}" if wrong else 0)
"""


def test_no_module_imports_torch_or_openmmlab() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert {"slipway_runtime.__main__", "slipway_runtime.sessions.onnxruntime"} <= set(done.stdout.split())


@pytest.mark.parametrize("module", ["torch", "mmengine", "train"])
def test_the_check_would_notice(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}{_IMPORT_ALL}"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert f"'{module}'" in done.stderr


def uv(*arguments: str | Path) -> str:
    """Run uv and return what it printed; skip where there is none, or no packages can be had."""
    program = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not program:
        pytest.skip("needs uv")
    done = subprocess.run([program, "--quiet", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode and "error sending request" in done.stderr:
        pytest.skip(f"the packages cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def interpreter(version: str) -> str:
    """A Python of this version: the running one, one on the path, or pyenv's."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders = [*os.environ["PATH"].split(os.pathsep), *map(str, sorted(pyenv.glob(f"{version}.*/bin")))]
    for folder in folders:
        found = shutil.which(f"python{version}", path=folder)
        # pyenv puts a script of that name on the path for versions it does not have switched on.
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    pytest.skip(f"no Python {version} found")


@pytest.mark.parametrize("version", ["3.10", f"{sys.version_info[0]}.{sys.version_info[1]}"])
def test_predicts_the_same_where_torch_is_not_installed(
    version: str,
    bundle: Path,
    segmenter: Path,
    detector: Path,
    colours: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    uv("venv", "--python", interpreter(version), environment)
    uv("pip", "sync", "--python", python, "--require-hashes", ROOT / "requirements" / "runtime.txt")
    # A copy, because a build leaves its folders beside the sources.
    source = shutil.copytree(ROOT / "deploy" / "runtime", tmp_path / "source")
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", tmp_path, source)
    uv("pip", "install", "--python", python, "--no-deps", next(tmp_path.glob("*.whl")))

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=tmp_path)

    assert run(python, "-c", "import torch").returncode == 1
    assert run(python, "-c", _IMPORT_ALL).returncode == 0
    drawn = ["--out", str(tmp_path / "drawn")]
    for options in ([str(bundle), "--topk", "4"], [str(segmenter), *drawn], [str(detector), "--splash", *drawn]):
        arguments = [*options, "--json", str(colours["red"].parent)]
        there = run(environment / "bin" / "slipway-runtime", *arguments)
        assert there.returncode == 0, there.stderr
        assert main(arguments) == 0
        ours = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        theirs = [json.loads(line) for line in there.stdout.splitlines()]
        assert len(ours) == 4
        assert scores_of(ours) == pytest.approx(scores_of(theirs), abs=1e-6)
        assert ours == theirs


def scores_of(rows: list[dict[str, Any]]) -> list[float]:
    """Take the scores out of a classifier's results; the rest then compares exactly."""
    return [entry.pop("score") for row in rows for entry in row.get("top", [])]
