"""What lies in `work/<experiment>/`, and the record that training leaves for the next rooms."""

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from train.cli import nearest
from train.errors import InputError, UsageError
from train.files import sha256, write_json

RECORD_VERSION = 1
#: Where experiments are described.
CONFIGS = Path(__file__).parents[1] / "configs" / "train"


def names() -> list[str]:
    """Every experiment that `EXP=` picks, as "cls/resnet18_digits"."""
    return sorted(
        str(path.relative_to(CONFIGS).with_suffix(""))
        for path in CONFIGS.glob("*/*.py")
        if not path.parent.name.startswith("_")
    )


def locate(experiment: str) -> tuple[str, Path]:
    """The name and the file of an experiment, given by name ("cls/resnet18_digits") or by the path of a config.

    Raises:
        UsageError: an unknown name (the nearest is suggested) or a missing file.
    """
    if not experiment.endswith(".py"):
        if experiment not in names():
            raise nearest(experiment, names(), "experiment")
        return experiment, CONFIGS / f"{experiment}.py"
    path = Path(experiment)
    if not path.is_file():
        raise UsageError(f"{path}: no such config")
    if path.resolve().is_relative_to(CONFIGS):
        return str(path.resolve().relative_to(CONFIGS).with_suffix("")), path
    task = f"{path.parent.name}/" if path.parent.name in ("cls", "det", "seg") else ""
    return task + path.stem, path


@dataclass(frozen=True)
class Record:
    """`work/<experiment>/train/record.json`: what was trained, on what, and how well.

    Attributes:
        experiment: the name, as "cls/resnet18_digits".
        fingerprint: SHA-256 over everything that decided the result; equal means there is nothing to train.
        config_sha256: of `config.py`, the resolved config beside the record.
        checkpoint_sha256: of `checkpoint.pth`, the best weights.
        data: the prepared data set: its `root`, `source`, `fingerprint`, number of `images` by split, `classes` and their
            `palette`; and the `task` whose data they are.
        metrics: validation metrics of the checkpoint, in percent (empty for a checkpoint trained elsewhere).
        origin: "trained", or the path of the checkpoint that was brought.
    """

    experiment: str
    fingerprint: str
    config_sha256: str
    checkpoint_sha256: str
    data: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    origin: str = "trained"
    seconds: float = 0.0
    tools: dict[str, str] = field(default_factory=dict)
    schema_version: int = RECORD_VERSION


@dataclass(frozen=True)
class Experiment:
    """The folders and files of one experiment."""

    name: str
    work: Path = Path("work")

    @property
    def root(self) -> Path:
        """`work/<experiment>`."""
        return self.work / self.name

    @property
    def train(self) -> Path:
        """The training room's folder."""
        return self.root / "train"

    @property
    def config(self) -> Path:
        """The resolved config, complete in one file."""
        return self.train / "config.py"

    @property
    def checkpoint(self) -> Path:
        """The best weights."""
        return self.train / "checkpoint.pth"

    @property
    def bundle(self) -> Path:
        """The exported bundle."""
        return self.root / "bundle"

    @property
    def bench(self) -> Path:
        """The benchmark's folder."""
        return self.root / "bench"

    def read(self) -> Record:
        """The training record, with the config and checkpoint it names compared by hash.

        Raises:
            UsageError: nothing was trained under this name yet.
            InputError: a record that does not parse, or files that are not those it names.
        """
        path = self.train / "record.json"
        if not path.is_file():
            verb = f"train-{self.name.split('/')[0]}" if "/" in self.name else "train-cls"
            raise UsageError(
                f"{self.root}: nothing trained yet; make {verb} EXP={self.name} first, or bring CHECKPOINT="
            )
        try:
            record = Record(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: not a training record ({error}); train again") from None
        for file, wanted in ((self.config, record.config_sha256), (self.checkpoint, record.checkpoint_sha256)):
            if not file.is_file() or sha256(file) != wanted:
                raise InputError(f"{file}: missing or altered since training; train again")
        return record

    def current(self, fingerprint: str) -> Record | None:
        """The record when it is whole and of this fingerprint, else None."""
        try:
            record = self.read()
        except (UsageError, InputError):
            return None
        return record if record.fingerprint == fingerprint else None

    def write(self, record: Record) -> None:
        """Write the record, last of all: its presence says that the rest is there."""
        write_json(self.train / "record.json", asdict(record))


@cache
def tools() -> dict[str, str]:
    """Versions of the packages that decide what is trained and exported."""
    names = ("torch", "torchvision", "mmengine", "mmcv-lite", "mmpretrain", "mmdet", "mmsegmentation", "numpy")
    return {name: metadata.version(name) for name in names}
