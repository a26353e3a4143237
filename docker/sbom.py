"""What is in an image, as SPDX JSON, and whether all of it is listed: `make sbom`.

    python docker/sbom.py train deploy runtime

syft writes `.build/sbom/slipway-NAME.spdx.json`; `missing` then compares it with what dpkg and Python say in the image. Exit
codes: 0 all is listed · 4 no Docker, no image or no syft · 5 something is missing.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: A kind of package (the type of its purl), its name and version.
Package = tuple[str, str, str]

#: All that dpkg has installed, then what it knows of libraries that were copied in (docker/libraries.sh).
DEBIAN = r"""
dpkg-query --show --showformat 'Package: ${Package}\nVersion: ${Version}\n\n'
for file in /var/lib/dpkg/status.d/*; do if [ -e "$file" ]; then cat "$file"; echo; fi; done
"""
#: Of the image without Python: the requirements whose libraries it was built with (docker/runtime.Dockerfile, DEVICE).
NATIVE = "if [ -e /usr/local/lib/libonnxruntime_providers_cuda.so ]; then echo native-cuda; else echo native; fi"
WHEELS = (
    "from importlib.metadata import distributions\nfor one in distributions(): print(one.metadata['Name'], one.version)"
)


class EngineError(Exception):
    """What docker or syft said, in one line."""


def listed(sbom: Path) -> set[Package]:
    """The Debian packages and wheels of an SPDX 2.3 document, by their purl (https://github.com/package-url/purl-spec)."""
    found = set()
    for package in json.loads(sbom.read_text(encoding="utf-8"))["packages"]:
        for reference in package.get("externalRefs", []):
            kind = re.match(r"pkg:(deb|pypi)/", reference["referenceLocator"])
            if reference["referenceType"] == "purl" and kind:
                name = package["name"] if kind[1] == "deb" else _name(package["name"])
                found.add((kind[1], name, package["versionInfo"]))
    return found


def inside(image: str) -> set[Package]:
    """The Debian packages and wheels that an image itself says it has.

    Args:
        image: train, deploy or runtime.

    Raises:
        EngineError: the image cannot be asked.
    """
    run = ("docker", "run", "--rm", "--network=none")
    shell = (*run, "--entrypoint=sh", f"slipway-{image}", "-c")
    fields = re.findall(r"^(Package|Version): (.*)$", _run(*shell, DEBIAN), re.M)
    names = [value for field, value in fields if field == "Package"]
    versions = [value for field, value in fields if field == "Version"]
    found = {("deb", name, version) for name, version in zip(names, versions, strict=True)}
    if image == "runtime":
        text = (ROOT / "requirements" / f"{_run(*shell, NATIVE).strip()}.txt").read_text(encoding="utf-8")
        pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==([^ ]+)", text, re.M)
    else:
        pins = [tuple(line.split()) for line in _run(*run, f"slipway-{image}", "-c", WHEELS).splitlines()]
    return found | {("pypi", _name(name), version) for name, version in pins}


def missing(sbom: Path, has: set[Package]) -> list[str]:
    """A line for each package that an SBOM does not list in this version."""
    lines = []
    for kind, name, version in sorted(has - listed(sbom)):
        what = {"deb": "Debian package", "pypi": "wheel"}[kind]
        lines.append(f"{sbom.name} does not list the {what} {name} {version}, which the image has")
    return lines


def write(image: str, into: Path) -> Path:
    """Let syft look at an image.

    Args:
        image: train, deploy or runtime.
        into: the folder; it also takes syft's copy of the image for as long as that takes.

    Returns:
        The file, SPDX 2.3 as JSON, whole or absent.

    Raises:
        EngineError: there is no such image.
    """
    _run("docker", "image", "inspect", f"slipway-{image}")
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"slipway-{image}.spdx.json"
    with tempfile.TemporaryDirectory(dir=into) as folder:
        new = Path(folder, path.name)
        environment = {"TMPDIR": folder, "SYFT_CHECK_FOR_APP_UPDATE": "false"}
        syft = Path(sys.executable).with_name("syft")
        _run(str(syft), "scan", f"docker:slipway-{image}", f"--output=spdx-json={new}", **environment)
        os.replace(new, path)
    return path


def _name(name: str) -> str:
    """A wheel's name in PEP 503's spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(*command: str, **environment: str) -> str:
    try:
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and "--help" not in line]
        said = said or [f"exit code {done.returncode}"]
        raise EngineError(f"{Path(command[0]).name} {command[1]}: {said[-1]}")
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line; write and check each SBOM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", choices=("train", "deploy", "runtime"))
    parser.add_argument("--into", type=Path, default=Path(".build/sbom"), metavar="DIR", help="default: %(default)s")
    given = parser.parse_args(argv)
    code = 0
    try:
        for image in given.images:
            path = write(image, given.into)
            has = inside(image)
            for line in missing(path, has):
                print(f"error: {line}", file=sys.stderr)
                code = 5
            kinds = [kind for kind, _, _ in has]
            print(f"{path}: Debian packages: {kinds.count('deb')}, wheels: {kinds.count('pypi')}")
    except EngineError as error:
        print(f"error: no SBOM: {error}; `make images` builds the images, with Docker", file=sys.stderr)
        return 4
    return code


if __name__ == "__main__":
    sys.exit(main())
