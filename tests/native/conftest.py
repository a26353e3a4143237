"""`ort_infer` as `make native` builds it, once for use and once with sanitizers."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What the build says where a compiler or a library is missing, and not where code is wrong.
MISSING = ("is missing", "could not be downloaded", "No CMAKE_CXX_COMPILER could be found")

#: Called with arguments (and `input`, for stdin): what `ort_infer` ends with.
Infer = Callable[..., "subprocess.CompletedProcess[str]"]


def build(folder: str, flags: str = "") -> Path:
    """`make native` into a folder; skips where this machine has no compiler or library for it."""
    command = ["make", "native", f"BUILD={folder}", f"CMAKE_MORE={flags}"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = made.stdout + made.stderr
    if made.returncode and any(text in said for text in MISSING):
        pytest.skip(f"ort_infer cannot be built here: {' '.join(said.split())[:300]}")
    assert made.returncode == 0, said
    return ROOT / folder


def runner(binary: Path, **env: str) -> Infer:
    def run(
        *arguments: object, input: str | None = None, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        command = [str(binary), *map(str, arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            input=input,
            cwd=cwd,
            timeout=300,
            env={**os.environ, **env},
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def binary() -> Path:
    """The program."""
    return build(".build/native") / "ort_infer"


@pytest.fixture(scope="session")
def ort_infer(binary: Path) -> Infer:
    """Runs the program."""
    return runner(binary)


@pytest.fixture(scope="session")
def sanitized_build() -> Path:
    """A build folder with the program and its unit tests, under AddressSanitizer, LeakSanitizer and UBSan."""
    return build(
        ".build/native-sanitized",
        "-DSLIPWAY_SANITIZE=ON -DSLIPWAY_TESTS=ON -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1",
    )


@pytest.fixture(scope="session")
def sanitized(sanitized_build: Path) -> Infer:
    """Runs the program under the sanitizers; a finding ends it with code 99, which no other error has."""
    return runner(sanitized_build / "ort_infer", ASAN_OPTIONS="exitcode=99:detect_leaks=1", UBSAN_OPTIONS="exitcode=99")
