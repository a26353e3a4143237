"""Interrupted videos go on where they stopped, and become what they would have become at once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from test_runtime_video import EVEN, TICK, UNEVEN, _bgr, _frames, _level, _make, _packets

from slipway_runtime import parts, video
from slipway_runtime.errors import ImageError, UsageError

COUNT = 23
TIMES = tuple(range(0, 40 * COUNT, 40))
#: Frames of a part, here; the fifth and last has three.
PART = 5


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "FRAMES", PART)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _make(tmp_path / "a.mkv", TIMES, audio="aac")


class Invert:
    """Inverts frames and counts them; raises at the given one."""

    def __init__(self, stop: int | None = None, error: BaseException | None = None) -> None:
        self.seen, self.stop, self.error = 0, stop, error or KeyboardInterrupt()

    def __call__(self, image: video.Image) -> video.Image:
        if self.seen == self.stop:
            raise self.error
        self.seen += 1
        return 255 - image


def kept(target: Path) -> list[str]:
    """The parts beside a target, without their key."""
    folder = target.with_name(f".{target.name}.parts")
    return sorted(path.name.rpartition("-")[2] for path in folder.iterdir()) if folder.exists() else []


def interrupted(source: Path, target: Path, key: str = "key", at: int = 17) -> None:
    with pytest.raises(KeyboardInterrupt):
        video.process(source, target, Invert(at), key=key)
    assert kept(target) == [f"{index:06d}.npz" for index in range(at // PART)]
    assert not target.exists()


def at_once(source: Path, tmp_path: Path) -> bytes:
    target = tmp_path / "at-once" / "b.mp4"
    assert video.process(source, target, Invert()) == COUNT
    assert [path.name for path in target.parent.iterdir()] == ["b.mp4"]
    return target.read_bytes()


def finished(source: Path, target: Path, key: str | None = "key") -> int:
    """Process to the end; how many frames were transformed."""
    invert, told = Invert(), []
    assert video.process(source, target, invert, key=key, progress=lambda done, total: told.append(done)) == COUNT
    assert told == list(range(1, COUNT + 1))
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return invert.seen


def test_it_goes_on_where_it_stopped(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "b.mp4"
    interrupted(source, target, at=12)
    with pytest.raises(RuntimeError):  # and once more
        video.process(source, target, Invert(6, RuntimeError("out of memory")), key="key")
    assert kept(target) == ["000000.npz", "000001.npz", "000002.npz"]
    assert finished(source, target) == COUNT - 15
    assert target.read_bytes() == at_once(source, tmp_path)


_KILLED = f"""
import sys, time
from pathlib import Path
from slipway_runtime import parts, video
parts.FRAMES = {PART}
done = 0
def invert(image):
    global done
    if done == 17:
        print("waiting", flush=True)
        time.sleep(600)
    done += 1
    return 255 - image
