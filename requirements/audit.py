"""Is every requirement pinned and hashed, is its licence allowed, and is there no advisory against it? `make audit-deps` asks.

    python requirements/audit.py requirements/*.txt

pip-audit asks a service in OSV's format (https://google.github.io/osv.dev/post-v1-query/) about each version that any Python
would install from the files. Nothing is resolved or installed. Licences are those of the requirements that are installed here.
Exit codes: 0 all is well · 3 a requirement without pin or hash · 4 no answer from the service · 5 a known vulnerability, or a
licence that licences.toml does not allow.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import tomllib
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

#: A name and a version, and the files that have them.
Pins = dict[tuple[str, str], list[str]]
HASH = re.compile(r"sha256:[0-9a-f]{64}")
#: pip-audit says so each time: it does not fetch files to compare them with their hashes. Whoever installs them does.
KNOWN = "only enforces hash presence"
#: The licences that requirements may have.
ALLOWED = Path(__file__).with_name("licences.toml")
APPROVED = "License :: OSI Approved :: "


class NoAnswerError(Exception):
    """The service, or pip-audit, did not answer for every requirement."""


def read(paths: Iterable[Path]) -> tuple[Pins, list[str]]:
    """The pins of requirement files, and what is wrong with their lines. Markers are left out: every Python counts."""
    pins: Pins = {}
    faults = []
    for path in paths:
        for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line).strip()
            if not line:
                continue
            text, *hashes = (part.strip() for part in line.split("--hash="))
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                faults.append(f"{path}: '{text}' is no requirement NAME==VERSION --hash=sha256:…")
                continue
            pinned = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
            if pinned is None:
                faults.append(f"{path}: {requirement.name} has no version ==…; `make requirements` pins it")
            elif not hashes or not all(HASH.fullmatch(value) for value in hashes):
                faults.append(f"{path}: {requirement.name} {pinned[1]} has no hash; `make requirements` writes it")
            else:
                files = pins.setdefault((canonicalize_name(requirement.name), pinned[1]), [])
                files.extend([str(path)] if str(path) not in files else [])
    return pins, faults


def audit(pins: Pins, service: str | None, accepted: Sequence[str]) -> list[str]:
    """A line for each advisory against a pin.

    Args:
        pins: what to ask about.
        service: the URL of a query in OSV's format; None: pip-audit's own.
        accepted: advisories that are known and let pass.

    Raises:
        NoAnswerError: some pin is without an answer.
    """
    found = []
    left = sorted(pins)
    while left:
        # pip-audit takes one version of a name at a time; different Pythons get different ones.
        now = dict(left)
        left = [pin for pin in left if now[pin[0]] != pin[1]]
        for answer in _ask(now, service, accepted):
            pin = (answer["name"], answer["version"])
            for advisory in answer["vulns"]:
                names = ", ".join(dict.fromkeys([advisory["id"], *advisory["aliases"]]))
                fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
                found.append(f"{pin[0]} {pin[1]}: {names}, fixed in {fixed}; it is in {', '.join(pins[pin])}")
    return found


def _ask(pins: dict[str, str], service: str | None, accepted: Sequence[str]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        lines = [f"{name}=={version} --hash=sha256:{'0' * 64}" for name, version in pins.items()]
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(file), "--disable-pip", "--require-hashes"]
        command += ["--vulnerability-service", "osv", *(["--osv-url", service] if service else []), "--format", "json"]
        command += ["--progress-spinner", "off", "--cache-dir", folder, *(f"--ignore-vuln={name}" for name in accepted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines() or ["nothing"]
    warnings = [line for line in said if line.startswith("WARNING") and KNOWN not in line]
    if not done.stdout or warnings:
        raise NoAnswerError((warnings or said)[-1])
    answers: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    if {(answer["name"], answer.get("version")) for answer in answers} != set(pins.items()):
        raise NoAnswerError(f"{len(answers)} answers to {len(pins)} questions")
    return answers


def licences(names: Iterable[str], path: Path) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Compare the licences of the packages that are installed with the list of those allowed.

    Returns:
        Licence → packages; a line for each package whose licence is not allowed; the packages that are not installed.
    """
    listed = tomllib.loads(path.read_text(encoding="utf-8"))
    identifiers = {each: name for name, spelled in listed["allowed"].items() for each in (name, *spelled)}
    found: dict[str, list[str]] = {}
    faults, absent = [], []
    for name in sorted(set(names)):
        try:
            said = listed["stated"].get(name) or licence(metadata.metadata(name))
        except metadata.PackageNotFoundError:
            absent.append(name)
            continue
        if not allowed(said, identifiers):
            faults.append(
                f"{name}: its licence is '{said}', which {path.name} does not allow; read it, list it, or do without"
            )
        found.setdefault(identifiers.get(said, said), []).append(name)
    return found, faults, absent


def licence(package: metadata.PackageMetadata) -> str:
    """What a package's metadata say: the expression, the classifiers, or the first line of the free text; "" for nothing.

    Source: https://packaging.python.org/en/latest/specifications/core-metadata
    """
    if package.get("License-Expression"):
        return str(package["License-Expression"])
    classified = [each for each in package.get_all("Classifier") or [] if each.startswith(APPROVED)]
    if classified:
        return " AND ".join(each.removeprefix(APPROVED) for each in classified)
    return next((line.strip() for line in str(package.get("License") or "").splitlines() if line.strip()), "")


def allowed(said: str, identifiers: dict[str, str]) -> bool:
    """Whether an expression is allowed: all that AND joins, one of what OR joins. One with brackets is not."""
    return all(any(part.strip() in identifiers for part in each.split(" OR ")) for each in said.split(" AND "))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line; a line for each fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--service", metavar="URL", help="another service's query (default: pip-audit's)")
    parser.add_argument("--licences", type=Path, default=ALLOWED, metavar="FILE", help="the licences allowed")
    parser.add_argument("--accept", action="append", default=[], metavar="ID", help="an advisory to let pass")
    given = parser.parse_args(argv)
    pins, faults = read(given.files)
    code = 3
    if not faults:
        code = 5
        named, faults, absent = licences((name for name, _ in pins), given.licences)
    if not faults:
        try:
            faults = audit(pins, given.service, given.accept)
        except NoAnswerError as error:
            code = 4
            faults = [f"the advisory service was not asked about every requirement ({error}); is there a network?"]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if faults:
        return code
    for each, names in sorted(named.items()):
        print(f"{each}: {', '.join(names)}")
    print(f"not installed here, licence not looked at: {', '.join(absent) or 'none'}")
    print(
        f"{len(pins)} versions in {len(given.files)} files, all with hashes, none with a known vulnerability, all licences allowed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
