"""Video: frames, times, audio and colours in, and the same out; and nothing at all when something goes wrong."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from slipway_runtime import video
from slipway_runtime.errors import ImageError, UsageError

TICK = Fraction(1, 1000)  # what Matroska counts in
EVEN = tuple(range(0, 400, 40))  # ten frames at 25 a second
UNEVEN = (0, 33, 67, 133, 400, 433, 1000)


def _make(
    path: Path,
    times: tuple[int, ...] = EVEN,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv444p",
    audio: str | None = None,
    rotation: int = 0,
    container: dict[str, str] | None = None,
) -> Path:
    """A clip of `size` (height, width), one grey a frame, lighter by and by, red in the upper left quarter."""
    with av.open(str(path), "w", container_options=container or {}) as made:
        stream = made.add_stream(codec, 25, width=size[1], height=size[0], pix_fmt=pix_fmt)
        stream.codec_context.time_base = TICK
        if rotation:
            stream.set_display_rotation(rotation)
        if audio:
            sound = made.add_stream(audio, 48000)
        for i, time in enumerate(times):
            image = np.full((*size, 3), _shade(i), np.uint8)
            image[: size[0] // 2, : size[1] // 2] = (0, 0, 255)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame = frame.reformat(format=pix_fmt, interpolation=video._EXACT)
            frame.pts, frame.time_base = time, TICK
            made.mux(stream.encode(frame))
        made.mux(stream.encode())
        if audio:
            tone = 0.5 * np.sin(np.arange(48000 * (times[-1] + 40) // 1000) / 20).astype(np.float32)
            heard = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
            heard.sample_rate, heard.pts = 48000, 0
            made.mux([*sound.encode(heard), *sound.encode()])
    return path


def _frames(path: Path) -> list[Any]:
    with av.open(str(path)) as opened:
        return list(opened.decode(opened.streams.video[0]))


def _shade(i: int) -> int:
    return 60 + 15 * (i % 10)


def _bgr(frame: Any) -> video.Image:
    return frame.to_ndarray(format="bgr24", interpolation=video._EXACT)


def _same(image: video.Image) -> video.Image:
    return image


def _grey(frame: Any) -> float:
    """Of the lower right quarter."""
    image = _bgr(frame)
    return float(image[image.shape[0] // 2 + 2 :, image.shape[1] // 2 + 2 :].mean())


def _level(path: Path) -> list[float]:
    return [_grey(frame) for frame in _frames(path)]


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as opened:
        return [bytes(packet) for packet in opened.demux(opened.streams.audio[0]) if packet.size]


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_what_comes_out_is_what_browsers_play(tmp_path: Path, suffix: str) -> None:
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(suffix, "libx264")
    source = _make(tmp_path / f"a{suffix}", codec=codec, pix_fmt="yuv420p")
    target = tmp_path / "out" / "a.mp4"
    assert video.process(source, target, _same) == 10
    with av.open(str(target)) as made:
        (stream,) = made.streams
        assert (stream.codec_context.name, stream.pix_fmt, stream.width, stream.height) == ("h264", "yuv420p", 64, 48)
        assert stream.frames == 10
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index comes first"
    assert _level(target) == pytest.approx([*map(_shade, range(10))], abs=2)
    assert [path.name for path in target.parent.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("times", [EVEN, UNEVEN, tuple(200 + time for time in EVEN)])
def test_every_frame_keeps_its_time(tmp_path: Path, times: tuple[int, ...]) -> None:
    source = _make(tmp_path / "a.mkv", times)
    video.process(source, tmp_path / "b.mp4", _same)
    assert [frame.time for frame in _frames(tmp_path / "b.mp4")] == pytest.approx([time / 1000 for time in times])


def test_the_transform_sees_every_frame_and_its_answer_is_written(tmp_path: Path) -> None:
    source = _make(tmp_path / "a.mp4")
    seen, told = [], []

    def invert(image: video.Image) -> video.Image:
        assert (image.dtype, image.shape) == (np.uint8, (48, 64, 3))
        seen.append(float(image[30:, 40:].mean()))
        assert image[5, 5] == pytest.approx([0, 0, 255], abs=12), "blue, green, red"
        return 255 - image

    video.process(source, tmp_path / "b.mp4", invert, progress=lambda done, total: told.append((done, total)))
    assert seen == pytest.approx([*map(_shade, range(10))], abs=2)
    assert _level(tmp_path / "b.mp4") == pytest.approx([255 - _shade(i) for i in range(10)], abs=2)
    assert told == [(i, 10) for i in range(1, 11)]


@pytest.mark.parametrize("size", [(47, 63), (47, 64), (48, 63), (1, 1)])
def test_an_odd_edge_is_continued(tmp_path: Path, size: tuple[int, int]) -> None:
    source = _make(tmp_path / "a.mkv", size=size)
    shapes = []
    video.process(source, tmp_path / "b.mp4", lambda image: (shapes.append(image.shape[:2]), image)[1])
    assert set(shapes) == {size}, "the transform sees what is there"
    frame = _frames(tmp_path / "b.mp4")[3]
    assert (frame.height, frame.width) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    image = _bgr(frame).astype(int)
    assert np.abs(image[-1] - image[-2]).max() < 8
    assert np.abs(image[:, -1] - image[:, -2]).max() < 8


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied_as_opencv_does(tmp_path: Path, rotation: int) -> None:
    source = _make(tmp_path / "a.mp4", rotation=rotation)
    expected = cv2.VideoCapture(str(source)).read()[1]
    seen: list[video.Image] = []
    video.process(source, tmp_path / "b.mp4", lambda image: (seen.append(image), image)[1])
    assert seen[0].shape == expected.shape == ((64, 48, 3) if rotation % 180 else (48, 64, 3))
    assert np.abs(seen[0].astype(int) - expected).mean() < 4
    frame = _frames(tmp_path / "b.mp4")[0]
    assert (frame.rotation, (frame.height, frame.width)) == (0, expected.shape[:2])


@pytest.mark.parametrize(
    ("audio", "kept"), [("aac", True), ("libmp3lame", True), ("libopus", True), ("pcm_s16le", False)]
)
def test_audio_is_kept(tmp_path: Path, audio: str, kept: bool) -> None:
    source = _make(tmp_path / "a.mkv", tuple(range(0, 2000, 40)), audio=audio)
    video.process(source, tmp_path / "b.mp4", _same)
    assert (_packets(tmp_path / "b.mp4") == _packets(source)) == kept
    with av.open(str(tmp_path / "b.mp4")) as made:
        assert made.streams.audio[0].codec.canonical_name == {"libmp3lame": "mp3", "libopus": "opus"}.get(audio, "aac")
        heard = np.concatenate([frame.to_ndarray()[0] for frame in made.decode(made.streams.audio[0])])
    assert len(heard) == pytest.approx(2 * 48000, abs=3000)
    assert np.abs(heard[20000:60000]).mean() == pytest.approx(1 / np.pi, rel=0.05), "a sine as loud as it was"


@pytest.mark.parametrize("matrix", [1, 6])
def test_colours_that_nobody_touched_come_out_as_they_went_in(tmp_path: Path, matrix: int) -> None:
    rng = np.random.default_rng(0)
    planes = np.full((96 * 3 // 2, 96), 128, np.uint8)
    planes[:96] = cv2.resize(rng.integers(90, 170, (6, 6), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    planes[96:] = 150  # violet
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    with av.open(str(tmp_path / "a.mp4"), "w") as made:
        stream = made.add_stream("libx264", 25, {"crf": "1"}, width=96, height=96)
        stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc = matrix, 1, matrix, matrix
        made.mux([*stream.encode(frame), *stream.encode()])
    video.process(tmp_path / "a.mp4", tmp_path / "b.mp4", _same)
    before, after = (_frames(tmp_path / name)[0] for name in ("a.mp4", "b.mp4"))
    for told in ("colorspace", "color_range", "color_primaries", "color_trc"):
        assert getattr(after, told) == getattr(before, told)
    difference = after.to_ndarray().astype(int) - before.to_ndarray()
    assert abs(difference.mean()) < 0.3
    # The control: read with the other matrix, the same clip has other colours.
    after.colorspace = 7 - matrix
    assert np.abs(_bgr(after).astype(int) - _bgr(before)).mean() > 2


def _refused(source: Path, error: type[Exception], message: str, transform: Any = _same) -> None:
    target = source.parent / "out" / "b.mp4"
    with pytest.raises(error, match=message or None) as caught:
        video.process(source, target, transform)
    assert "\n" not in str(caught.value)
    assert not target.parent.exists() or not list(target.parent.iterdir())


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 99, b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n"])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    _refused(tmp_path / "a.mp4", ImageError, r"a\.mp4: not a readable video \(.+\); expected \.mp4, \.mov")


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    _refused(tmp_path / "none.mp4", ImageError, "No such file")
    _refused(tmp_path, ImageError, "not a readable video")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as made:
        sound = made.add_stream("aac", 48000)
        heard = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), format="fltp", layout="stereo")
        heard.sample_rate = 48000
        made.mux([*sound.encode(heard), *sound.encode()])
    _refused(tmp_path / "a.mp4", ImageError, "holds no video stream")


@pytest.mark.parametrize(("suffix", "share"), [(".mp4", 0.8), (".mkv", 0.5), (".mkv", 0.1)])
def test_a_file_that_is_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    whole = _make(tmp_path / f"a{suffix}", tuple(range(0, 6000, 40)), (16, 16), container={"movflags": "faststart"})
    assert video.process(whole, tmp_path / "whole.mp4", _same) == 150
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    _refused(cut, ImageError, "cut short")


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_transform_that_raises_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    source = _make(tmp_path / "a.mp4", audio="aac")
    calls = []

    def transform(image: video.Image) -> video.Image:
        calls.append(0)
        if len(calls) == 5:
            raise error
        return image

    _refused(source, type(error), "", transform)
    earlier = tmp_path / "b.mp4"
    earlier.write_bytes(b"earlier")
    calls.clear()
    with pytest.raises(type(error)):
        video.process(source, earlier, transform)
    assert earlier.read_bytes() == b"earlier"


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    source = _make(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match=r"b\.avi: video is written as MP4; expected a name that ends in \.mp4"):
        video.process(source, tmp_path / "b.avi", _same)
    with pytest.raises(UsageError, match="cannot be written"):
        video.process(source, source / "b.mp4", _same)
    (tmp_path / "c.mp4").mkdir()
    with pytest.raises(UsageError, match=r"c\.mp4: cannot be written \(Is a directory\)"):
        video.process(source, tmp_path / "c.mp4", _same)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "c.mp4"]


def test_a_video_may_be_replaced_by_its_own_result(tmp_path: Path) -> None:
    source = _make(tmp_path / "a.mp4")
    assert video.process(source, source, lambda image: 255 - image) == 10
    assert _level(source)[0] == pytest.approx(195, abs=2)


def test_without_pyav(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from pathlib import Path; from slipway_runtime import video, errors\n"
        "try: video.process(Path('a.mp4'), Path('b.mp4'), lambda image: image)\n"
        "except errors.UsageError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "pip install 'slipway-runtime[video]'" in found.stdout


@pytest.mark.parametrize(
    ("name", "frames"), [pytest.param("balloon_test_video.mp4", 125, marks=pytest.mark.slow), ("mmcv_test.mp4", 168)]
)
def test_real_clips(real_data: Path, tmp_path: Path, name: str, frames: int) -> None:
    source, target = real_data / "video" / name, tmp_path / "b.mp4"
    assert video.process(source, target, _same) == frames
    before, after = _frames(source), _frames(target)
    assert [frame.time for frame in after] == [frame.time for frame in before]
    for index in (0, 60, -1):
        assert np.abs(_bgr(after[index]).astype(int) - _bgr(before[index])).mean() < 4
    with av.open(str(target)) as made:
        sound = made.streams.audio[0]
        assert (made.streams.video[0].pix_fmt, sound.codec_context.name) == ("yuv420p", "aac")
        assert float(sound.duration * sound.time_base) == pytest.approx(frames / 25, abs=0.1)
    assert _packets(target) == [packet for packet in _packets(source) if packet in _packets(target)]
