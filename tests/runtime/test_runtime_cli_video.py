"""Videos on the command line; `test_runtime_video.py` looks at how they are read and written."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from slipway_runtime.__main__ import main

Captured = pytest.CaptureFixture[str]
FRAMES = 5


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video whose frames turn from red to blue."""
    path = tmp_path / "clips" / "clip.avi"
    path.parent.mkdir()
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", 10, width=64, height=48)
        stream.pix_fmt = "yuv420p"
        for index in range(FRAMES):
            frame = np.full((48, 64, 3), (0, 0, 255) if index < 3 else (255, 0, 0), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_video(task: str, bundle: Path, segmenter: Path, clip: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "drawn"
    model = bundle if task == "classification" else segmenter
    assert main([str(model), str(clip), "--out", str(out), "--json"]) == 0
    printed, said = capsys.readouterr()
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [(row["video"], row["frame"], row["task"]) for row in rows] == [(str(clip), i, task) for i in range(FRAMES)]
    best = [(row.get("top") or row["classes"])[0]["name"] for row in rows]
    assert best == ["red"] * 3 + ["blue"] * 2
    first, second = said.splitlines()
    assert first.startswith(f"{clip}: {FRAMES} frames, ")
    assert second == f"wrote 1 predictions below {out}"
    assert [path.name for path in out.iterdir()] == ["clip.mp4"]
    drawn = frames_of(out / "clip.mp4")
    assert len(drawn) == FRAMES
    assert (drawn[0][:8, :8].max(axis=2) < 90).any()  # the black of the label or legend


def test_videos_in_folders_are_for_out_only(
    segmenter: Path, clip: Path, colours: dict[str, Path], tmp_path: Path, capsys: Captured
) -> None:
    shutil.copy(colours["red"], clip.parent)
    assert main([str(segmenter), str(clip.parent)]) == 0
    printed, said = capsys.readouterr()
    assert printed == f"{clip.parent / 'red.png'}  red 100.0 %\n"
    assert said == ""
    assert main([str(segmenter), str(clip.parent), "--out", str(tmp_path / "drawn")]) == 0
    assert capsys.readouterr().out == printed
    written = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert written == ["clip.mp4", "red.labels.png", "red.png"]


def test_a_video_without_out(segmenter: Path, clip: Path, capsys: Captured) -> None:
    assert main([str(segmenter), str(clip)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: {clip}: a video's frames are drawn into another video; say where to with --out DIR\n"


def test_a_broken_video_does_not_stop_the_rest(
    segmenter: Path, clip: Path, colours: dict[str, Path], tmp_path: Path, capsys: Captured
) -> None:
    broken = clip.with_name("broken.mp4")
    broken.write_bytes(b"no video")
    out = tmp_path / "drawn"
    assert main([str(segmenter), str(broken), str(clip), str(colours["red"]), "--out", str(out)]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: {broken}: ")
    assert lines[-2:] == ["error: 1 of 3 files could not be read", f"wrote 2 predictions below {out}"]
    assert sorted(path.name for path in out.iterdir()) == ["clip.mp4", "red.labels.png", "red.png"]


def test_a_real_video(segmenter: Path, real_data: Path, tmp_path: Path, capsys: Captured) -> None:
    source = real_data / "video" / "mmcv_test.mp4"
    assert main([str(segmenter), str(source), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    with av.open(source) as container:
        wanted = [(frame.height, frame.width) for frame in container.decode(video=0)]
    assert [frame.shape[:2] for frame in frames_of(tmp_path / source.name)] == wanted
