"""The environment block: what it holds, and what it must not."""

import getpass
import os
import socket
import sys
from pathlib import Path

import numpy as np

from benchmarks import environment


def test_it_describes_this_machine() -> None:
    found = environment.capture(["torch", "no-such-distribution"], threads=3, device="cpu")
    assert found.threads == 3
    assert 1 <= found.cores <= len(os.sched_getaffinity(0))
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.versions["numpy"] == np.__version__
    assert "no-such-distribution" not in found.versions
    assert found.cpu_model
    assert found.memory_gib > 0
    assert found.date_utc.endswith("+00:00")


def test_it_names_no_person_host_or_folder() -> None:
    text = environment.capture(["torch"], threads=1, device="cpu").model_dump_json()
    private = {socket.gethostname(), str(Path.home()), str(environment.ROOT), str(Path.cwd())}
    # A user name such as "root" can be a part of an innocent word; quoted, it would be a value.
    assert not [word for word in private if word in text]
    assert f'"{getpass.getuser()}"' not in text


def test_the_identity_changes_with_what_changes_numbers_only() -> None:
    found = environment.capture([], threads=1, device="cpu")
    later = found.model_copy(update={"date_utc": "later", "load_average_1m": 99.0, "git_dirty": None})
    assert found.identity() == later.identity()
    assert found.identity() != found.model_copy(update={"threads": 2}).identity()
    assert found.identity() != found.model_copy(update={"versions": {}}).identity()
