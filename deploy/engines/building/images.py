"""Validation images of an experiment, where its data set is still there."""

from pathlib import Path

from train.errors import InputError, UsageError
from train.experiment import Experiment


def validation(experiment: Experiment) -> list[Path]:
    """Every validation image; none where what was trained, or its data set, is gone."""
    from train import tasks

    try:
        data = experiment.read().data
    except (InputError, UsageError):
        return []
    root = Path(data["root"])
    return [path for path, _ in tasks.named(data["task"]).samples(root, "val")] if root.is_dir() else []


def spread(paths: list[Path], count: int) -> list[Path]:
    """At most so many of them, from all over the list."""
    return paths[:: max(1, len(paths) // count)][:count]
