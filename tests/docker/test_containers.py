"""The images of all rooms, built from the checkout with a real engine: what they may do, and that they do what a checkout does."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from train import checkpoint
from train.errors import InputError

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]  # the first build installs everything

#: A user whom neither the images nor this machine know.
STRANGER = 12345
IMAGES = ("environment", "train", "deploy", "runtime")
Make = Callable[..., "subprocess.CompletedProcess[str]"]


def docker(*arguments: object) -> str:
    return subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def checkout() -> Iterator[Path]:
    """A copy of the checkout's files, which tests may edit, with its images built; skips where no engine answers."""
    if not shutil.which("docker"):
        pytest.skip("there is no docker here")
    asked = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip(f"no Docker engine answers: {asked.stderr.strip()[:200]}")
    # Not below pytest's folders, which the stranger may not enter.
    with tempfile.TemporaryDirectory(prefix="checkout-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for file in filter(lambda file: (ROOT / file).is_file(), listed.splitlines()):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, folder / file)
        built = make_in(folder)("images")
        assert built.returncode == 0, built.stderr[-3000:]
        yield folder


def make_in(folder: Path, user: int | None = None, **changed: str) -> Make:
    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "DOCKER_BUILD": "--network=host", "DOCKER_NETWORK": "host", **changed}
        environment.pop("MAKEFLAGS", None)
        command = ["make", *arguments]
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *command]
            environment["HOME"] = str(folder)
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    return call


def engine_socket() -> Path:
    return Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))


@pytest.fixture(scope="session")
def open_socket(checkout: Path) -> Iterator[str]:
    """The engine for everybody, as a member of the group docker has it: DOCKER_HOST."""
    path = checkout / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o666)
        server.listen()
        threading.Thread(target=forward, args=(server,), daemon=True).start()
        yield f"unix://{path}"


def forward(server: socket.socket) -> None:
    """Pass every connection on to the engine, each direction until its end."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    while True:
        try:
            caller, _ = server.accept()
        except OSError:
            return
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(str(engine_socket()))
        for pair in ((caller, engine), (engine, caller)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


@pytest.fixture(scope="session")
def work(checkout: Path) -> Path:
    """Where the demo writes."""
    folder = checkout / "work"
    folder.mkdir()
    os.chown(folder, STRANGER, STRANGER)
    return folder


@pytest.fixture(scope="session")
def demo(checkout: Path, work: Path, open_socket: str) -> str:
    """The demo in containers, run by somebody who is not root; what it printed."""
    for path in (checkout / ".build", *(checkout / ".build").iterdir()):
        os.chown(path, STRANGER, STRANGER)
    done = make_in(checkout, STRANGER, DOCKER_HOST=open_socket)("demo", "RUN=docker")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def inside(checkout: Path, room: str, code: str) -> dict[str, object]:
    """What a piece of Python prints as JSON, run as a verb is."""
    environment = {**os.environ, "DOCKER_BUILD": "--network=host", "WORK": str(checkout / "scratch")}
    done = subprocess.run(
        [checkout / "docker" / "run.sh", room, "-c", code],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


#: What a checkpoint tries when it is opened: the network, its own file, the checkout's, and the folder that it may write to.
FOREIGN = """
import json, pathlib, socket, sys
def tried(attempt):
    try:
        attempt(); return True
    except OSError:
        return False
