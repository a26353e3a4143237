"""`make audit-deps`: what is not hashed, has a licence that is not listed or an advisory fails, and so does a service that is silent."""

import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "requirements" / "audit.py"
HASH = f"--hash=sha256:{'0' * 64}"
#: One advisory as OSV gives it: https://ossf.github.io/osv-schema/
ADVISORY = {
    "schema_version": "1.6.0",
    "id": "GHSA-aaaa-bbbb-cccc",
    "aliases": ["CVE-2026-1"],
    "summary": "seeded",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "leaky"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]}],
        }
    ],
}


class Service(ThreadingHTTPServer):
    """Answers in OSV's format: https://google.github.io/osv.dev/post-v1-query/"""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str]] = []
        self.answers: dict[tuple[str, str], Any] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/query"


class Answer(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert query["package"]["ecosystem"] == "PyPI"
        asked = (query["package"]["name"], query["version"])
        self.server.asked.append(asked)
        answer = self.server.answers.get(asked, {})
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def audit(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """The program on requirement files of these texts."""

    def call(url: str, *texts: str, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"set{number}.txt")
            files[-1].write_text(text)
        command = [sys.executable, PROGRAM, *files, "--service", url, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return call


Audit = Callable[..., "subprocess.CompletedProcess[str]"]


def test_every_python_s_version_counts_once(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text(f"two==1.0 {HASH}  # of an old Python\none==1 \\\n    {HASH} \\\n    {HASH}\n    # via two\n")
    new.write_text(f'# a comment\ntwo[extra]==2.0 ; python_version >= "3.99" {HASH}\nOne==1 {HASH}\n')
    pins, faults = runpy.run_path(str(PROGRAM))["read"]([old, new])
    assert not faults
    assert pins == {("two", "1.0"): [str(old)], ("one", "1"): [str(old), str(new)], ("two", "2.0"): [str(new)]}


def test_a_vulnerable_pin_fails_and_an_accepted_advisory_does_not(
    service: Service, audit: Audit, tmp_path: Path
) -> None:
    service.answers["leaky", "2.0"] = {"vulns": [ADVISORY]}
    service.answers["odd", "1.0"] = {"vulns": [{**ADVISORY, "id": "GHSA-known", "aliases": []}]}
    text = f"leaky==2.0 {HASH}\nodd==1.0 {HASH}\nsound==1.0 {HASH}\n"
    done = audit(service.url, text, options=("--accept", "GHSA-known"))
    assert (done.returncode, done.stdout) == (5, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: leaky 2.0: ")
    for part in ("CVE-2026-1", "GHSA-aaaa-bbbb-cccc", "fixed in 2.1", str(tmp_path / "set0.txt")):
        assert part in line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("naked==1.0", "naked 1.0 has no hash"),
        ("naked==1.0 --hash=md5:00", "naked 1.0 has no hash"),
        (f"loose>=1.0 {HASH}", "loose has no version"),
        (f"loose==1.* {HASH}", "loose has no version"),
        ("-r other.txt", "'-r other.txt' is no requirement"),
    ],
)
def test_a_requirement_without_hash_or_pin_fails_before_anything_is_asked(
    line: str, says: str, service: Service, audit: Audit
) -> None:
    done = audit(service.url, f"sound==1.0 {HASH}\n{line}\n")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not service.asked


def test_a_service_that_cannot_be_reached_is_no_pass(audit: Audit) -> None:
    done = audit("http://127.0.0.1:1/v1/query", f"sound==1.0 {HASH}\n")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: the advisory service was not asked about every requirement")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "answer",
    [
        503,
        {"next_page_token": "x"},
        {"vulns": [{**ADVISORY, "schema_version": "2.0.0"}]},
    ],
    ids=["fails", "page", "version"],
)
def test_an_answer_that_is_not_understood_is_no_pass(answer: object, service: Service, audit: Audit) -> None:
    service.answers["leaky", "2.0"] = answer
    done = audit(service.url, f"leaky==2.0 {HASH}\n")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("metadata", "code", "says"),
    [
        ("License-Expression: MIT", 0, "MIT: viral"),
        ("License-Expression: Apache-2.0 OR GPL-3.0-only", 0, "Apache-2.0 OR GPL-3.0-only: viral"),
        ("Classifier: License :: OSI Approved :: BSD License", 0, "BSD-3-Clause: viral"),
        ("License: FreeBSD", 0, "BSD-2-Clause: viral"),
        (
            "License-Expression: GPL-3.0-only",
            5,
            "viral: its licence is 'GPL-3.0-only', which licences.toml does not allow",
        ),
        ("License-Expression: MIT AND GPL-3.0-only", 5, "viral: its licence is 'MIT AND GPL-3.0-only'"),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", 5, "GNU Affero"),
        ("Summary: says nothing of it", 5, "viral: its licence is ''"),
    ],
)
def test_a_licence_must_be_allowed(
    metadata: str, code: int, says: str, service: Service, audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "viral-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.4\nName: viral\nVersion: 1.0\n{metadata}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = audit(service.url, f"viral==1.0 {HASH}\nabsent==1.0 {HASH}\n")
    assert done.returncode == code, done.stderr
    assert says in (done.stderr if code else done.stdout)
    assert bool(service.asked) == (code == 0)
    assert code or "not installed here, licence not looked at: absent" in done.stdout


def test_every_requirement_of_the_project_is_asked_about(service: Service) -> None:
    files = sorted((ROOT / "requirements").glob("*.txt"))
    command = [sys.executable, PROGRAM, *files, "--service", service.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"in {len(files)} files" in done.stdout
    names = {line.partition("==")[0].partition("[")[0] for file in files for line in file.read_text().splitlines()}
    names = {name for name in names if name and name[0].isalnum()}
    assert {name for name, _ in service.asked} == names
    assert (
        len(set(service.asked)) == len(service.asked) > len(names)
    )  # of some, different Pythons get different versions


def test_make_asks_about_every_set() -> None:
    command = ["make", "--dry-run", "audit-deps", "OSV=http://x/query", "ACCEPT=GHSA-1 CVE-2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (
        "requirements/audit.py requirements/*.txt --service http://x/query --accept GHSA-1 --accept CVE-2"
        in done.stdout
    )
