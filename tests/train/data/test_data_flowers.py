"""The two flower sets, from a local file server's stand-in archives and from local folders."""

import hashlib
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from train.data import flowers, flowers102, prepare, read_split
from train.data.download import Download
from train.errors import InputError

Photo = Callable[[Path], Path]
SPECIES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Download], Download]]:
    """Serve `tmp_path/served`: the call gives a download's stand-in of the same name."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()

        def stand_in(item: Download) -> Download:
            content = (folder / item.name).read_bytes()
            url = f"http://127.0.0.1:{http.server_port}/{item.name}"
            return replace(item, url=url, size=len(content), sha256=hashlib.sha256(content).hexdigest())

        yield stand_in
        http.shutdown()
        thread.join()


def pack(archive: Path, folder: Path) -> None:
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)


@pytest.fixture
def oxford(tmp_path: Path, photo: Photo) -> Path:
    """The authors' files, for eight images of which two are test images."""
    folder = tmp_path / "oxford"
    for number in range(1, 9):
        photo(folder / "jpg" / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([[77, 77, 1, 102, 1, 102, 77, 1]], np.uint8)})
    ids = {"trnid": [[3, 1, 4]], "valid": [[5, 2, 6]], "tstid": [[7, 8]]}
    savemat(folder / "setid.mat", {name: np.array(value, np.uint16) for name, value in ids.items()})
    return folder


def test_flower_photos_download(
    serve: Callable[[Download], Download], tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SPECIES:
        for i in range(5):
            photo(tmp_path / "flower_photos" / name / f"{i}.jpg")
    (tmp_path / "flower_photos" / "LICENSE.txt").write_text("CC-BY by many")
    pack(tmp_path / "served" / "flower_photos.tgz", tmp_path / "flower_photos")
    archive = serve(flowers.ARCHIVE)
    monkeypatch.setattr(flowers, "ARCHIVE", archive)
    monkeypatch.setattr(flowers, "SOURCE", replace(flowers.SOURCE, downloads=(archive,)))

    made = prepare("flowers", tmp_path / "data" / "flowers")
    assert (made.classes, made.images) == (SPECIES, {"train": 20, "val": 5})
    assert (made.root / "LICENSE.txt").read_text() == "CC-BY by many"
    assert all(path.is_file() and not path.is_symlink() for path, _ in read_split(made.root, "train"))
    kept = sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").glob("*/*"))
    top = ("LICENSE.txt", "SHA256SUMS", "classes.txt", "dataset.json", "train", "train.txt", "val", "val.txt")
    assert kept == [".downloads/flower_photos.tgz", *(f"flowers/{name}" for name in top)]
    assert prepare("flowers", made.root).reused


def test_flower_photos_from_a_folder(class_folders: Path, tmp_path: Path) -> None:
    made = prepare("flowers", tmp_path / "out", origin=class_folders)
    assert (made.source, made.images) == ("flowers", {"train": 16, "val": 4})
    assert not (tmp_path / ".downloads").exists()


def test_published_downloads_are_what_the_sources_name() -> None:
    for item in (flowers.ARCHIVE, flowers102.IMAGES, flowers102.LABELS, flowers102.SPLIT_IDS):
        assert item.url.startswith("https://")
        assert len(bytes.fromhex(item.sha256)) == 32
        assert item.licence
    assert len(set(flowers102.CLASSES)) == 102


def test_oxford_flowers_from_a_folder(oxford: Path, tmp_path: Path) -> None:
    made = prepare("flowers102", tmp_path / "out", origin=oxford)
    assert len(made.classes) == 102
    assert (made.root / "train.txt").read_text().splitlines() == [
        "pink primrose/image_00003.jpg 0",
        "passion flower/image_00001.jpg 76",
        "blackberry lily/image_00004.jpg 101",
    ]
    assert [(path.stem, label) for path, label in read_split(made.root, "val")] == [
        ("image_00005", 0),
        ("image_00002", 76),
        ("image_00006", 101),
    ]


def test_oxford_flowers_download(
    serve: Callable[[Download], Download], oxford: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tmp_path / "served" / "102flowers.tgz", oxford / "jpg")
    for name in ("imagelabels.mat", "setid.mat"):
        (oxford / name).rename(tmp_path / "served" / name)
    items = {name: serve(getattr(flowers102, name)) for name in ("IMAGES", "LABELS", "SPLIT_IDS")}
    for name, item in items.items():
        monkeypatch.setattr(flowers102, name, item)
    monkeypatch.setattr(flowers102, "SOURCE", replace(flowers102.SOURCE, downloads=tuple(items.values())))
    made = prepare("flowers102", tmp_path / "data" / "out")
    assert made.images == {"train": 3, "val": 3}
    assert all(path.is_file() and not path.is_symlink() for path, _ in read_split(made.root, "train"))


def test_oxford_flowers_in_class_folders(class_folders: Path, tmp_path: Path) -> None:
    assert prepare("flowers102", tmp_path / "out", origin=class_folders).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda folder: (folder / "imagelabels.mat").unlink(), r"imagelabels.mat: missing; expected jpg/"),
        (lambda folder: (folder / "setid.mat").write_text("x"), r"setid.mat: expected a MATLAB file with 'trnid'"),
        (lambda folder: (folder / "setid.mat").write_bytes(b""), r"setid.mat: expected a MATLAB file"),
        (lambda folder: savemat(folder / "setid.mat", {"valid": [1]}), r"setid.mat: expected a MATLAB file"),
        (lambda folder: savemat(folder / "setid.mat", {"trnid": [9], "valid": [1]}), r"image 9 has no label from 1"),
        (lambda folder: savemat(folder / "setid.mat", {"trnid": [0], "valid": [1]}), r"image 0 has no label from 1"),
        (lambda folder: (folder / "jpg" / "image_00003.jpg").unlink(), r"image_00003.jpg \(No such file"),
    ],
)
def test_broken_oxford_folders(break_it: Callable[[Path], object], expected: str, oxford: Path, tmp_path: Path) -> None:
    break_it(oxford)
    with pytest.raises(InputError, match=expected):
        prepare("flowers102", tmp_path / "out", origin=oxford)
    assert [path.name for path in tmp_path.iterdir()] == ["oxford"]
