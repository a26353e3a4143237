"""Video: every frame through a function, into an MP4 that browsers play. Needs PyAV (`slipway-runtime[video]`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import ImageError, UsageError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet, VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer

#: uint8 H×W×3 BGR.
Image: TypeAlias = NDArray[np.uint8]

#: What a folder is searched for.
SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
#: FFmpeg's readers of those. No playlists: a file must not make us open others, here or on the network.
_READERS = "mov,avi,matroska"
_TOLERANCE = 1.0  # seconds that may be missing at the end
#: x264's constant quality, 0 (lossless) to 51; this is its default.
_CRF = "23"
#: Audio that MP4 holds and browsers play.
_COPIED = frozenset({"aac", "flac", "mp3", "opus"})
#: What other audio becomes, in stereo: Hz and bits a second.
_AAC_RATE, _AAC_BIT_RATE = 48000, 160_000
#: ITU-T H.273's numbers: the matrix for sources that have none because they are RGB, and limited range.
_BT709, _LIMITED = 1, 1
#: swscale's bilinear, with accurate rounding and a colour a pixel; its default darkens by two levels there and back.
_EXACT = 0x2 | 0x40000 | 0x2000


def process(
    source: Path,
    target: Path,
    transform: Callable[[Image], Image],
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Put every frame of a video through `transform`.

    Writes H.264 yuv420p with the index in front, so that playing starts before all is there. Each frame keeps its time;
    the rotation that the source asks for is applied; an odd edge gets one more row or column, a copy of the last.
    Audio is copied, or re-encoded to AAC where browsers do not play it. The target is whole or absent.

    Args:
        source: the video.
        target: the file to write; ends in `.mp4`.
        transform: uint8 H×W×3 BGR → the same shape.
        progress: called with the number of frames done and, where the source says it, of all.

    Returns:
        The number of frames.

    Raises:
        ImageError: a source that is no whole video.
        UsageError: PyAV is missing, or a target that cannot be written or is no `.mp4`.
    """
    try:
        import av
    except ImportError:
        raise UsageError("video needs PyAV, which is not installed; pip install 'slipway-runtime[video]'")
    if target.suffix.lower() != ".mp4":
        raise UsageError(f"{target}: video is written as MP4; expected a name that ends in .mp4")
    frames = 0
    first = _first_frame(source)
    with _open(source) as reader, _written(target) as container:
        writer = _Writer(container, target, reader, first)
        total = reader.streams.video[0].frames or None
        for stream, item in _read(reader, source):
            if not isinstance(item, av.VideoFrame):
                writer.add_audio(stream, item)
                continue
            writer.add_frame(transform(_upright(item)), item)
            frames += 1
            if progress:
                progress(frames, total)
        writer.finish()
    return frames


def _open(source: Path) -> "InputContainer":
    import av

    options = {"format_whitelist": _READERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{source}", options=options)
    except (OSError, av.FFmpegError) as error:
        raise ImageError(f"{source}: not a readable video ({error.strerror}); expected {', '.join(SUFFIXES)}")
    if not container.streams.video:
        container.close()
        raise ImageError(f"{source}: holds no video stream")
    container.streams.video[0].thread_type = "AUTO"
    return container


def _read(container: "InputContainer", source: Path) -> Iterator[tuple[Any, Any]]:
    """(stream, frame) of the first video stream and of audio to re-encode, (stream, packet) of audio to copy."""
    import av

    video, end = container.streams.video[0], 0.0
    try:
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is not video and packet.stream.type != "audio":
                continue
            if not _is_copied(packet.stream):
                yield from ((packet.stream, frame) for frame in packet.decode())
            elif packet.size:  # an empty one marks the end
                yield packet.stream, packet
    except (OSError, av.FFmpegError) as error:
        raise ImageError(f"{source}: damaged or cut short ({error.strerror})")
    # FFmpeg's readers take a missing rest for the end.
    seconds = (container.duration or 0) / av.time_base
    if end < seconds - _TOLERANCE:
        raise ImageError(f"{source}: cut short: holds {end:.1f} of {seconds:.1f} seconds")


def _first_frame(source: Path) -> "VideoFrame":
    import av

    with _open(source) as container:
        for _, item in _read(container, source):
            if isinstance(item, av.VideoFrame):
                return item
    raise ImageError(f"{source}: holds not one whole frame of video")


def _is_copied(stream: "VideoStream | AudioStream") -> bool:
    return stream.type == "audio" and stream.codec.canonical_name in _COPIED


def _upright(frame: "VideoFrame") -> Image:
    """The frame as a player shows it: turned anticlockwise by what its display matrix says."""
    image = frame.to_ndarray(format="bgr24", interpolation=_EXACT)
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


@contextmanager
def _written(target: Path) -> "Iterator[OutputContainer]":
    """An MP4 to fill, beside the target; it takes the target's place when the context ends without an error."""
    import av

    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            container = av.open(f"file:{temporary}", "w", format="mp4", container_options={"movflags": "faststart"})
        try:
            yield container
        except BaseException:
            with suppress(av.FFmpegError):
                container.close()
            raise
        with _writing(target):
            container.close()
            temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    import av

    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror})")


