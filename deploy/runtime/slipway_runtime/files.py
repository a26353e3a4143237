"""What the command line reads and writes: images and videos, alone or in folders, and where their drawings go."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime import image, video
from slipway_runtime.errors import ImageError, UsageError

#: What a video's drawing is, whatever the video was.
_VIDEO = ".mp4"


@dataclass(frozen=True)
class Source:
    """A file to predict on.

    Attributes:
        path: where it lies.
        name: where its drawing goes, below `--out`; a folder's files keep their place in it.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether its name says that it is a video."""
        return self.path.suffix.lower() in video.SUFFIXES


def find(arguments: Sequence[Path], *, videos: bool) -> list[Source]:
    """The files that the arguments name, and those in folders, subfolders too.

    Args:
        arguments: files and folders.
        videos: whether videos can be had; where not, folders are searched for images only.

    Raises:
        UsageError: a video that was named where there can be none.
        ImageError: a folder with nothing to predict on.
    """
    known = (*image.SUFFIXES, *(video.SUFFIXES if videos else ()))
    found: list[Source] = []
    for path in arguments:
        if not path.is_dir():
            found.append(_source(path, Path(path.name)))
            if found[-1].is_video and not videos:
                raise UsageError(f"{path}: a video's frames are drawn into another video; say where to with --out DIR")
            continue
        below = sorted(file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
        if not below:
            raise ImageError(f"{path}: nothing in this folder to predict on; expected files in {', '.join(known)}")
        found += [_source(file, file.relative_to(path)) for file in below]
    return found


def check_targets(sources: Sequence[Source], out: Path, beside: Sequence[str]) -> None:
    """Refuse to write over a file that is read, or twice to one place; `beside` are the endings of further files.

    Raises:
        UsageError: naming the files.
    """
    read = {source.path.resolve() for source in sources}
    taken: dict[Path, Path] = {}
    for source in sources:
        endings = () if source.is_video else beside
        for name in (source.name, *(source.name.with_suffix(ending) for ending in endings)):
            target = (out / name).resolve()
            if target in read:
                raise UsageError(f"--out {out} would overwrite {out / name}; give another folder")
            if target in taken:
                raise UsageError(
                    f"--out {out}: {taken[target]} and {source.path} would both become {name}; predict them apart"
                )
            taken[target] = source.path


def write_image(target: Path, drawn: NDArray[np.uint8]) -> None:
    """Write an image in the format that its name says, whole or not at all.

    Raises:
        UsageError: no such format, or a place that cannot be written to.
    """
    try:
        content = cv2.imencode(target.suffix, drawn)[1].tobytes()
    except cv2.error as error:
        raise UsageError(f"{target}: cannot be written ({' '.join(str(error).split())})")
    write(target, content)


def write(target: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        UsageError: a place that cannot be written to.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UsageError(f"{target}: cannot be written ({error})")


def _source(path: Path, name: Path) -> Source:
    return Source(path, name.with_suffix(_VIDEO) if path.suffix.lower() in video.SUFFIXES else name)
