"""TensorRT's timing cache, kept from one build to the next: which kernel was fastest for which layer.

A file for each TensorRT and GPU: the SHA-256 of what follows, then the cache as TensorRT serialises it. What is damaged is
never given to TensorRT; the next build writes it anew.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from slipway_runtime.plan import Machine
from train.files import write_atomic

_HASH = 32


def path(work: Path, machine: Machine) -> Path:
    """Where the cache for a machine lies, below the folder of the experiments."""
    name = re.sub(
        r"[^A-Za-z0-9.]+", "-", f"{machine.tensorrt}-cuda{machine.cuda}-{machine.gpu}-{machine.compute_capability}"
    )
    return work / ".cache" / "tensorrt" / f"{name}.timing"


def load(config: Any, file: Path) -> tuple[Any, Literal["reused", "new", "damaged"]]:
    """Give a builder's config the cache of a file, or an empty one; returns it and what the file was."""
    content, state = _read(file)
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        state = "damaged"
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache, state


def save(config: Any, given: Any, file: Path) -> None:
    """Write the cache with what a build added. `given` is what `load` returned."""
    cache = config.get_timing_cache() or given
    content = bytes(cache.serialize())
    write_atomic(file, hashlib.sha256(content).digest() + content)


def _read(file: Path) -> tuple[bytes, Literal["reused", "new", "damaged"]]:
    try:
        stored = file.read_bytes()
    except FileNotFoundError:
        return b"", "new"
    except OSError:
        return b"", "damaged"
    digest, content = stored[:_HASH], stored[_HASH:]
    return (content, "reused") if hashlib.sha256(content).digest() == digest else (b"", "damaged")