here, out = pathlib.Path(sys.argv[-2]), pathlib.Path(sys.argv[-1]).parent
found = dict(
    network=tried(lambda: socket.create_connection(("192.0.2.1", 80), 1)) or tried(lambda: socket.getaddrinfo("debian.org", 80)),
    itself=tried(lambda: here.write_bytes(b"")),
    root=tried(lambda: pathlib.Path("/slipway/left").write_text("")),
    work=pathlib.Path(WORK).exists(),
)
tried(lambda: (here.parent / "left").write_text(""))
(out / "tried.json").write_text(json.dumps(found))
"""


class Foreign:
    def __init__(self, work: Path) -> None:
        self.work = work

    def __reduce__(self) -> tuple[object, tuple[str, dict[str, object]]]:
        return exec, (FOREIGN.replace("WORK", repr(str(self.work))), {})


@pytest.mark.parametrize("guarded", [True, False])
def test_a_foreign_checkpoint_is_converted_where_its_code_harms_nothing(
    checkout: Path, tmp_path: Path, guarded: bool
) -> None:
    """Control: outside of the container the same code does all it wants, but for the network, which is not there to ask."""
    weights = {"weight": torch.arange(6.0).reshape(2, 3).T}
    theirs, out = tmp_path / "in" / "theirs.pth", tmp_path / "out"
    for folder in (theirs.parent, out, checkout / "work"):
        folder.mkdir(exist_ok=True)
    torch.save({"state_dict": weights, "extra": Foreign(checkout / "work")}, theirs)
    whole = theirs.read_bytes()
    with pytest.raises(InputError, match="make convert"):
        checkpoint.read(theirs)
    if guarded:
        done = make_in(checkout)("convert", f"CHECKPOINT={theirs}", f"OUT={out}")
        assert done.returncode == 0, done.stderr
    else:
        command = [sys.executable, "-m", "train.convert", "--trust-checkpoint", theirs, out / "theirs.safetensors"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    tried = json.loads((out / "tried.json").read_text())
    assert tried.pop("network") is False or not guarded
    tried.pop("root")  # there is no such folder outside
    assert set(tried.values()) == {not guarded}
    assert (theirs.read_bytes() == whole) == guarded
    assert (theirs.parent / "left").exists() != guarded
    if guarded:
        torch.testing.assert_close(checkpoint.read(out / "theirs.safetensors")["state_dict"], weights)


LOOK = """
import json, os, socket
from pathlib import Path
status = dict(line.split(":\\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\\t" in line)
def can(path):
    try:
        Path(path, "probe").write_text("x"); return True
    except OSError:
        return False
print(json.dumps({
    "user": os.getuid(), "capabilities": int(status["CapEff"], 16), "no_new_privileges": status["NoNewPrivs"],
    "writes": [path for path in ("/", "/slipway", "/opt/slipway", "/etc", "/tmp") if can(path)],
    "interfaces": [name for _, name in socket.if_nameindex()],
}))
"""


def test_a_verb_has_no_more_than_it_needs(checkout: Path) -> None:
    found = inside(checkout, "deploy", LOOK)
    assert found == {
        "user": os.getuid(),
        "capabilities": 0,
        "no_new_privileges": "1",
        "writes": ["/tmp"],
        "interfaces": ["lo"],
    }


def test_control_an_ordinary_container_has_more(checkout: Path) -> None:
    found = json.loads(docker("run", "--rm", "--user", "0:0", "--network", "host", "slipway-deploy", "-c", LOOK))
    assert found["capabilities"]
    assert {"/", "/etc"} <= set(found["writes"])


@pytest.mark.parametrize("image", IMAGES)
def test_images_are_no_ones_and_say_what_they_are(checkout: Path, image: str) -> None:
    config = json.loads(docker("image", "inspect", f"slipway-{image}"))[0]["Config"]
    assert config["User"] == "10001:10001"
    if image != "environment":
        assert config["Labels"]["org.opencontainers.image.title"] == f"slipway-{image}"
        assert config["Labels"]["org.opencontainers.image.version"]


def test_the_demo_is_the_callers_and_whole(demo: str, work: Path) -> None:
    files = [path for path in work.rglob("*") if path.is_file()]
    assert {path.stat().st_uid for path in files} == {STRANGER}
    names = {str(path.relative_to(work / "cls" / "resnet18_digits")) for path in files if "cls" in path.parts}
    assert {"train/checkpoint.pth", "bundle/manifest.json", "bundle/model.int8.onnx", "bench/report.html"} <= names
    predictions = [line for line in demo.splitlines() if "work/data/digits/val/7/" in line and line.split()[1] == "7"]
    assert len(predictions) >= 3  # printed by ort_infer, in the runtime's container


def test_the_demo_equals_the_one_of_a_checkout(demo: str, work: Path, tmp_path: Path) -> None:
    """The same seed gives the same top-1 and the same bundle's graph."""
    done = subprocess.run(
        ["make", "train-cls", "export-cls", f"WORK={tmp_path}/work"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    own, theirs = (folder / "cls" / "resnet18_digits" for folder in (tmp_path / "work", work))
    accuracy = [json.loads((folder / "train" / "record.json").read_text())["metrics"] for folder in (own, theirs)]
    assert accuracy[0] == pytest.approx(accuracy[1])
    inputs = [json.loads((folder / "bundle" / "manifest.json").read_text()) for folder in (own, theirs)]
    for field in ("name", "classes", "inputs", "outputs", "preprocess", "postprocess"):
        assert inputs[0][field] == inputs[1][field]


def layers(image: str) -> list[str]:
    found: list[str] = json.loads(docker("image", "inspect", f"slipway-{image}"))[0]["RootFS"]["Layers"]
    return found


def created_by(image: str) -> list[str]:
    """Each step of an image that made a layer, first first."""
    rows = docker("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", f"slipway-{image}").splitlines()
    return [row.partition("\t")[2] for row in reversed(rows) if not row.startswith("0B\t")]


def test_a_change_of_the_source_installs_nothing_anew(checkout: Path) -> None:
    before = {image: layers(image) for image in IMAGES[:3]}
    source = checkout / "train" / "__init__.py"
    source.write_text(source.read_text() + "\n# changed\n")
    built = make_in(checkout)("images")
    assert built.returncode == 0, built.stderr[-3000:]
    after = {image: layers(image) for image in IMAGES[:3]}
    assert after["environment"] == before["environment"]
    for image in ("train", "deploy"):
        kept = [old for old, new in zip(before[image], after[image], strict=True) if old == new]
        assert after[image] != before[image]  # the change is in
        assert kept[: len(before["environment"])] == before["environment"]
        assert all("pip" not in step and "apt-get" not in step for step in created_by(image)[len(kept) :])
    # The packages of deployment lie between the environment and the source: they were kept too.
    assert before["deploy"][len(before["environment"])] == after["deploy"][len(before["environment"])]


def test_a_missing_gpu_runtime_is_one_line(checkout: Path) -> None:
    if "nvidia" in docker("info", "--format", "{{json .Runtimes}}"):
        pytest.skip("there is a GPU runtime here")
    done = make_in(checkout)("train-cls", "RUN=docker", "GPUS=all", f"WORK={checkout / 'scratch'}")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "gives containers no GPU" in line
    assert "container toolkit" in line
    assert "Error 4" in done.stderr


def test_compose_is_valid(checkout: Path) -> None:
    command = next(
        (c for c in (["docker", "compose"], ["docker-compose"]) if shutil.which(c[0]) and answers([*c, "version"])),
        None,
    )
    if command is None:
        pytest.skip("there is no compose here")
    file = ["-f", checkout / "docker" / "compose.yaml"]

    def services(*options: str) -> set[str]:
        done = subprocess.run(
            [*command, *file, *options, "config", "--services"], capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    assert {"train", "export", "bench", "infer"} <= services()
    assert {"train-gpu", "bench-gpu", "engine-gpu"} <= services("--profile", "gpu")


def answers(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
