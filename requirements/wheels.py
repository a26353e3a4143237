"""A folder of wheels for machines without a network: collected on one machine, installed from on another.

    make wheels OUT=wheels TENSORRT=10.16.1.11
    make test-gpu WHEELS=wheels

The folder has the wheels and `requirements.txt`, which says which, with their hashes, and for which Python. It may leave to the
other machine's own Python what that has: `machine.txt`. This file needs Python alone, before there is a `.venv`.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
#: The wheels that are for Linux on x86-64 with glibc 2.35 or older; pip asks for each by its name.
PLATFORMS = [f"manylinux{name}_x86_64" for name in ("1", "2010", "2014", *(f"_2_{minor}" for minor in range(5, 36)))]
#: TensorRT by its version. 8.6 is whole in one wheel, for Python 3.10; of the others, these are in NVIDIA's own index only.
NVIDIAS = ("tensorrt-cu13", "tensorrt-cu13-libs")
OLD = "8.6.0"
HEAD = "# Python "


class RefusedError(Exception):
    """What was expected, what was found and what to do, in one line."""


def versions() -> list[str]:
    """The versions of TensorRT that there are requirements for."""
    return sorted(path.stem.removeprefix("tensorrt-") for path in HERE.glob("tensorrt-*.in"))


def collect(out: Path, uv: str, tensorrt: str | None, python: str, has: Path | None) -> None:
    """Fill a folder; what is there already is not fetched again.

    Args:
        out: the folder.
        uv: the program.
        tensorrt: a version of `versions()`; None: the rest without TensorRT.
        python: of the machine that the wheels are for, "3.12".
        has: that machine's `pip freeze`: what it has in the same version is left out.

    Raises:
        RefusedError: an unknown version, or wheels that the index does not have.
    """
    if tensorrt is not None and tensorrt not in versions():
        raise RefusedError(f"TENSORRT={tensorrt}: there is {', '.join(versions())}")
    if (tensorrt == OLD) != (python == "3.10"):
        raise RefusedError(
            f"TensorRT {OLD} is for Python 3.10, everything else for 3.11 and 3.12; the Python is {python}"
        )
    sets = [f"tensorrt-{OLD}"] if tensorrt == OLD else ["gpu", *([f"tensorrt-{tensorrt}"] if tensorrt else [])]
    out.mkdir(parents=True, exist_ok=True)
    listed = _resolve(uv, python, [HERE / f"{name}.txt" for name in sets])
    left = _same(listed, has.read_text(encoding="utf-8")) if has else {}
    listed = {name: text for name, text in listed.items() if name not in left}
    _download(out, python, "".join(listed.values()))
    if tensorrt not in (None, OLD):
        listed |= _nvidias(out, python, str(tensorrt))
    machine = out / "machine.txt"
    machine.write_text("".join(f"{pin}\n" for pin in left.values())) if left else machine.unlink(missing_ok=True)
    (out / "requirements.txt").write_text(f"{HEAD}{python}\n" + "".join(listed.values()))
    print(f"wrote: {out} ({len(listed)} wheels for Python {python}, {len(left)} left to the machine)")
    print(f"next, on the other machine: make setup WHEELS={out}")


def install(folder: Path, uv: str, venv: Path) -> None:
    """Make a virtual environment of a folder's wheels, without an index.

    Raises:
        RefusedError: no such folder, no such Python, a package that this machine's own Python was to have, or uv's refusal.
    """
    try:
        text = (folder / "requirements.txt").read_text(encoding="utf-8")
    except OSError as error:
        raise RefusedError(
            f"{folder}: expected a folder that `make wheels` filled ({error.strerror}: requirements.txt)"
        )
    python = text.split("\n", 1)[0].removeprefix(HEAD)
    own = (folder / "machine.txt").read_text().split() if (folder / "machine.txt").exists() else []
    _run(uv, "venv", "--quiet", "--offline", "--clear", "--python", sys.executable if own else python, venv)
    if own:
        _see_own(venv, own, python)
    offline = ("--offline", "--no-index", "--find-links", folder, "--python", venv / "bin" / "python")
    _run(
        uv,
        "pip",
        "sync",
        "--quiet",
        *offline,
        "--require-hashes",
        "--only-binary",
        ":all:",
        folder / "requirements.txt",
    )
    if own:
        _link_cuda(venv)


def _see_own(venv: Path, pins: Sequence[str], python: str) -> None:
    """Let a virtual environment see the packages of the Python that runs this, which may be a virtual environment itself."""
    import site
    from importlib import metadata

    found = ".".join(map(str, sys.version_info[:2]))
    if found != python:
        raise RefusedError(f"the wheels are for Python {python} with packages of its own, python3 is {found}")
    for pin in pins:
        name, _, wanted = pin.partition("==")
        try:
            version = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            version = "none"
        if version != wanted:
            raise RefusedError(
                f"python3 was to have {pin}, found {version}; `make wheels` again with HAS= of this machine"
            )
    (packages,) = venv.glob("lib/python3*/site-packages")
    (packages / "machine.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))


def _link_cuda(venv: Path) -> None:
    """Put python3's CUDA libraries beside the venv's own: ONNX Runtime looks for them beside itself only."""
    import site

    (packages,) = venv.glob("lib/python3*/site-packages")
    for root in map(Path, site.getsitepackages()):
        for library in root.glob("nvidia/*/lib/*.so*"):
            link = packages / library.relative_to(root)
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(library)


def _resolve(uv: str, python: str, files: Sequence[Path]) -> dict[str, str]:
    """Requirements of this Python on Linux, by name, each with its pin and hashes: uv knows which, the files have the hashes."""
    which = ("--only-binary", ":all:", "--python-version", python, "--python-platform", "x86_64-manylinux_2_28")
    what = ("--no-deps", "--no-annotate", "--no-header", *which, *map(str, files))
    made = subprocess.run([uv, "pip", "compile", "--quiet", *what], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        raise RefusedError("uv could not resolve the requirements, see above")
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    blocks = re.findall(r"^([a-z0-9][^ ]*)(.*?)(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    hashes = {pin: re.findall(r"--hash=sha256:[0-9a-f]{64}", block) for pin, block in blocks}
    pins = [line for line in made.stdout.splitlines() if "==" in line]
    return {pin.split("==")[0]: " \\\n    ".join([pin, *hashes[pin]]) + "\n" for pin in pins}


def _same(listed: dict[str, str], frozen: str) -> dict[str, str]:
    """Of requirements those that `pip freeze` has in the same version, by name; "+cu130" and the like do not count."""
    pins = {}
    for line in frozen.splitlines():
        name, _, version = line.strip().partition("==")
        pins[re.sub(r"[-_.]+", "-", name).lower()] = version.partition("+")[0]
    wanted = {name: block.split()[0] for name, block in listed.items()}
    return {name: pin for name, pin in wanted.items() if pins.get(name) == pin.partition("==")[2]}


def _download(out: Path, python: str, requirements: str) -> None:
    file = out / "requirements.part"
    file.write_text(requirements)
    try:
        _pip(out, python, "--require-hashes", "-r", file)
    finally:
        file.unlink()


def _nvidias(out: Path, python: str, version: str) -> dict[str, str]:
    """What belongs to TensorRT's bindings, from wherever pip looks; the hashes are of what was found there."""
    listed = {}
    for name in NVIDIAS:
        try:
            _pip(out, python, f"{name}=={version}")
        except RefusedError:
            raise RefusedError(
                f"no wheel of {name} {version} found: name NVIDIA's own index for pip (PIP_EXTRA_INDEX_URL=…), or put the wheel "
                f"into {out}; the rest is there, the same command goes on"
            )
        (wheel,) = out.glob(f"{name.replace('-', '_')}-{version}-*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        listed[name] = f"{name}=={version} \\\n    --hash=sha256:{digest}\n"
    return listed


def _pip(out: Path, python: str, *what: str | Path) -> None:
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    which = ("--only-binary=:all:", "--no-deps", f"--python-version={python}", "--implementation=cp", *platforms)
    # What is there already is found there, and not fetched.
    where = ("--dest", out, "--find-links", out)
    _run(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *which, *where, *what)


def _run(*command: str | Path) -> None:
    if subprocess.run([str(part) for part in command]).returncode:
        raise RefusedError(f"{Path(command[0]).name} {command[1]} failed, see above")


def main(argv: Sequence[str]) -> int:
    """Parse the command line; errors are one line, exit code 4."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    get = verbs.add_parser("collect")
    get.add_argument("out", type=Path)
    get.add_argument("--tensorrt")
    get.add_argument(
        "--for", dest="python", help="Python of the other machine (default: 3.12, or 3.10 for TensorRT 8.6)"
    )
    get.add_argument("--has", type=Path, help="`pip freeze` of that machine: what it has is left out")
    put = verbs.add_parser("install")
    put.add_argument("folder", type=Path)
    put.add_argument("--venv", type=Path, default=Path(".venv"))
    for verb in (get, put):
        verb.add_argument("--uv", default="uv")
    given = parser.parse_args(argv)
    try:
        if given.verb == "install":
            install(given.folder, given.uv, given.venv)
        else:
            python = given.python or ("3.10" if given.tensorrt == OLD else "3.12")
            collect(given.out, given.uv, given.tensorrt, python, given.has)
    except RefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
