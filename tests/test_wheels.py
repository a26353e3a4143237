"""`make wheels` and WHEELS=: a folder is all that a set-up needs, and nothing in it that was altered is installed."""

import base64
import hashlib
import os
import runpy
import shutil
import site
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "requirements" / "wheels.py"
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.skipif(UV is None, reason="uv is not installed")


def write_wheel(folder: Path, name: str, version: str = "1.0") -> Path:
    """A wheel of one module that says its name."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"NAME = {name!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listed = [f"{path},{_digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*listed, f"{info}/RECORD,,", ""])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name_, text in files.items():
            archive.writestr(name_, text)
    return path


def _digest(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def requirement(wheel: Path) -> str:
    return f"{wheel.name.split('-')[0]}==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wheel = write_wheel(tmp_path / "wheels", "tinyone")
    (wheel.parent / "requirements.txt").write_text(f"# Python {PYTHON}\n{requirement(wheel)}")
    return wheel.parent


def install(folder: Path, venv: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, SCRIPT, "install", folder, "--uv", UV, "--venv", venv]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def run(venv: Path, code: str) -> str:
    return subprocess.run([venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_folder_is_all_that_is_needed(folder: Path, tmp_path: Path) -> None:
    done = install(folder, tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert run(tmp_path / "venv", "import tinyone; print(tinyone.NAME)") == "tinyone\n"


def test_an_altered_wheel_is_not_installed(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(folder / "tinyone-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("more.py", "")
    done = install(folder, tmp_path / "venv")
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith("error: uv pip failed, see above")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    done = install(tmp_path, tmp_path / "venv")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "expected a folder that `make wheels` filled" in done.stderr


def test_what_the_machine_has_is_seen_and_what_it_lacks_is_named(folder: Path, tmp_path: Path) -> None:
    import numpy as np

    (folder / "machine.txt").write_text(f"numpy=={np.__version__}\n")
    assert install(folder, tmp_path / "venv").returncode == 0
    shown = run(tmp_path / "venv", "import numpy, sys, tinyone; print(numpy.__version__, sys.prefix)")
    assert shown.split() == [np.__version__, str(tmp_path / "venv")]
    # ONNX Runtime looks for CUDA's libraries beside itself: those of python3 are there too.
    own = {path.name for root in site.getsitepackages() for path in Path(root).glob("nvidia/*/lib/*.so*")}
    assert {path.name for path in (tmp_path / "venv").glob("lib/*/site-packages/nvidia/*/lib/*.so*")} == own
    (folder / "machine.txt").write_text("numpy==0.1\n")
    done = install(folder, tmp_path / "venv")
    assert done.returncode == 4
    assert f"python3 was to have numpy==0.1, found {np.__version__}" in done.stderr


@pytest.fixture
def collect(tmp_path: Path) -> Command:
    """`collect` of two tiny wheels that lie in a folder, not in an index."""
    python = shutil.which("python3", path=os.defpath) or "python3"
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        python = "python3"
        if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
            pytest.skip("python3 has no pip")
    shutil.copy(SCRIPT, tmp_path / "wheels.py")
    wheels = [write_wheel(tmp_path / "index", name) for name in ("tinyone", "tinytwo")]
    (tmp_path / "gpu.txt").write_text("".join(map(requirement, wheels)))
    for version in ("8.6.0", "10.16.1.11"):
        (tmp_path / f"tensorrt-{version}.in").touch()
        (tmp_path / f"tensorrt-{version}.txt").touch()
    index = str(tmp_path / "index")
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": index, "UV_NO_INDEX": "1", "UV_FIND_LINKS": index}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [python, str(tmp_path / "wheels.py"), "collect", str(tmp_path / "out"), "--uv", str(UV), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **offline})

    return run


def test_what_the_other_machine_has_is_left_to_it(collect: Command, tmp_path: Path) -> None:
    (tmp_path / "freeze.txt").write_text("TinyTwo==1.0+cu130\ntinyone==0.9\nother @ file:///somewhere\n")
    assert collect("--has", str(tmp_path / "freeze.txt")).returncode == 0
    assert (tmp_path / "out" / "machine.txt").read_text() == "tinytwo==1.0\n"
    assert "tinytwo" not in (tmp_path / "out" / "requirements.txt").read_text()
    assert not (tmp_path / "out" / "tinytwo-1.0-py3-none-any.whl").exists()


def test_an_altered_wheel_is_not_collected(collect: Command, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "index" / "tinytwo-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("more.py", "")
    assert collect().returncode == 4
    assert not (tmp_path / "out" / "requirements.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tensorrt", "9.9"), "TENSORRT=9.9: there is 10.16.1.11, 8.6.0"),
        (("--tensorrt", "8.6.0", "--for", "3.12"), "TensorRT 8.6.0 is for Python 3.10"),
        (("--tensorrt", "10.16.1.11"), "no wheel of tensorrt-cu13 10.16.1.11 found: name NVIDIA's own index"),
    ],
)
def test_what_cannot_be_collected_is_said(collect: Command, arguments: tuple[str, ...], message: str) -> None:
    done = collect(*arguments)
    assert done.returncode == 4
    assert message in done.stderr.splitlines()[-1]


def test_collected_are_the_requirements_and_nvidias_wheels_with_the_hash_of_what_was_found(
    collect: Command, tmp_path: Path
) -> None:
    for name in ("tensorrt_cu13", "tensorrt_cu13_libs"):
        write_wheel(tmp_path / "index", name, "9.9")
    for suffix in ("in", "txt"):
        (tmp_path / f"tensorrt-9.9.{suffix}").touch()
    done = collect("--tensorrt", "9.9")
    assert done.returncode == 0, done.stderr
    listed = (tmp_path / "out" / "requirements.txt").read_text()
    assert listed.startswith("# Python 3.12\n")
    assert len(list((tmp_path / "out").glob("*.whl"))) == listed.count("--hash=sha256:") == 4
    digest = hashlib.sha256((tmp_path / "out" / "tensorrt_cu13_libs-9.9-py3-none-any.whl").read_bytes()).hexdigest()
    assert f"tensorrt-cu13-libs==9.9 \\\n    --hash=sha256:{digest}\n" in listed


def test_every_tensorrt_has_its_requirements() -> None:
    versions = runpy.run_path(str(SCRIPT))["versions"]()
    assert versions == ["10.16.1.11", "11.4.0.106", "8.6.0"]
    assert all((ROOT / "requirements" / f"tensorrt-{version}.txt").is_file() for version in versions)
