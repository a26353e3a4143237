"""The registry: it finds every file, and looking costs no engine."""

import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks import backends
from train.errors import UsageError

ROOM = Path(benchmarks.__file__).parent


def test_every_file_is_a_backend() -> None:
    files = [path for folder in ("backends", "baselines") for path in (ROOM / folder).glob("[!_]*.py")]
    assert len(backends.names()) == len(files) >= 2
    assert {"pytorch", "onnxruntime"} <= set(backends.names())
    assert all(backends.get(name).name == name for name in backends.names())


def test_an_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown backend 'onnxrt': did you mean 'onnxruntime'"):
        backends.get("onnxrt")


def test_the_registry_imports_no_engine() -> None:
    code = "import sys; from benchmarks import backends, run; backends.names(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOM.parent)
    assert not {"torch", "onnxruntime", "mmengine", "scipy"} & set(found.stdout.split())
