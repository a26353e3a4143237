"""A sample that cannot be loaded ends training with its name; MMEngine would replace it by a random other one, in silence."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from train.data.image_files import inspect, some
from train.data.progress import track
from train.errors import InputError


class BadSampleError(InputError):
    """One sample that cannot be loaded: its file and why, in one line."""


def guard(dataset: Any) -> None:
    """Make every sample of a data set that its pipeline fails on, or gives nothing for, a `BadSampleError`."""
    for inner in _innermost(dataset):
        inner.prepare_data = partial(_prepare, inner.prepare_data, inner)


def counted(error: BadSampleError, datasets: Sequence[Any]) -> InputError:
    """The error for the user: every file of the data sets that cannot be read, or the first sample where all can."""
    infos = [inner.get_data_info(i) for each in datasets for inner in _innermost(each) for i in range(len(inner))]
    paths = list(dict.fromkeys(info[key] for info in infos for key in ("img_path", "seg_map_path") if info.get(key)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(track(pool.map(inspect, map(Path, paths)), len(paths), "looking for unreadable files"))
    bad = [f"{path} ({each.reason})" for path, each in zip(paths, found, strict=True) if each.reason]
    if bad:
        return InputError(
            f"{len(bad)} of {len(paths)} files of the prepared set cannot be read any more: {some(bad)}; remove the set's "
            "folder to have it prepared again"
        )
    # A loader's worker wraps the error into its traceback, whose last line it is.
    first = str(error).strip().splitlines()[-1].rpartition(f"{BadSampleError.__name__}: ")[2]
    return InputError(f"{first}; a transform that drops samples would change what is trained on: mend it or the labels")


def _prepare(prepare: Callable[[int], Any], dataset: Any, index: int) -> Any:
    try:
        found = prepare(index)
    except MemoryError:
        raise
    except Exception as error:
        raise BadSampleError(f"{_name(dataset, index)}: {' '.join(str(error).split()) or repr(error)}") from error
    if found is None:
        raise BadSampleError(f"{_name(dataset, index)}: the pipeline gives nothing for it")
    return found


def _name(dataset: Any, index: int) -> str:
    return str(dataset.get_data_info(index).get("img_path", f"sample {index}"))


def _innermost(dataset: Any) -> Iterator[Any]:
    """The data sets that read files, through wrappers of one and of several."""
    if hasattr(dataset, "datasets"):
        for each in dataset.datasets:
            yield from _innermost(each)
    elif hasattr(dataset, "dataset"):
        yield from _innermost(dataset.dataset)
    else:
        yield dataset
