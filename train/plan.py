"""What is to be trained: a request with its config read, its data prepared, and the fingerprint of both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from train import config as configs
from train import data as sources
from train import tasks
from train.cli import say
from train.data.summary import summary
from train.errors import UsageError
from train.experiment import Experiment, tools
from train.files import sha256, sha256_json


@dataclass(frozen=True)
class Request:
    """What the command line asks for: its arguments, with their meaning.

    Attributes:
        experiment: a name ("cls/resnet18_digits") or the path of a config.
        work: the folder of all experiments.
        data: images to use instead of the source's own.
        load_from: a pretrained checkpoint to fine-tune.
        options: `key=value` overrides of the config.
        device: "cpu", "cuda" or "auto" (CUDA where there is one).
        resume: go on from the newest checkpoint of an interrupted run.
        trust: load a checkpoint that holds more than tensors.
        skip_bad: leave unreadable images out instead of refusing the set.
        force: train again though nothing changed.
    """

    experiment: str
    work: Path = Path("work")
    data: Path | None = None
    load_from: Path | None = None
    options: tuple[str, ...] = ()
    device: str = "auto"
    resume: bool = False
    trust: bool = False
    skip_bad: bool = False
    force: bool = False

    @property
    def folder(self) -> Path:
        """The experiment's; UsageError: there is no such experiment."""
        return Experiment(configs.locate(self.experiment)[0], self.work).root


@dataclass(frozen=True)
class Plan:
    """A request with its config read, its data prepared, and the fingerprint of what would be trained."""

    experiment: Experiment
    file: Path
    config: Config
    data: dict[str, Any]
    fingerprint: str


def plan(request: Request, *, purpose: str = "train") -> Plan:
    """Read the config, prepare the data and bind the two.

    Raises:
        UsageError: a config without a known `source`, or any fault of `config.read`.
        InputError: bad data.
    """
    name, file = configs.locate(request.experiment)
    config = configs.read(file, request.options)
    prepared = _prepare(config, file, request)
    task = tasks.find(config.default_scope)
    found, palette = task.classes(prepared)
    classes = configs.class_names(config, found)
    configs.bind(config, prepared.root, classes, palette)
    data = {
        "root": str(prepared.root),
        "source": prepared.source,
        "fingerprint": prepared.fingerprint,
        "task": tasks.name(task),
        "images": prepared.images,
        "classes": list(classes),
        "palette": palette,
    }
    fingerprint = sha256_json(
        {
            "purpose": purpose,
            "config": config.to_dict(),
            "data": data,
            "load_from": sha256(request.load_from) if request.load_from else None,
            "tools": tools(),
        }
    )
    return Plan(Experiment(name, request.work), file, config, data, fingerprint)


def _prepare(config: Config, file: Path, request: Request) -> Any:
    source = config.get("source")
    if source is None:
        raise UsageError(f"{file}: names no data source; add source = one of {', '.join(sorted(sources.sources()))}")
    out = request.work / "data" / source
    if request.data is not None:
        # Each origin has its own prepared set, so that two experiments on two folders do not displace each other.
        origin = request.data.resolve()
        out = request.work / "data" / f"{source}-{origin.name}-{sha256_json(str(origin))[:6]}"
    prepared = sources.prepare(source, out, origin=request.data, skip_bad=request.skip_bad)
    for line in summary(prepared):
        say(line)
    return prepared
