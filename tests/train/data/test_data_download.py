"""Downloads from a real server that behaves well or badly."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from train.data.download import Download, extract, fetch
from train.errors import BackendError, InputError

CONTENT = np.random.default_rng(0).bytes(1_000_000)


@dataclass
class Server:
    """A file server. `cuts` holds how many bytes each coming answer sends before it hangs up."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    status: int | None = None
    cuts: list[int] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)

    def item(self) -> Download:
        digest = hashlib.sha256(CONTENT).hexdigest()
        return Download(url=f"{self.url}/file.bin", sha256=digest, size=len(CONTENT), licence="none")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.requests.append(asked)
            if state.status:
                self.send_error(state.status)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def test_download_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch(replace(server.item(), licence="CC BY 2.0"), tmp_path / "new")
    assert path == tmp_path / "new" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    captured = capsys.readouterr()
    assert "licence: CC BY 2.0" in captured.err
    assert captured.out == ""
    fetch(server.item(), path.parent)
    assert len(server.requests) == 1


def test_resume_within_a_run(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 100_000]
    assert fetch(server.item(), tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=400000-"]


def test_resume_in_the_next_run(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 0, 0]
    with pytest.raises(BackendError, match=r"broke off at 300000 of 1000000 bytes.*DATA="):
        fetch(server.item(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin.part"]
    server.requests.clear()
    assert fetch(server.item(), tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=300000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cuts = [300_000]
    assert fetch(server.item(), tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-"]


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert fetch(server.item(), tmp_path).read_bytes() == CONTENT


def test_wrong_content_is_removed(server: Server, tmp_path: Path) -> None:
    server.content = bytes(len(CONTENT))
    with pytest.raises(InputError, match="expected sha256"):
        fetch(server.item(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_file_is_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="expected sha256"):
        fetch(server.item(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fetch(server.item(), tmp_path).read_bytes() == CONTENT


def test_another_size_is_refused_before_the_transfer(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT + b"more"
    with pytest.raises(InputError, match="expected 1000000 bytes, the server has 1000004"):
        fetch(server.item(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_altered_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(bytes(len(CONTENT)))
    assert fetch(server.item(), tmp_path).read_bytes() == CONTENT


def test_a_refusing_server_is_asked_once(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(BackendError, match=r"HTTP 404.*--from <folder>"):
        fetch(server.item(), tmp_path / "new")
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_server(server: Server, tmp_path: Path) -> None:
    item = replace(server.item(), url="http://127.0.0.1:1/file.bin")
    with pytest.raises(BackendError, match=r"cannot download http://127.0.0.1:1/file.bin .*refused"):
        fetch(item, tmp_path)


def test_archives_cannot_write_outside(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="cannot be unpacked"):
        extract(archive, tmp_path / "in")
    assert not (tmp_path / "evil").exists()


def test_a_damaged_archive(tmp_path: Path) -> None:
    archive = tmp_path / "cut.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("a")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be unpacked"):
        extract(archive, tmp_path / "in")