video.process(Path(sys.argv[1]), Path(sys.argv[2]), invert, key="key")
"""


def test_a_killed_process_leaves_whole_parts_and_no_target(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "b.mp4"
    command = [sys.executable, "-c", _KILLED, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"waiting\n"
        process.kill()
    assert not target.exists()
    assert kept(target) == ["000000.npz", "000001.npz", "000002.npz"]
    (tmp_path / "out" / ".b.mp4.parts" / "half-written.tmp").write_bytes(b"PK")  # as of a kill while writing
    assert finished(source, target) == COUNT - 15
    assert target.read_bytes() == at_once(source, tmp_path)


def test_all_parts_may_be_there(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "b.mp4"
    target.mkdir(parents=True)  # so that the last step fails
    with pytest.raises(UsageError, match="Is a directory"):
        video.process(source, target, Invert(), key="key")
    assert len(kept(target)) == 5
    target.rmdir()
    assert finished(source, target) == 0
    assert target.read_bytes() == at_once(source, tmp_path)


@pytest.mark.parametrize("what", ["key", "no key", "source", "part"])
def test_what_depends_on_anything_else_is_made_anew(
    source: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "b.mp4"
    interrupted(source, target)
    if what == "source":
        _make(source, tuple(time + 1 for time in TIMES), audio="aac")
    elif what == "part":
        monkeypatch.setattr(parts, "FRAMES", 4)
    assert finished(source, target, {"key": "another", "no key": None}.get(what, "key")) == COUNT


def test_a_wrong_part_would_be_noticed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "b.mp4"
    interrupted(source, target)
    first, second, _ = sorted(target.with_name(".b.mp4.parts").iterdir())
    with np.load(first) as one, np.load(second) as other:
        arrays = {**one, "pts": other["pts"]}
    with second.open("wb") as file:
        np.savez(file, **arrays)
    finished(source, target)
    assert target.read_bytes() != at_once(source, tmp_path)


def test_a_video_that_cannot_be_read_leaves_no_parts(tmp_path: Path) -> None:
    whole = _make(tmp_path / "a.mkv", tuple(range(0, 6000, 40)), (16, 16))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    target = tmp_path / "out" / "b.mp4"
    with pytest.raises(ImageError, match="cut short"):
        video.process(cut, target, Invert(), key="key")
    assert list(target.parent.iterdir()) == []


def test_before_the_first_part_nothing_is_left(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "b.mp4"
    with pytest.raises(KeyboardInterrupt):
        video.process(source, target, Invert(PART - 1), key="key")
    assert list(target.parent.iterdir()) == []


def test_where_no_parts_can_be_written_nothing_is_begun(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    target.with_name(".b.mp4.parts").write_text("a file")
    invert = Invert()
    with pytest.raises(UsageError, match=r"\.b\.mp4\.parts: cannot be written"):
        video.process(source, target, invert)
    assert invert.seen == 0


class Muxed(NamedTuple):
    """A packet of a file: the kind of its stream, where it lies, when it is decoded and shown, and whether alone."""

    kind: str
    at: int
    dts: float
    pts: float
    key: bool


def muxed(path: Path) -> list[Muxed]:
    with av.open(path) as opened:
        return [
            Muxed(p.stream.type, p.pos, float(p.dts * p.time_base), float(p.pts * p.time_base), p.is_keyframe)
            for p in opened.demux()
            if p.size
        ]


@pytest.mark.parametrize("times", [EVEN, UNEVEN, TIMES, tuple(500 + time for time in TIMES), (0,)])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
def test_parts_of_any_length_keep_every_frame_and_its_time(
    tmp_path: Path, times: tuple[int, ...], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FRAMES", length)
    video.process(_make(tmp_path / "a.mkv", times), tmp_path / "b.mp4", lambda image: image)
    assert [frame.time for frame in _frames(tmp_path / "b.mp4")] == pytest.approx([time * TICK for time in times])
    shades = [60 + 15 * (index % 10) for index in range(len(times))]
    assert _level(tmp_path / "b.mp4") == pytest.approx(shades, abs=2)
    packets = muxed(tmp_path / "b.mp4")
    assert all(packet.dts <= packet.pts for packet in packets)
    assert [packet.dts for packet in packets] == sorted({packet.dts for packet in packets})
    assert sum(packet.key for packet in packets) >= len(times) / length


def test_pictures_and_sound_lie_side_by_side(tmp_path: Path) -> None:
    source = _make(tmp_path / "a.mkv", tuple(range(0, 8000, 40)), (64, 64), audio="aac")
    video.process(source, tmp_path / "b.mp4", lambda image: image)
    assert _packets(tmp_path / "b.mp4") == _packets(source)
    latest = {"video": 0.0, "audio": 0.0}
    for packet in sorted(muxed(tmp_path / "b.mp4"), key=lambda packet: packet.at):
        latest[packet.kind] = packet.dts
        assert abs(latest["video"] - latest["audio"]) < 2


def test_moving_pictures_survive_the_cuts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(60, 200, (30, 60, 1)), np.ones((4, 4, 3))).astype(np.uint8)

    def move(step: int) -> Callable[[video.Image], video.Image]:
        seen = iter(range(COUNT))
        return lambda image: scene[: image.shape[0], (x := step * next(seen)) : x + image.shape[1]]

    source = _make(tmp_path / "a.mkv", TIMES)
    video.process(source, tmp_path / "b.mp4", move(3))
    found = [_bgr(frame).astype(int) for frame in _frames(tmp_path / "b.mp4")]
    errors = [np.abs(image - scene[:48, 3 * index : 3 * index + 64]).mean() for index, image in enumerate(found)]
    assert max(errors) < 12
    shown = [packet.pts for packet in muxed(tmp_path / "b.mp4")]
    assert shown != sorted(shown), "frames out of order, as usual"
    # The control: one frame later or earlier is further away than the codec's loss.
    assert min(np.abs(found[5] - scene[:48, x : x + 64]).mean() for x in (12, 18)) > 2 * max(errors)
