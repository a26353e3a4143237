"""The files of engines: whole or absent, and found again by what they depend on.

A build works in a hidden folder beside the engines, `.building-…`. The plan is moved out of it, then the file that
describes it is: a plan without that file is none.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway_runtime import plan as plans
from slipway_runtime.errors import BundleError
from slipway_runtime.plan import PlanInfo
from train.files import sha256, write_atomic

_BUILDING = ".building-"


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to build in; what killed builds left is removed. The caller is the experiment's only writer."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_BUILDING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=_BUILDING))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def current(path: Path, key: str) -> PlanInfo | None:
    """What is said of a plan that is whole and of this key; else None."""
    try:
        info = plans.read(path)
        return info if info.key == key and sha256(path) == info.plan_sha256 else None
    except (BundleError, OSError):
        return None


def describe(path: Path, info: PlanInfo) -> None:
    """Write the file beside a plan."""
    write_atomic(plans.sidecar(path), info.to_json())


def keep(built: Path, path: Path, info: PlanInfo) -> None:
    """Move a plan to its place and describe it there, in this order: a crash between leaves a plan that is none."""
    with built.open("rb") as file:
        os.fsync(file.fileno())
    plans.sidecar(path).unlink(missing_ok=True)
    os.replace(built, path)
    describe(path, info)
