"""Sources are found, sets are whole, current ones are left alone, nothing of the user's is replaced."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import train.data
from train.data import imagefolder, load, prepare, read_split, sources
from train.errors import InputError, UsageError

Contents = Callable[[Path], dict[str, bytes]]


def mtimes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_every_module_with_a_source_is_found() -> None:
    folder = Path(train.data.__file__).parent
    expected = {path.stem for path in folder.glob("*.py") if "\nSOURCE = Source(" in path.read_text()}
    assert set(sources()) == expected
    assert expected >= {
        "digits",
        "digits_scenes",
        "imagefolder",
        "flowers",
        "flowers102",
        "voc",
        "masks",
        "labelme",
        "coco",
        "via",
    }


def test_a_new_file_is_a_new_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "one_dot.py").write_text(
        "from train.data import Source, Written\n"
        "def write(folder, request):\n"
        "    (folder / 'dot').write_bytes(b'.' * request.seed)\n"
        "    return Written(('dot',), {'train': 1, 'val': 0}, {})\n"
        "SOURCE = Source('a dot', 1, write, 'true')\n"
    )
    assert "one_dot" not in sources()
    monkeypatch.setattr(train.data, "__path__", [*train.data.__path__, str(tmp_path / "more")])
    made = prepare("one_dot", tmp_path / "out", seed=3)
    assert made.source == "one_dot"
    assert (tmp_path / "out" / "dot").read_bytes() == b"..."
    assert load(tmp_path / "out") == made


def test_neither_torch_nor_openmmlab_is_imported() -> None:
    code = (
        "import sys, train.data, train.data.__main__, train.data.look; train.data.sources();"
        "sys.exit(', '.join({m.split('.')[0] for m in sys.modules} & {'torch', 'mmengine', 'mmcv', 'sklearn', 'cv2', 'PIL'}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_fingerprint_and_checksums_cover_every_file(class_folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = prepare("imagefolder", out, origin=class_folders)
    sums = (out / "SHA256SUMS").read_bytes()
    assert made.fingerprint == hashlib.sha256(sums).hexdigest()
    listed = {line[66:]: line[:64] for line in sums.decode().splitlines()}
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert set(listed) == files - {"dataset.json", "SHA256SUMS"}
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest for name, digest in listed.items())


def test_a_current_set_is_left_alone(class_folders: Path, tmp_path: Path) -> None:
    first = prepare("imagefolder", tmp_path / "out", origin=class_folders)
    before = mtimes(tmp_path / "out")
    second = prepare("imagefolder", tmp_path / "out", origin=class_folders)
    assert (first.reused, second.reused) == (False, True)
    assert replace(second, reused=False) == first
    assert mtimes(tmp_path / "out") == before


def test_a_moved_origin_is_the_same_origin(class_folders: Path, tmp_path: Path) -> None:
    prepare("imagefolder", tmp_path / "out", origin=class_folders)
    moved = class_folders.rename(tmp_path / "elsewhere")
    assert prepare("imagefolder", tmp_path / "out", origin=moved).reused


@pytest.mark.parametrize("change", ["seed", "skip_bad", "touch", "add", "version", "lost", "record", "sums"])
def test_any_change_prepares_anew(
    change: str, class_folders: Path, tmp_path: Path, photo: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare("imagefolder", out, origin=class_folders)
    if change == "touch":
        (class_folders / "cat" / "0.jpg").touch()
    elif change == "add":
        photo(class_folders / "cat" / "new.jpg")
    elif change == "version":
        newer = replace(imagefolder.SOURCE, version=imagefolder.SOURCE.version + 1)
        monkeypatch.setattr(imagefolder, "SOURCE", newer)
    elif change == "lost":
        read_split(out, "val")[0][0].unlink()
    elif change == "record":
        (out / "dataset.json").write_text("{")
    elif change == "sums":
        (out / "SHA256SUMS").write_text("")
    again = prepare("imagefolder", out, origin=class_folders, seed=change == "seed", skip_bad=change == "skip_bad")
    assert not again.reused
    assert sum(again.images.values()) == 20 + (change == "add")
    assert all(path.is_file() for split in ("train", "val") for path, _ in read_split(out, split))


def test_a_failed_run_keeps_the_old_set(class_folders: Path, tmp_path: Path, contents: Contents) -> None:
    prepare("imagefolder", tmp_path / "out", origin=class_folders)
    before = contents(tmp_path / "out")
    (class_folders / "cat" / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.jpg"):
        prepare("imagefolder", tmp_path / "out", origin=class_folders)
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def test_reuse_of_a_set_of_thousands_is_quick(tmp_path: Path) -> None:
    prepare("digits", tmp_path / "out")
    start = time.perf_counter()
    assert prepare("digits", tmp_path / "out").reused
    assert time.perf_counter() - start < 0.5


def test_unknown_source_suggests_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        prepare("digit", tmp_path / "out")


def test_arguments_that_do_not_fit(class_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a folder"):
        prepare("imagefolder", tmp_path / "out")
    with pytest.raises(UsageError, match="takes no folder"):
        prepare("digits", tmp_path / "out", origin=class_folders)
    with pytest.raises(UsageError, match="seed -1"):
        prepare("digits", tmp_path / "out", seed=-1)
    with pytest.raises(InputError, match="no such folder"):
        prepare("imagefolder", tmp_path / "out", origin=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", [".", "inside", ".."])
def test_out_and_the_images_folder_must_be_apart(out: str, class_folders: Path, contents: Contents) -> None:
    before = contents(class_folders.parent)
    with pytest.raises(UsageError, match="lies in"):
        prepare("imagefolder", class_folders / out, origin=class_folders)
    assert contents(class_folders.parent) == before


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    thesis = tmp_path / "out" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("three years")
    with pytest.raises(UsageError, match="no prepared set"):
        prepare("digits", tmp_path / "out")
    assert thesis.read_text() == "three years"
    with pytest.raises(UsageError, match="no prepared set"):
        prepare("digits", thesis)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot prepare"):
        prepare("digits", tmp_path / "file" / "out")


def test_reading_what_is_no_prepared_set(class_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.json is missing"):
        load(tmp_path)
    out = tmp_path / "out"
    prepare("imagefolder", out, origin=class_folders)
    with pytest.raises(InputError, match="found splits: train, val"):
        read_split(out, "test")
    (out / "val.txt").write_text("cat/0.jpg\n")
    with pytest.raises(InputError, match="expected lines 'path label'"):
        read_split(out, "val")


def test_the_record_holds_no_time_and_no_place_beside_the_origin(class_folders: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepare("imagefolder", tmp_path / name, origin=class_folders)
    record = (tmp_path / "a" / "dataset.json").read_text()
    assert record == (tmp_path / "b" / "dataset.json").read_text()
    assert json.loads(record)["origin"] == str(class_folders)
