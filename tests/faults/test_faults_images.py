"""Images."""

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageFile, ImageOps
from tiny_bundles import build_graph, build_manifest, save, write_bundle

from slipway_runtime import image as images
from slipway_runtime.__main__ import main as predict
from train import cli
from train.data import __main__ as data_command
from train.data import image_files

#: A smooth BGR picture without any symmetry.
ROWS, COLUMNS = np.mgrid[0:60, 0:90]
PICTURE = np.stack([ROWS * 4, COLUMNS * 2, ROWS + COLUMNS], axis=-1).astype(np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", build_graph(), build_manifest())


def broken(folder: Path) -> dict[str, Path]:
    """Files that are no whole image, and why."""
    folder.mkdir(parents=True)
    whole = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    contents = {"zero.jpg": b"", "cut.jpg": whole[: len(whole) // 2], "text.jpg": b"not an image at all"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def bomb(path: Path, side: int = 30_000) -> Path:
    """A real PNG of side × side black pixels, a bit each: a hundred kilobytes that decode to 2.7 GB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(side * (1 + side // 8)), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def shell(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.mark.fault(
    row="image-broken",
    fault="predicting: a zero-byte, a cut-off and a text file named .jpg, and a folder named .jpg",
    sees="each file by name with what is wrong, then how many of how many could not be read",
    code=3,
    intact="the other images are predicted",
)
def test_broken_images_are_named_and_the_others_done(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    named = broken(tmp_path / "photos")
    (tmp_path / "photos" / "album.jpg").mkdir()
    save(tmp_path / "photos" / "whole.jpg", PICTURE)
    assert predict([str(bundle), str(tmp_path / "photos")]) == 3
    out, err = capfd.readouterr()
    assert [line.split("  ")[0] for line in out.splitlines()] == [str(tmp_path / "photos" / "whole.jpg")]
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors[-1] == "error: 3 of 4 files could not be read"
    assert len(errors) == 4
    for path in named.values():
        assert any(line.startswith(f"error: {path}: ") for line in errors)
    assert predict([str(bundle), str(tmp_path / "photos" / "album.jpg")]) == 3
    assert "album.jpg: nothing in this folder to predict on" in capfd.readouterr().err


@pytest.mark.control(row="image-broken")
def test_control_a_lenient_decoder_fills_a_cut_image_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with Pil.open(broken(tmp_path / "photos")["cut.jpg"]) as image:
        filled = np.asarray(image.convert("RGB"))
    assert len(np.unique(filled[-8:])) == 1
    assert len(np.unique(PICTURE[-8:])) > 50


@pytest.mark.fault(
    row="image-set",
    fault="preparing data: the same files among the photos, or a decompression bomb",
    sees="“N of M images cannot be read”, each by name with its reason, and that SKIP_BAD=1 leaves them out",
    code=3,
    intact="no prepared set is written; with SKIP_BAD=1 one of the whole images",
)
def test_a_set_with_broken_images_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = photos(tmp_path), tmp_path / "set"
    bomb(source / "a" / "bomb.png")
    command = ["imagefolder", "--from", str(source), "--out", str(out)]
    assert cli.run(data_command.main, command) == 3
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "4 of 14 images cannot be read" in line
    for name in ("a/zero.jpg (empty file)", "a/cut.jpg (", "a/text.jpg (not an image)", "SKIP_BAD=1"):
        assert name in line
    assert not out.exists()
    assert cli.run(data_command.main, [*command, "--skip-bad"]) == 0
    written = sorted(path.name for path in out.rglob("*") if path.suffix in (".jpg", ".png"))
    assert written == sorted(f"{kind}{index}.png" for kind in "ab" for index in range(5))


@pytest.mark.control(row="image-set")
def test_control_unchecked_they_reach_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "inspect", lambda path: image_files.Inspection(str(path)))
    out = tmp_path / "set"
    assert cli.run(data_command.main, ["imagefolder", "--from", str(photos(tmp_path)), "--out", str(out)]) == 0
    assert [path.stat().st_size for path in out.rglob("zero.jpg")] == [0]


def photos(folder: Path) -> Path:
    """Two classes of five whole images, and three broken ones."""
    for kind, shade in (("a", 0), ("b", 100)):
        for index in range(5):
            save(folder / "photos" / kind / f"{kind}{index}.png", PICTURE // 2 + np.uint8(shade + index))
    for path in broken(folder / "broken").values():
        path.rename(folder / "photos" / "a" / path.name)
    return folder / "photos"


def kinds(folder: Path) -> dict[str, tuple[Path, np.ndarray]]:
    """Images of odd kinds, and the BGR pixels that their documented conversion gives (JPEG: about)."""
    rgb = Pil.fromarray(PICTURE[..., ::-1])
    grey = PICTURE[..., 1]
    palette = rgb.quantize(64)
    ramp = Pil.new("L", (90, 60), 200)
    folder.mkdir()

    def kept(name: str, image: Pil.Image, **options: object) -> Path:
        image.save(folder / name, **options)  # type: ignore[arg-type]
        return folder / name

    disguised = kept("disguised.png", rgb).rename(folder / "disguised.jpg")
    return {
        "a PNG named .jpg": (disguised, PICTURE),
        "grey": (save(folder / "grey.png", grey), np.repeat(grey[..., None], 3, axis=2)),
        "RGBA": (kept("rgba.png", Pil.merge("RGBA", (*rgb.split(), ramp))), PICTURE),
        "palette": (kept("palette.png", palette), np.asarray(palette.convert("RGB"))[..., ::-1]),
        "CMYK": (kept("cmyk.jpg", rgb.convert("CMYK"), quality=98, subsampling=0), PICTURE),
        "16 bits": (save(folder / "deep.png", PICTURE.astype(np.uint16) * 257), PICTURE),
        "1×1": (save(folder / "one.png", PICTURE[5:6, 5:6]), PICTURE[5:6, 5:6]),
        "very wide": (save(folder / "wide.png", np.tile(PICTURE[:1], (1, 300, 1))), np.tile(PICTURE[:1], (1, 300, 1))),
        "an animated GIF": (
            kept("moving.gif", palette, save_all=True, append_images=[ramp], duration=100),
            np.asarray(palette.convert("RGB"))[..., ::-1],
        ),
    }


@pytest.mark.fault(
    row="image-kinds",
    fault="a grey, RGBA, palette, CMYK, 16-bit, 1×1, 27000×1 image, a PNG named .jpg, an animated GIF",
    sees="a prediction",
    code=0,
    intact="grey is repeated, alpha dropped, the upper 8 of 16 bits kept, the first of several frames taken",
)
def test_odd_kinds_have_a_defined_conversion(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = kinds(tmp_path / "kinds")
    assert predict([str(bundle), *(str(path) for path, _ in made.values())]) == 0
    assert capfd.readouterr().out.count("\n") == len(made)
    for kind, (path, expected) in made.items():
        decoded = images.decode(path)
        assert decoded.shape == expected.shape, kind
        # A JPEG is exact to a few levels only; a missing inversion of its inks is more than a hundred off.
        limit = 3 if path.name == "cmyk.jpg" else 0
        assert np.abs(decoded.astype(int) - expected).mean() <= limit, kind


@pytest.mark.control(row="image-kinds")
def test_control_unconverted_they_are_no_bgr(tmp_path: Path) -> None:
    made = kinds(tmp_path / "kinds")
    raw = {kind: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for kind, (path, _) in made.items()}
    assert raw["grey"].ndim == 2
    assert raw["RGBA"].shape[2] == 4
    assert raw["16 bits"].dtype == np.uint16


def oriented(path: Path, orientation: int) -> np.ndarray:
    """Write a JPEG with an EXIF orientation, and give its upright BGR pixels by Pillow."""
    exif = Pil.Exif()
    exif[0x0112] = orientation
    Pil.fromarray(PICTURE[..., ::-1]).save(path, "JPEG", exif=exif, quality=95, subsampling=0)
    with Pil.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))[..., ::-1]


@pytest.mark.fault(
    row="image-orientation",
    fault="a photo with EXIF orientation 1 to 8",
    sees="a prediction",
    code=0,
    intact="it is turned upright before anything else, as Pillow turns it",
)
def test_every_orientation_is_turned_upright(bundle: Path, tmp_path: Path) -> None:
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.jpg"
        upright = oriented(path, orientation)
        assert difference(images.decode(path), upright) < 1
        assert predict([str(bundle), str(path)]) == 0


@pytest.mark.control(row="image-orientation")
def test_control_the_tag_ignored_leaves_seven_of_eight_turned(tmp_path: Path) -> None:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    wrong = 0
    for orientation in range(1, 9):
        upright = oriented(tmp_path / "photo.jpg", orientation)
        wrong += difference(cv2.imread(str(tmp_path / "photo.jpg"), flags), upright) > 10
    assert wrong == 7


def difference(decoded: np.ndarray, expected: np.ndarray) -> float:
    """Mean difference in levels; 255 where the shapes differ."""
    return float(np.abs(decoded.astype(int) - expected).mean()) if decoded.shape == expected.shape else 255.0


#: 1 GiB more than the interpreter with its libraries has mapped: not enough for the bomb's pixels.
LIMITED = """
import resource, sys
from slipway_runtime import __main__ as command, image
{unguarded}
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(command.main(sys.argv[1:]))
"""


@pytest.mark.fault(
    row="image-bomb",
    fault="a decompression bomb: a PNG of 110 KB with 30000×30000 pixels",
    sees="“30000×30000 pixels, expected 1 to 268435456”, by name, from the header alone",
    code=3,
    intact="no memory is taken; the other images are predicted",
)
def test_a_bomb_is_refused_by_its_header(bundle: Path, tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.png")
    assert path.stat().st_size < 200_000
    small = save(tmp_path / "small.png", PICTURE)
    done = shell(sys.executable, "-c", LIMITED.format(unguarded=""), bundle, path, small)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(f"error: {path}: 30000×30000 pixels, expected 1 to 268435456")
    assert done.stdout.startswith(f"{small}  ")


@pytest.mark.control(row="image-bomb")
def test_control_unguarded_it_takes_the_memory(bundle: Path, tmp_path: Path) -> None:
    unguarded = "image.check_size = lambda size, name: None"
    done = shell(sys.executable, "-c", LIMITED.format(unguarded=unguarded), bundle, bomb(tmp_path / "bomb.png"))
    assert "allocate 2700000000 bytes" in done.stderr


#: Root without the right to pass over permissions; of anyone else nothing needs to be taken away.
PLAIN: list[object] = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if os.geteuid() == 0 else []
)
needs_setpriv = pytest.mark.skipif(
    bool(PLAIN) and not shutil.which("setpriv"), reason="root reads all, and has no setpriv"
)


@needs_setpriv
@pytest.mark.fault(
    row="image-permission",
    fault="an image that the user must not read",
    sees="“cannot be read as an image file (Permission denied)”, by name",
    code=3,
    intact="the other images are predicted",
)
def test_an_image_that_must_not_be_read(bundle: Path, tmp_path: Path) -> None:
    done, path = forbidden(bundle, tmp_path, PLAIN)
    assert done.returncode == 3
    assert f"error: {path}: cannot be read as an image file (Permission denied)" in done.stderr
    assert done.stdout.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read it after all")
@pytest.mark.control(row="image-permission")
def test_control_root_reads_it(bundle: Path, tmp_path: Path) -> None:
    assert forbidden(bundle, tmp_path, [])[0].returncode == 0


def forbidden(bundle: Path, folder: Path, user: list[object]) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Predict, as `user`, on a file that nobody may read and on another one."""
    path = save(folder / "secret.png", PICTURE)
    path.chmod(0)
    command = [*user, sys.executable, "-m", "slipway_runtime", bundle, path, save(folder / "other.png", PICTURE)]
    return shell(*command), path


ODD_NAMES = ("with space.png", "grüne Wiese №1.png", "-dash.png", "new\nline.png", os.fsdecode(b"\xff\xfe.png"))


@pytest.mark.fault(
    row="image-names",
    fault="file names with spaces, a dash first, non-ASCII letters, a line break, bytes that are no text; an ASCII terminal",
    sees="a prediction each, what the terminal lacks escaped",
    code=0,
    intact="the drawings bear the same names",
)
def test_odd_names_are_predicted(bundle: Path, tmp_path: Path) -> None:
    for name in ODD_NAMES:
        save(tmp_path / "photos" / name, PICTURE)
    done = shell(
        sys.executable,
        "-m",
        "slipway_runtime",
        bundle,
        tmp_path / "photos",
        "--out",
        tmp_path / "drawn",
        PYTHONIOENCODING="ascii",
    )
    assert done.returncode == 0, done.stderr
    assert "gr\\xfcne Wiese \\u21161.png  " in done.stdout
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == set(ODD_NAMES)


@pytest.mark.control(row="image-names")
def test_control_a_plain_print_ends_there() -> None:
    done = shell(sys.executable, "-c", f"print({ODD_NAMES[1]!r})", PYTHONIOENCODING="ascii")
    assert "UnicodeEncodeError" in done.stderr
