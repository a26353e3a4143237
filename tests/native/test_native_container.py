"""The image of `ort_infer` (docker/runtime.Dockerfile): small, without privileges, and it answers as `slipway_runtime` does."""

import functools
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_images
from conftest import ROOT
from tiny_bundles import (
    build_detector,
    build_graph,
    build_manifest,
    build_segmenter,
    detector_manifest,
    segmenter_manifest,
    write_bundle,
)

import slipway_runtime
from slipway_runtime.preprocess import preprocess

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]  # the first build fetches compilers

TAG = "slipway-runtime:test"
BASE = "debian:trixie-slim"
#: What a container is run with: no network, no privileges, nothing to write to.
SAFE = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
#: A user that neither the image nor this machine knows.
STRANGER = 12345
TOOLS = re.compile(
    r"(^|/)(python[0-9.]*|pip[0-9]*|(c|g)\+\+[^/]*|gcc[^/]*|cc1(plus)?|cmake|make|ninja|ld|as)$|\.(h|hpp|a|py)$"
)

Container = Callable[..., "subprocess.CompletedProcess[str]"]


def docker(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["docker", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)


def build(*options: str) -> str:
    """The image's id; layers of an earlier build are used again."""
    built = docker("build", "--quiet", "--network=host", *options, "-f", "docker/runtime.Dockerfile", ".")
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return built.stdout.split()[-1]


def inspect(image: str) -> dict[str, Any]:
    return json.loads(docker("image", "inspect", image).stdout)[0]


@pytest.fixture(scope="session")
def image() -> str:
    """The image as a checkout builds it; skips where no engine answers."""
    if not shutil.which("docker"):
        pytest.skip("there is no docker here")
    asked = docker("version")
    if asked.returncode:
        pytest.skip(f"no Docker engine answers: {asked.stderr.strip()[:200]}")
    return build("-t", TAG)


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """The folder that containers see as /work."""
    folder = tmp_path / "mounted"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def container(image: str, mounted: Path) -> Container:
    """Runs the program in a container that may read the mounted folder, and write to its part `out` where there is one."""

    def run(*arguments: object, user: int | None = None) -> "subprocess.CompletedProcess[str]":
        out = [f"--volume={mounted / 'out'}:/work/out"] if (mounted / "out").is_dir() else []
        who = [] if user is None else [f"--user={user}:{user}"]
        return docker("run", "--rm", *SAFE, *who, f"--volume={mounted}:/work:ro", *out, image, *arguments)

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "photos"
    assert len(real_images.write(folder)) >= 50
    return folder


def writable(folder: Path) -> int:
    """Make a folder for a user who is not root; their number."""
    folder.mkdir()
    if os.getuid():
        return os.getuid()
    os.chown(folder, STRANGER, STRANGER)
    return STRANGER


def expected(mounted: Path, bundle: str = "bundle", photos: str = "photos") -> Iterator[dict[str, Any]]:
    """What `slipway_runtime` prints for a folder, as JSON reads it, with the names that the container sees."""
    paths = sorted(path for path in (mounted / photos).rglob("*") if path.is_file())
    for path, result in zip(paths, slipway_runtime.load(mounted / bundle)(paths), strict=True):
        yield {"image": str(path.relative_to(mounted))} | json.loads(json.dumps(result.to_dict()))


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def alike(found: Any, wanted: Any, tolerance: float) -> bool:
    """Equal but for the rounding of floating-point numbers."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(alike(found[key], wanted[key], tolerance) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted, [tolerance] * len(wanted)))
    if isinstance(wanted, float):
        return abs(found - wanted) <= tolerance
    return found == wanted


def test_control_a_difference_is_seen() -> None:
    wanted = {"top": [{"label": 1, "score": 0.5}]}
    assert alike({"top": [{"label": 1, "score": 0.500001}]}, wanted, 1e-5)
    assert not alike({"top": [{"label": 2, "score": 0.5}]}, wanted, 1e-5)
    assert not alike({"top": [{"label": 1, "score": 0.51}]}, wanted, 1e-5)
    assert not alike({"top": []}, wanted, 1e-5)


def write_detector(folder: Path) -> Path:
    table = np.array([(8, 8, 24, 24, 0.9, 1), (32, 0, 64, 64, 0.5, 2), (0, 0, 0, 0, 0, -1)], np.float32)
    masks = np.ones((3, 7, 7), np.float32)
    graph = build_detector(table[:, :5], table[:, 5].astype(np.int64), masks)
    return write_bundle(folder, graph, detector_manifest(masks.shape[1:]))


WRITERS: dict[str, Callable[[Path], Path]] = {
    "classifier": lambda folder: write_bundle(folder, build_graph(), build_manifest()),
    "segmenter": lambda folder: write_bundle(folder, build_segmenter(), segmenter_manifest()),
    "detector": write_detector,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_answers_as_python(kind: str, container: Container, mounted: Path, photos: Path) -> None:
    WRITERS[kind](mounted / "bundle")
    shutil.copytree(photos, mounted / "photos")
    found = lines(container("bundle", "photos", "--json"))
    wanted = list(expected(mounted))
    assert len(found) == len(wanted) >= 50
    for one, other in zip(found, wanted, strict=True):
        assert alike(one, other, 1e-5), one["image"]


def test_a_trained_bundle_and_its_input_bit_for_bit(
    container: Container, mounted: Path, photos: Path, digits_experiment: Any
) -> None:
    """The image's own libjpeg, libpng and OpenCV give the graph what Python's give it."""
    shutil.copytree(digits_experiment.bundle, mounted / "bundle")
    shutil.copytree(photos, mounted / "photos")
    user = writable(mounted / "out")
    found = lines(container("bundle", "photos", "--json", "--inputs", "out", user=user))
    for one, other in zip(found, expected(mounted), strict=True):
        assert alike(one, other, 1e-5), one["image"]
    steps = slipway_runtime.load(mounted / "bundle").manifest.preprocess
    for line in found:
        path = mounted / line["image"]
        given = np.load(mounted / "out" / f"{path.name}.npy")
        np.testing.assert_array_equal(given, preprocess(path, steps).array, err_msg=path.name)


def test_files_belong_to_the_caller(container: Container, mounted: Path, photos: Path) -> None:
    WRITERS["segmenter"](mounted / "bundle")
    shutil.copytree(photos, mounted / "photos")
    user = writable(mounted / "out")
    done = container("bundle", "photos", "--out", "out", user=user)
    assert done.returncode == 0, done.stderr
    written = [path for path in (mounted / "out").rglob("*") if path.is_file()]
    assert len(written) == 2 * len(list(photos.iterdir()))
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(user, user)}


def test_nothing_can_be_written_but_where_it_is_mounted(container: Container, mounted: Path, photos: Path) -> None:
    WRITERS["classifier"](mounted / "bundle")
    shutil.copytree(photos, mounted / "photos")
    for user in (None, 0):
        done = container("bundle", "photos", "--out", "drawn", user=user)
        assert done.returncode == 2
        assert "Read-only file system" in done.stderr.splitlines()[-1]


ERRORS = {
    "no image": (3, ["bundle", "broken.png"], "error: broken.png: "),
    "no file": (3, ["bundle", "absent.png"], "error: absent.png: cannot be read as an image file"),
    "no bundle": (3, ["absent", "broken.png"], "error: absent"),
    "no GPU": (4, ["bundle", "broken.png", "--device", "cuda"], "error: device 'cuda' needs CUDAExecutionProvider"),
    "no such device": (2, ["bundle", "broken.png", "--device", "tpu"], "--device: tpu not in"),
    "nothing asked": (2, [], "BUNDLE is required"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_are_a_line_and_a_code(kind: str, container: Container, mounted: Path) -> None:
    WRITERS["classifier"](mounted / "bundle")
    (mounted / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    code, arguments, text = ERRORS[kind]
    done = container(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert text in done.stderr


def test_help_and_versions(container: Container) -> None:
    assert "exit codes: 0 all predicted" in container("--help").stdout
    pinned = re.search(r"^onnxruntime==([0-9.]+)", (ROOT / "requirements" / "native.txt").read_text(), re.M)
    assert pinned
    assert container("--version").stdout.endswith(f"ONNX Runtime {pinned[1]}\n")


def test_what_the_image_says_of_itself(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["ort_infer"]
    assert config["WorkingDir"] == "/work"
    assert {"LANG=C.UTF-8", "LC_ALL=C.UTF-8"} <= set(config["Env"])
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "slipway-runtime"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == "0.1.0"
    assert "ort_infer" in labels["description"]


@functools.cache
def files(image: str) -> list[str]:
    """Names of all files of an image."""
    made = docker("create", image, "none").stdout.strip()
    try:
        with subprocess.Popen(["docker", "export", made], stdout=subprocess.PIPE) as exported:
            assert exported.stdout
            with tarfile.open(fileobj=exported.stdout, mode="r|") as archive:
                return [member.name for member in archive if not member.isdir()]
    finally:
        docker("rm", made)


def test_neither_compiler_nor_python_nor_what_apt_leaves(image: str) -> None:
    added = set(files(image)) - set(files(BASE))
    assert "usr/local/bin/ort_infer" in added
    assert {name for name in added if TOOLS.search(name)} == set()
    assert {name for name in files(image) if "bin/" in name and TOOLS.search(name)} == set()
    assert {name for name in added if name.startswith(("var/lib/apt/", "var/cache/", "var/log/", "tmp/"))} == set()


def test_control_they_are_seen_where_they_are(image: str) -> None:
    found = {Path(name).name for name in files(build("--target=build")) if TOOLS.search(name)}
    assert {"g++", "cmake", "cc1plus", "onnxruntime_cxx_api.h"} <= found


def test_licences_of_what_is_inside_are_inside(image: str) -> None:
    added = set(files(image))
    libraries = {"libopencv-core410", "libjpeg62-turbo", "libcli11-dev", "nlohmann-json3-dev"}
    assert {f"usr/local/share/doc/{name}/copyright" for name in libraries} <= added
    assert {"usr/local/share/doc/onnxruntime/LICENSE", "usr/local/share/doc/ort_infer/LICENSE"} <= added


def test_size(image: str) -> None:
    assert inspect(image)["Size"] - inspect(BASE)["Size"] <= 130e6