class _Writer:
    """Adds to an MP4 what `_read` gives.

    Args:
        container: the MP4.
        target: what error texts call it.
        reader: the container whose streams it will hold.
        first: a decoded frame, for what all of them share.
    """

    def __init__(
        self, container: "OutputContainer", target: Path, reader: "InputContainer", first: "VideoFrame"
    ) -> None:
        self.container = container
        self.target = target
        self.last_pts = -1
        with _writing(target):
            self.video = _video_stream(container, reader.streams.video[0], first)
            self.audio = {stream.index: _audio_stream(container, stream) for stream in reader.streams.audio}

    def add_frame(self, image: Image, source: "VideoFrame") -> None:
        """Encode an image at the time of the decoded frame that it was made from."""
        import av

        height, width = image.shape[:2]
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(even, format="bgr24")
        frame.colorspace = self.video.colorspace
        frame = frame.reformat(format="yuv420p", dst_color_range=_LIMITED, interpolation=_EXACT)
        # Encoders take rising times only; a frame of a broken or timeless source follows its predecessor.
        self.last_pts = frame.pts = max(self.last_pts + 1, -1 if source.pts is None else source.pts)
        frame.time_base, frame.duration = source.time_base, source.duration
        with _writing(self.target):
            self.container.mux(self.video.encode(frame))

    def add_audio(self, stream: "AudioStream", item: "AudioFrame | Packet[AudioStream]") -> None:
        """Add a packet as it is, or encode a frame."""
        target = self.audio[stream.index]
        with _writing(self.target):
            if _is_copied(stream):
                item.stream = target
                self.container.mux(item)
            else:
                self.container.mux(target.encode(item))

    def finish(self) -> None:
        """Add what the encoders still hold back."""
        with _writing(self.target):
            for stream in (self.video, *self.audio.values()):
                if stream.codec_context.is_encoder:
                    self.container.mux(stream.encode())


def _video_stream(container: "OutputContainer", source: "VideoStream", first: "VideoFrame") -> "VideoStream":
    from av.codec.context import Flags

    height, width = _upright(first).shape[:2]
    rate = source.average_rate or source.guessed_rate
    made = container.add_stream("libx264", rate, {"crf": _CRF}, width=width + width % 2, height=height + height % 2)
    made.codec_context.time_base = source.time_base
    made.codec_context.flags |= Flags.frame_duration
    # The source's own matrix both ways: colours that nobody touched come out as they went in.
    made.colorspace, made.color_range = first.colorspace or _BT709, _LIMITED
    made.color_primaries, made.color_trc = first.color_primaries, first.color_trc
    if source.sample_aspect_ratio:
        turned = first.rotation % 180 != 0
        made.sample_aspect_ratio = 1 / source.sample_aspect_ratio if turned else source.sample_aspect_ratio
    return made


def _audio_stream(container: "OutputContainer", source: "AudioStream") -> "AudioStream":
    if _is_copied(source):
        return container.add_stream_from_template(source)
    return container.add_stream("aac", _AAC_RATE, bit_rate=_AAC_BIT_RATE)
