"""Builds that are killed: no part of a plan is ever taken for one, and the same command completes what was begun."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trt_fixtures import playing, stand_in_environment

from deploy.engines.building import process, store
from deploy.engines.building.spec import Spec
from slipway_runtime import plan as plans
from slipway_runtime.errors import BundleError
from slipway_runtime.plan import Options, Profile
from train.errors import BackendError
from train.experiment import Experiment
from train.files import sha256

ROOT = Path(__file__).parents[3]
ONE = Profile(minimum=(1, 3, 16, 16), optimum=(1, 3, 16, 16), maximum=(1, 3, 16, 16))
#: Stands for the process that builds: a plan, byte by byte, then the answer.
STUB = """
import json, pathlib, sys, time
spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
with open(spec["plan"], "wb") as file:
    for _ in range(50):
        file.write(b"x")
        file.flush()
        time.sleep(0.01)
answer = {"inspector": "", "build_seconds": 0.5, "timing_cache": "new"}
pathlib.Path(sys.argv[2]).write_text(json.dumps(answer))
"""
#: The verb's files without its figures: the stub, then what `deploy.engines.tensorrt` does with a plan.
VERB = """
import pathlib, sys
sys.path.insert(0, "tests/runtime")
from deploy.engines.building import process, store
from slipway_runtime import plan as plans
process._MODULE = "stub"
bundle, template = pathlib.Path(sys.argv[1]), plans.PlanInfo.model_validate_json(sys.argv[2])
path = plans.path_of(bundle, "fp32", template.key)
with store.building(path.parent) as folder:
    from deploy.engines.building.spec import Spec
    import os
    spec = Spec(graph=path, input="x", options=template.options, plan=folder / path.name, timing_cache=path, parent=os.getpid())
    process.run(spec, folder)
    info = template.model_copy(update={"plan_sha256": store.sha256(folder / path.name)})
    store.keep(folder / path.name, path, info)
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Spec]:
    """Call it with a program to have it stand for the process that builds."""

    def install(program: str) -> Spec:
        (tmp_path / "stub.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setattr(process, "_MODULE", "stub")
        options = Options(precision="fp16", profiles=(ONE,))
        return Spec(
            graph=tmp_path / "g.onnx",
            input="x",
            options=options,
            plan=tmp_path / "p.plan",
            timing_cache=tmp_path / "t",
            parent=os.getpid(),
        )

    return install


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            "import os; os.kill(os.getpid(), 9)",
            "the process that built the fp16 engine was killed by SIGKILL; a machine out of memory does that",
        ),
        (
            "import os, sys; print('tensorrt: fault in conv1', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)",
            "was killed by SIGSEGV; it last said: tensorrt: fault in conv1",
        ),
        ("import sys; sys.exit('error: no way')", "no way"),
        ("import sys; sys.exit(3)", "the process that built the fp16 engine exited with 3 and said nothing"),
    ],
)
def test_how_a_process_ends_is_said(stub: Callable[[str], Spec], tmp_path: Path, program: str, reason: str) -> None:
    with pytest.raises(BackendError) as raised:
        process.run(stub(program), tmp_path)
    assert str(raised.value).startswith(reason) or reason in str(raised.value)


def template(tiny: Experiment) -> str:
    """What is said of the stub's plan, but for its hash."""
    with playing():
        from slipway_runtime import cuda, manifest

        described = manifest.read(tiny.bundle)
        return plans.PlanInfo(
            key="a" * 64,
            plan_sha256="0" * 64,
            graph="model.onnx",
            graph_sha256=described.files["model.onnx"],
            machine=cuda.machine(),
            options=Options(precision="fp32", profiles=(ONE,)),
            inputs=described.inputs,
            outputs=described.outputs,
            layers={"fp32": 1},
            build_seconds=0.5,
        ).to_json()


def start(tmp_path: Path, tiny: Experiment, said: str) -> "subprocess.Popen[bytes]":
    (tmp_path / "stub.py").write_text(STUB)
    (tmp_path / "verb.py").write_text(VERB)
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "verb.py"), str(tiny.bundle), said],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
    )


