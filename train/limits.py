"""Numbers of a config that MMEngine takes as they come, and would stumble over only after data and model are made."""

from collections.abc import Iterator
from functools import reduce
from typing import Any

#: Place in the config → the type, and the least that can be trained with.
_LEAST: dict[str, tuple[type[int] | type[float], int]] = {
    "train_cfg.max_epochs": (int, 1),
    "train_cfg.max_iters": (int, 1),
    "train_cfg.val_interval": (int, 1),
    "optim_wrapper.optimizer.lr": (float, 0),
    **{f"{split}_dataloader.batch_size": (int, 1) for split in ("train", "val", "test")},
    **{f"{split}_dataloader.num_workers": (int, 0) for split in ("train", "val", "test")},
}


def problems(config: Any) -> Iterator[str]:
    """What is wrong with each number that is no number, or too small; what a config leaves out is fine."""
    for place, (kind, least) in _LEAST.items():
        value = reduce(lambda node, key: node.get(key) if isinstance(node, dict) else None, place.split("."), config)
        if value is None:
            continue
        fits = isinstance(value, int | kind) and not isinstance(value, bool)
        if not fits or not value >= least:
            yield f"'{place}': expected a {'whole ' if kind is int else ''}number, {least} or more, found {value!r}"
