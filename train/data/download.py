"""Fetch a file: resumed where it broke off, checked against its SHA-256, whole or absent."""

import http.client
import os
import ssl
import tarfile
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

from train.cli import say
from train.errors import BackendError, InputError
from train.files import sha256

ATTEMPTS = 3
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18  # bytes
_WAY_OUT = "Run again to go on, or give a local copy: DATA=<folder> (--from <folder>)"


@dataclass(frozen=True)
class Download:
    """A file on the network: URL, SHA-256, size in bytes, and the licence that the user accepts by fetching it."""

    url: str
    sha256: str
    size: int
    licence: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.url.rsplit("/", 1)[-1]


def fetch(item: Download, folder: Path) -> Path:
    """Return the file's path in `folder`, downloading it there unless it is already.

    A transfer that breaks off leaves `NAME.part`; the next attempt, in this run or another, asks the server for the
    rest (HTTP Range, RFC 9110 §14) and starts over where the server cannot do that.

    Raises:
        BackendError: the server cannot be reached, or the transfer keeps breaking off.
        InputError: the content is not the expected one; it is removed.
    """
    target = folder / item.name
    if target.is_file() and target.stat().st_size == item.size and sha256(target) == item.sha256:
        return target
    part = folder / f"{item.name}.part"
    say(f"downloading {item.url} ({item.size / 1e6:.1f} MB) to {folder}")
    say(f"licence: {item.licence}")
    _transfer(item, part)
    found = sha256(part)
    if found != item.sha256:
        part.unlink()
        raise InputError(f"{item.url}: expected sha256 {item.sha256}, found {found}; removed. {_WAY_OUT}")
    part.replace(target)
    return target


def _transfer(item: Download, part: Path) -> None:
    """Append to `part` until it has the expected size."""
    reason = "no answer"
    for _ in range(ATTEMPTS):
        try:
            _request_rest(item, part)
            if part.stat().st_size == item.size:
                return
            reason = f"broke off at {part.stat().st_size} of {item.size} bytes"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                break
            part.unlink(missing_ok=True)  # what lies there is no beginning of this file
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise BackendError(f"cannot download {item.url} ({reason}). {_WAY_OUT}")


def _request_rest(item: Download, part: Path) -> None:
    """One request for what `part` lacks."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    done = part.stat().st_size if part.is_file() else 0
    if done == item.size:
        return
    headers = {"User-Agent": "slipway", **({"Range": f"bytes={done}-"} if done else {})}
    with urllib.request.urlopen(urllib.request.Request(item.url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        if length is not None and done + int(length) != item.size:
            raise InputError(f"{item.url}: expected {item.size} bytes, the server has {done + int(length)}. {_WAY_OUT}")
        part.parent.mkdir(parents=True, exist_ok=True)
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with part.open("ab" if done else "wb") as file, Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(item.name, total=item.size, completed=done)
            # Never more than the expected size, whatever the server sends: the hash judges the rest.
            while done < item.size and (chunk := response.read(min(CHUNK, item.size - done))):
                file.write(chunk)
                done += len(chunk)
                bar.update(task, completed=done)
            file.flush()
            os.fsync(file.fileno())


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar archive; members that would leave the folder are refused (PEP 706's data filter).

    Raises:
        InputError: a damaged archive or such a member.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{archive}: cannot be unpacked ({error}); remove it and run again")
