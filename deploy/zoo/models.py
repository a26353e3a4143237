"""A line of the list → the unpatched model, with weights that show errors."""

import importlib.util
from pathlib import Path

from mmengine.config import Config

from deploy.reference import Reference
from deploy.zoo import Line
from deploy.zoo.seeding import images, seeded
from train import compat
from train import config as configs
from train.errors import BackendError, UsageError

#: How many images give batch norms their statistics.
BATCH = 4


def configuration(line: Line) -> Config:
    """The shipped config with the line's options; nothing is downloaded.

    Raises:
        BackendError: the package is not installed.
        UsageError: no such config in its wheel, or options that do not fit it.
    """
    found = importlib.util.find_spec(line.package)
    if found is None or found.origin is None:
        raise BackendError(f"{line.package} is not installed; `make setup` does it")
    path = Path(found.origin).parent / ".mim" / "configs" / line.config
    if not path.is_file():
        raise UsageError(f"{line}: {line.package} ships no {line.config}")
    compat.use(line.package)
    config = configs.read(path, line.options)
    configs.complete(config)
    return config


def build(line: Line, folder: Path) -> Reference:
    """The model, unpatched, with seeded weights, which are left in `folder`.

    Raises:
        UsageError: see `configuration`; or what the export refuses of its config.
    """
    config = configuration(line)
    batch = images((BATCH, 3, *line.size))
    # Names of classes decide nothing of a graph; their number is the config's.
    classes = tuple(map(str, range(5)))
    return seeded(config, folder / "weights.pth", classes, batch, statistics=line.statistics, varied=True)
