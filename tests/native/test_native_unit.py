"""The unit tests of `ort_infer`, under the sanitizers."""

import os
import subprocess
from pathlib import Path


def test_the_unit_tests_pass(sanitized_build: Path) -> None:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    command = [str(sanitized_build / "unit_tests"), "--gtest_brief=1"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
