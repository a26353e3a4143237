"""Finished parts of a video, kept beside the target until it is whole, so that interrupted work goes on where it stopped."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slipway_runtime.errors import ImageError, UsageError

if TYPE_CHECKING:
    from av import Packet
    from av.video.stream import VideoStream

#: Frames of a part: what an interruption costs at most. Each begins with a picture that needs no other, as browsers like
#: it every few seconds.
FRAMES = 50


@dataclass(frozen=True, eq=False)
class Packets:
    """Encoded frames in the order in which they are decoded; the first needs none before it.

    Attributes:
        data: uint8, the packets' bytes one after the other.
        sizes: int64 (N,), bytes of each.
        pts: int64 (N,), when each is shown.
        durations: int64 (N,), and for how long, where that is known; else 0.
        keys: bool (N,), whether one needs no other.
    """

    data: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    pts: NDArray[np.int64]
    durations: NDArray[np.int64]
    keys: NDArray[np.bool_]

    @classmethod
    def of(cls, packets: "list[Packet]") -> "Packets":
        """These packets, as an encoder gave them."""
        return cls(
            np.frombuffer(b"".join(map(bytes, packets)), np.uint8),
            np.array([packet.size for packet in packets], np.int64),
            np.array([packet.pts for packet in packets], np.int64),
            np.array([packet.duration or 0 for packet in packets], np.int64),
            np.array([packet.is_keyframe for packet in packets], bool),
        )


class Parts:
    """The parts of one target, in a hidden folder; a file each, whole or absent.

    Args:
        target: the video they will become.
        key: names everything that their content depends on; parts of any other key are removed. None: they are of no use
            to anybody later.

    As a context, it removes the folder in the end, unless parts with a key were interrupted by an error that another
    attempt may be spared.
    """

    def __init__(self, target: Path, key: str | None) -> None:
        self._folder = target.with_name(f".{target.name}.parts")
        self._key = key

    def __enter__(self) -> "Parts":
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.iterdir():
                if self._key is None or not path.match(f"{self._key}-*.npz"):
                    path.unlink()
        except OSError as error:
            raise UsageError(f"{self._folder}: cannot be written ({error.strerror})")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._key is None or kind is None or issubclass(kind, ImageError):
            shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # that it is not empty, as a rule
            self._folder.rmdir()

    def __contains__(self, index: int) -> bool:
        return self._path(index).exists()

    def write(self, index: int, packets: Packets) -> None:
        """Keep a part."""
        path = self._path(index)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, **vars(packets))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def join(self, count: int, stream: "VideoStream", time_base: Fraction) -> "Iterator[Packet]":
        """The packets of the first `count` parts, in the order in which they are decoded, for this stream.

        When each is decoded, rising and never after it is shown, is found anew, as encoders do: frame by frame at the times
        at which frames are shown, and sooner by as many as are ever out of order.
        """
        import av

        shown = [self._read(index).pts for index in range(count)]
        times = np.concatenate([np.sort(pts) for pts in shown])
        early = max(int((np.arange(len(pts)) - pts.argsort().argsort()).max()) for pts in shown)
        decoded = iter(np.concatenate([times[0] - np.arange(early, 0, -1), times]).tolist())
        for index in range(count):
            part = self._read(index)
            chunks = np.split(part.data, np.cumsum(part.sizes)[:-1])
            for chunk, pts, duration, key in zip(chunks, part.pts, part.durations, part.keys, strict=True):
                packet = av.Packet(chunk.tobytes())
                packet.stream, packet.time_base, packet.is_keyframe = stream, time_base, bool(key)
                packet.pts, packet.dts, packet.duration = int(pts), next(decoded), int(duration)
                yield packet

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._key}-{index:06d}.npz"

    def _read(self, index: int) -> Packets:
        with np.load(self._path(index), allow_pickle=False) as arrays:
            return Packets(**arrays)