def whole(folder: Path) -> list[Path]:
    """The plans that count; each must be what is said of it."""
    found = [path for path in folder.glob("*.plan") if plans.sidecar(path).is_file()] if folder.is_dir() else []
    for path in found:
        assert sha256(path) == plans.read(path).plan_sha256
    return found


def test_killed_at_any_moment_nothing_partial_is_left(tiny: Experiment, tmp_path: Path) -> None:
    said, folder = template(tiny), tiny.bundle / plans.FOLDER
    moments, began = random.Random(7), time.monotonic()
    first = start(tmp_path, tiny, said)
    assert first.wait() == 0, first.stderr
    took = time.monotonic() - began
    (path,) = whole(folder)
    path.unlink()
    for _ in range(4):
        child = start(tmp_path, tiny, said)
        time.sleep(moments.uniform(0.3, 1.0) * took)
        child.kill()
        child.wait()
        whole(folder)
    last = start(tmp_path, tiny, said)
    assert last.wait() == 0
    assert whole(folder) == [path]
    # What the killed ones left is gone, and nobody writes any more.
    assert sorted(each.name for each in folder.iterdir()) == [path.name, f"{path.name}.json"]


def test_the_process_ends_with_the_verb(tiny: Experiment, tmp_path: Path) -> None:
    environment = stand_in_environment(build_seconds=60)
    verb = subprocess.Popen(
        [sys.executable, "-m", "deploy", "engine", str(tmp_path / "cls" / "tiny.py"), "--work", str(tiny.work)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert verb.stderr is not None
    assert any("Building Engine" in line for line in verb.stderr), "the build has begun"
    (child,) = (int(pid) for pid in Path(f"/proc/{verb.pid}/task/{verb.pid}/children").read_text().split())
    verb.kill()
    verb.wait()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and _state(child) != "Z":
        assert time.monotonic() < deadline, "the process that builds lives on"
        time.sleep(0.05)
    assert not whole(tiny.bundle / plans.FOLDER)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def test_the_process_is_killed_and_the_verb_says_so_then_completes(
    tiny: Experiment, verb_in_child: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.bundle / plans.FOLDER

    def kill() -> None:
        while not list(folder.glob(".building-*/spec.json")):
            time.sleep(0.01)
        time.sleep(0.2)
        for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
            if b"deploy.engines.building.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)

    with playing():
        monkeypatch.setenv("STAND_IN_BUILD_SECONDS", "30")
        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(BackendError, match="fp32 engine was killed by SIGKILL"):
            verb_in_child()
        killer.join()
        assert not list(folder.glob(".building-*"))
        monkeypatch.delenv("STAND_IN_BUILD_SECONDS")
        assert verb_in_child()["engines"][0]["built"]


def test_a_plan_that_nothing_describes_is_none(tiny: Experiment, verb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after the plan was moved, and before it was described."""

    def crash(path: Path, info: plans.PlanInfo) -> None:
        if path.parent.name == plans.FOLDER:
            raise KeyboardInterrupt
        describe(path, info)

    describe = store.describe
    with playing():
        monkeypatch.setattr(store, "describe", crash)
        with pytest.raises(KeyboardInterrupt):
            verb()
        (path,) = (tiny.bundle / plans.FOLDER).glob("*.plan")
        with pytest.raises(BundleError, match="a plan without it is none"):
            plans.read(path)
        monkeypatch.setattr(store, "describe", describe)
        assert verb()["engines"][0]["built"]
        assert len(whole(path.parent)) == 1


@pytest.mark.parametrize("damage", ["cut off", "altered", "described as another"])
def test_a_damaged_plan_is_built_again(tiny: Experiment, verb: Any, damage: str) -> None:
    with playing():
        path = Path(verb()["engines"][0]["path"])
        content = path.read_bytes()
        if damage == "cut off":
            path.write_bytes(content[:-1])
        elif damage == "altered":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        else:
            file = plans.sidecar(path)
            file.write_text(file.read_text().replace(plans.read(path).key, "0" * 64))
        assert verb()["engines"][0]["built"]
        assert len(whole(path.parent)) == 1
        assert not verb()["engines"][0]["built"]
