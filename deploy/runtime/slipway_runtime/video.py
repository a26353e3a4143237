"""Video: every frame through a function, into an MP4 that browsers play. Needs PyAV (`slipway-runtime[video]`)."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime import parts
from slipway_runtime.errors import ImageError, UsageError
from slipway_runtime.manifest import sha256
from slipway_runtime.parts import Packets, Parts

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoCodecContext, VideoFrame, VideoStream
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
    key: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Put every frame of a video through `transform`.

    Writes H.264 yuv420p with the index in front, so that playing starts before all is there. Each frame keeps its time;
    the rotation that the source asks for is applied; an odd edge gets one more row or column, a copy of the last.
    Audio is copied, or re-encoded to AAC where browsers do not play it. The target is whole or absent.

    With a key, what was interrupted goes on where it stopped, up to `parts.FRAMES` frames earlier, and becomes what it would
    have become at once: encoded parts lie in a hidden folder beside the target until it is whole.

    Args:
        source: the video.
        target: the file to write; ends in `.mp4`.
        transform: uint8 H×W×3 BGR → the same shape.
        key: a text that differs wherever `transform` does; None: start anew each time, and leave nothing.
        progress: called with the number of frames done and, where the source says it, of all.

    Returns:
        The number of frames.

    Raises:
        ImageError: a source that is no whole video.
        UsageError: PyAV is missing, or a target that cannot be written or is no `.mp4`.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise UsageError("video needs PyAV, which is not installed; pip install 'slipway-runtime[video]'")
    if target.suffix.lower() != ".mp4":
        raise UsageError(f"{target}: video is written as MP4; expected a name that ends in .mp4")
    first = _first_frame(source)
    with Parts(target, None if key is None else _digest(source, key)) as kept:
        frames = _encode(source, first, target, kept, transform, progress)
        with _written(target) as container:
            _join(container, source, first, kept, -(-frames // parts.FRAMES))
    return frames


def _digest(source: Path, key: str) -> str:
    """Of all that parts depend on: the source, what is done to its frames, and how they are encoded."""
    import av

    depends = (sha256(source), key, parts.FRAMES, _CRF, av.__version__, av.library_versions)
    return hashlib.sha256(repr(depends).encode()).hexdigest()[:32]


def _encode(
    source: Path,
    first: "VideoFrame",
    target: Path,
    kept: Parts,
    transform: Callable[[Image], Image],
    progress: Callable[[int, int | None], None] | None,
) -> int:
    """Make the parts that are not there yet; the number of frames."""
    import av

    encoder: _Encoder | None = None
    done, pts = 0, -1
    with _open(source) as reader:
        stream = reader.streams.video[0]
        for _, item in _read(reader, source):
            if not isinstance(item, av.VideoFrame):
                continue
            # Encoders take rising times only; a frame of a broken or timeless source follows its predecessor.
            pts = max(pts + 1, -1 if item.pts is None else item.pts)
            if done // parts.FRAMES not in kept:
                image = transform(_upright(item))
                with _writing(target):
                    encoder = encoder or _Encoder(stream, first)
                    encoder.add(image, pts, item)
            done += 1
            if encoder and done % parts.FRAMES == 0:
                with _writing(target):
                    kept.write(done // parts.FRAMES - 1, encoder.finish())
                encoder = None
            if progress:
                progress(done, stream.frames or None)
    if encoder:
        with _writing(target):
            kept.write(done // parts.FRAMES, encoder.finish())
    return done


def _join(container: "OutputContainer", source: Path, first: "VideoFrame", kept: Parts, count: int) -> None:
    """Fill an MP4 with the parts and with the source's audio, by and by as they are played."""
    with _open(source) as reader:
        video = reader.streams.video[0]
        assert video.time_base
        made = container.add_stream("libx264", video.average_rate or video.guessed_rate)
        _set_up(made.codec_context, video, first)
        heard = {stream.index: _audio_stream(container, stream) for stream in reader.streams.audio}
        packets = kept.join(count, made, video.time_base)
        waiting = next(packets, None)
        for stream, item in _read(reader, source, pictures=False):
            while waiting and item.pts is not None and waiting.dts * video.time_base <= item.pts * item.time_base:
                container.mux(waiting)
                waiting = next(packets, None)
            if _is_copied(stream):
                item.stream = heard[stream.index]
                container.mux(item)
            else:
                container.mux(heard[stream.index].encode(item))
        while waiting:
            container.mux(waiting)
            waiting = next(packets, None)
        for target in heard.values():
            if target.codec_context.is_encoder:
                container.mux(target.encode())


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


def _read(container: "InputContainer", source: Path, pictures: bool = True) -> Iterator[tuple[Any, Any]]:
    """(stream, frame) of the first video stream and of audio to re-encode, (stream, packet) of audio to copy."""
    import av

    video, end = container.streams.video[0], 0.0
    try:
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.type != "audio" and not (pictures and packet.stream is video):
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
            with _writing(target):
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


class _Encoder:
    """Makes H.264 of a part's images.

    Args:
        source: the stream that they were made from.
        first: its first frame, for what all of them share.
    """

    def __init__(self, source: "VideoStream", first: "VideoFrame") -> None:
        import av
        from av.codec.context import Flags

        self._context: VideoCodecContext = av.CodecContext.create("libx264", "w")
        _set_up(self._context, source, first)
        self._context.flags |= Flags.global_header  # once in the MP4, not in every part
        self._packets: list[Packet] = []

    def add(self, image: Image, pts: int, source: "VideoFrame") -> None:
        """Encode an image for the time `pts`, and the duration of the decoded frame that it was made from."""
        import av

        height, width = image.shape[:2]
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(even, format="bgr24")
        frame.colorspace = self._context.colorspace
        frame = frame.reformat(format="yuv420p", dst_color_range=_LIMITED, interpolation=_EXACT)
        frame.pts, frame.time_base, frame.duration = pts, source.time_base, source.duration
        self._packets += self._context.encode(frame)

    def finish(self) -> Packets:
        """All that was added."""
        return Packets.of([*self._packets, *self._context.encode()])


def _set_up(context: "VideoCodecContext", source: "VideoStream", first: "VideoFrame") -> None:
    from av.codec.context import Flags

    height, width = _upright(first).shape[:2]
    context.width, context.height, context.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    context.options = {"crf": _CRF}
    context.framerate = source.average_rate or source.guessed_rate
    context.time_base = source.time_base
    context.flags |= Flags.frame_duration
    # The source's own matrix both ways: colours that nobody touched come out as they went in.
    context.colorspace, context.color_range = first.colorspace or _BT709, _LIMITED
    context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
    if source.sample_aspect_ratio:
        turned = first.rotation % 180 != 0
        context.sample_aspect_ratio = 1 / source.sample_aspect_ratio if turned else source.sample_aspect_ratio


def _audio_stream(container: "OutputContainer", source: "AudioStream") -> "AudioStream":
    if _is_copied(source):
        return container.add_stream_from_template(source)
    return container.add_stream("aac", _AAC_RATE, bit_rate=_AAC_BIT_RATE)
