"""docker/run.sh refuses what cannot work in one line, before anything is built or run."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: A user that is not root: root may write everywhere.
STRANGER = 12345

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def engine(tmp_path: Path) -> Callable[[str], Path]:
    """A folder with a `docker` that says of itself what it is told, and runs nothing: engines of other versions are not here."""

    def make(version: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "docker"
        program.write_text(f'#!/bin/sh\nif [ "$1" = version ]; then echo "{version}"; else echo "ran $*"; fi\n')
        program.chmod(0o755)
        return folder

    return make


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """What the script ends with, called from an empty folder."""

    def call(
        *arguments: str, path: str = "", user: int | None = None, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": path or os.environ["PATH"], "WORK": str(tmp_path / "work"), **variables}
        return subprocess.run(
            ["/bin/bash", str(ROOT / "docker" / "run.sh"), *arguments],
            cwd=tmp_path,
            env=environment,
            user=user,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def refused(done: "subprocess.CompletedProcess[str]", code: int, *parts: str) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_no_docker_at_all(run: Run, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dirname").symlink_to("/usr/bin/dirname")
    refused(run("train", "-m", "train", path=str(tools)), 4, "there is no docker here", "leave RUN=docker out")


def test_no_engine_answers(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    (folder / "docker").chmod(0o755)
    refused(run("train", path=f"{folder}:{os.environ['PATH']}"), 4, "Cannot connect to the Docker daemon", "start it")


@pytest.mark.parametrize("version", ["1.40", "1.24", "1.9"])
def test_an_old_docker(run: Run, engine: Callable[[str], Path], version: str) -> None:
    done = run("train", path=f"{engine(version)}:{os.environ['PATH']}")
    refused(done, 4, f"API {version}", "20.10")


def with_engine(engine: Callable[[str], Path]) -> str:
    return f"{engine('1.41')}:{os.environ['PATH']}"


def test_a_mount_that_is_not_there(run: Run, engine: Callable[[str], Path]) -> None:
    refused(run("train", path=with_engine(engine), DATA="photos"), 3, "DATA=photos: no such file or folder")
    refused(run("deploy", path=with_engine(engine), BENCH="no.yaml"), 3, "BENCH=no.yaml")


def test_nothing_to_predict_with(run: Run, engine: Callable[[str], Path]) -> None:
    refused(run("runtime", path=with_engine(engine)), 3, "WORK=", "no such file or folder")


def test_a_path_that_docker_cannot_take(run: Run, engine: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    refused(run("train", path=with_engine(engine), DATA="a:b"), 2, "DATA=a:b", "colon")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to run as somebody else")
@pytest.mark.parametrize("variable", ["WORK", "OUT"])
def test_a_folder_that_cannot_be_written_to(variable: str, engine: Callable[[str], Path]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may not be entered by others
        Path(folder).chmod(0o755)
        shutil.copytree(engine("1.41"), f"{folder}/bin")
        shutil.copytree(ROOT / "docker", f"{folder}/docker")
        done = subprocess.run(
            ["/bin/bash", f"{folder}/docker/run.sh", "train"],
            cwd=folder,
            env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "WORK": "/tmp", variable: "/etc"},
            user=STRANGER,
            capture_output=True,
            text=True,
            check=False,
        )
    refused(done, 4, f"{variable}=/etc cannot be written to by user {STRANGER}", "chown")


def test_control_what_can_work_goes_on(run: Run, engine: Callable[[str], Path], tmp_path: Path) -> None:
    """The same calls with nothing in their way come to `docker run`, which gets what the container needs and no more."""
    (tmp_path / "photos").mkdir()
    done = run("deploy", "-m", "deploy", path=with_engine(engine), DATA="photos", OUT="drawn")
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert said[:2] == ["ran", "run"]
    assert said[-3:] == ["slipway-deploy", "-m", "deploy"]
    assert f"{tmp_path}/photos:{tmp_path}/photos:ro" in said
    assert f"{tmp_path}/drawn:{tmp_path}/drawn" in said
    assert {"--read-only", "ALL", "no-new-privileges", "none", f"{os.getuid()}:{os.getgid()}"} <= set(said)
    assert "bridge" in run("train", path=with_engine(engine)).stdout.split()
