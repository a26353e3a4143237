"""An image's SBOM lists all that the image has; one that leaves a package out is seen."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

PROGRAM = Path(__file__).parents[2] / "docker" / "sbom.py"
sbom = SimpleNamespace(**runpy.run_path(str(PROGRAM)))

#: One package of each kind, as an image and as syft spell it.
HAS = {("deb", "libstdc++6", "14.2.0-19"), ("pypi", "slipway-runtime", "0.1.0")}
LISTED = [
    ("libstdc++6", "14.2.0-19", "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=debian-13"),
    ("slipway_runtime", "0.1.0", "pkg:pypi/slipway-runtime@0.1.0"),
    ("slipway-train", "sha256:00", "pkg:oci/slipway-train@sha256:00?arch=amd64"),
]


def write(path: Path, packages: list[tuple[str, str, str]]) -> Path:
    document = [
        {
            "name": name,
            "versionInfo": version,
            "externalRefs": [{"referenceType": "purl", "referenceLocator": locator}],
        }
        for name, version, locator in packages
    ]
    path.write_text(json.dumps({"spdxVersion": "SPDX-2.3", "packages": document}))
    return path


def test_names_are_compared_as_their_kinds_are_spelled(tmp_path: Path) -> None:
    assert not sbom.missing(write(tmp_path / "all.json", LISTED), HAS)


@pytest.mark.parametrize(
    ("left_out", "named"), [(0, "Debian package libstdc++6 14.2.0-19"), (1, "wheel slipway-runtime 0.1.0")]
)
def test_control_a_package_that_is_not_listed_is_named(left_out: int, named: str, tmp_path: Path) -> None:
    rest = [package for number, package in enumerate(LISTED) if number != left_out]
    (line,) = sbom.missing(write(tmp_path / "less.json", rest), HAS)
    assert named in line


def test_control_another_version_is_not_the_same(tmp_path: Path) -> None:
    (line,) = sbom.missing(write(tmp_path / "all.json", LISTED), {("pypi", "slipway-runtime", "0.2.0")})
    assert "0.2.0" in line


def test_without_docker_there_is_no_sbom(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, "train", "--into", tmp_path / "sbom"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error: no SBOM: docker: No such file or directory")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "sbom").exists()


def built(image: str) -> bool:
    command = ["docker", "image", "inspect", f"slipway-{image}"]
    return (
        shutil.which("docker") is not None and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@pytest.mark.docker
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("image", ["runtime", "train", "deploy"])
def test_an_image_is_listed_whole(image: str, tmp_path: Path) -> None:
    if not built(image):
        pytest.skip(f"no image slipway-{image} here; `make images` builds it")
    command = [sys.executable, PROGRAM, image, "--into", tmp_path]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Debian packages" in done.stdout
    (path,) = tmp_path.iterdir()  # syft's copy of the image is gone
    document = json.loads(path.read_text())
    assert document["spdxVersion"] == "SPDX-2.3"
    has = sbom.inside(image)
    assert {kind for kind, _, _ in has} == {"deb", "pypi"}
    # Seeded: every tenth package, of this real SBOM.
    for gone in sorted(has)[::10]:
        less = {**document, "packages": [package for package in document["packages"] if not is_named(package, gone)]}
        path.write_text(json.dumps(less))
        (line,) = sbom.missing(path, has)
        assert f" {gone[1]} {gone[2]}," in line


def is_named(package: dict[str, object], gone: tuple[str, str, str]) -> bool:
    name = str(package["name"])
    return (name if gone[0] == "deb" else sbom._name(name)) == gone[1]
