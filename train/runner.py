"""Training: one call around MMEngine's Runner, from a config to a whole, recorded checkpoint."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from train import config as configs
from train import data as sources
from train.cli import say
from train.data.summary import summary
from train.errors import BackendError, InputError, UsageError
from train.experiment import Experiment, Record, tools
from train.files import sha256, sha256_json, write_atomic


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
    classes = configs.class_names(config, prepared.classes)
    configs.bind(config, prepared.root, classes)
    data = {
        "root": str(prepared.root),
        "source": prepared.source,
        "fingerprint": prepared.fingerprint,
        "classes": list(classes),
    }
    fingerprint = sha256_json(
        {
            "purpose": purpose,
            "config": {key: value for key, value in config.to_dict().items() if key not in ("work_dir", "data_root")},
            "data": data,
            "load_from": sha256(request.load_from) if request.load_from and request.load_from.is_file() else None,
            "tools": tools(),
        }
    )
    return Plan(Experiment(name, request.work), file, config, data, fingerprint)


def train(request: Request) -> tuple[Experiment, Record, bool]:
    """Train an experiment, or find that it is trained already.

    Returns:
        The experiment, its record, and whether anything was trained now.

    Raises:
        UsageError, InputError, BackendError: see each error's text.
    """
    if request.load_from and not request.load_from.is_file():
        raise InputError(f"{request.load_from}: no such checkpoint (LOAD_FROM)")
    _choose_device(request.device)
    planned = plan(request)
    experiment = planned.experiment
    if not request.force and (record := experiment.current(planned.fingerprint)):
        return experiment, record, False
    if not (Path(planned.data["root"]) / "train.txt").is_file():
        raise InputError(
            f"{planned.data['root']}: no training images; this data set can only be exported and measured on"
        )

    started = time.monotonic()
    configs.activate(planned.config, planned.file)
    from train import loop  # MMEngine's Runner takes seconds to import

    trained = loop.run(planned, request)
    seconds = time.monotonic() - started
    record = publish(planned, trained.model, trained.checkpoint, metrics=trained.metrics, seconds=seconds)
    loop.draw_curve(experiment.train)
    return experiment, record, True


def adopt(request: Request, checkpoint: Path) -> tuple[Experiment, Record]:
    """Take a checkpoint trained elsewhere as an experiment's own, so that it can be exported and measured.

    Raises:
        InputError: a checkpoint that is refused or does not fit the config's model.
    """
    planned = plan(request, purpose=f"adopt {sha256(checkpoint) if checkpoint.is_file() else ''}")
    if record := planned.experiment.current(planned.fingerprint):
        return planned.experiment, record
    configs.activate(planned.config, planned.file)
    model = build_model(planned.config)
    return planned.experiment, publish(planned, model, checkpoint, origin=checkpoint.name, trust=request.trust)


def build_model(config: Config) -> Any:
    """The model a bound config describes, with fresh weights, in eval mode on the CPU."""
    from mmengine.registry import MODELS

    try:
        return MODELS.build(config.model).eval()
    except (TypeError, KeyError, ValueError, AssertionError) as error:
        raise UsageError(f"the config's model cannot be built: {error}") from None


def publish(
    planned: Plan,
    model: Any,
    weights: Path,
    *,
    metrics: dict[str, float] | None = None,
    origin: str = "trained",
    seconds: float = 0.0,
    trust: bool = False,
) -> Record:
    """Write `config.py`, `checkpoint.pth` and, last, `record.json`."""
    from train import checkpoint

    experiment = planned.experiment
    checkpoint.load_into(model, weights, trust=trust)
    classes = planned.data["classes"]
    checkpoint.save(model, experiment.checkpoint, {"experiment": experiment.name, "classes": classes})
    text = _portable(planned.config).pretty_text
    write_atomic(experiment.config, text)
    record = Record(
        experiment=experiment.name,
        fingerprint=planned.fingerprint,
        config_sha256=sha256(experiment.config),
        checkpoint_sha256=sha256(experiment.checkpoint),
        data=planned.data,
        metrics=metrics or {},
        origin=origin,
        seconds=round(seconds, 1),
        tools=tools(),
    )
    experiment.write(record)
    return record


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


def _choose_device(device: str) -> None:
    """Make the wanted device the one that MMEngine will find; called before CUDA is first looked at."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError(
            "DEVICE=cuda: torch finds no CUDA device here; check the driver (nvidia-smi), or use DEVICE=cpu"
        )


def _portable(config: Config) -> Config:
    """The config without this machine's paths: it travels in the bundle."""
    clean = Config(config.to_dict())
    for _, dataset in configs.datasets(clean):
        dataset.data_root = ""
    for key in ("work_dir", "launcher", "resume"):
        clean.pop(key, None)
    clean.load_from = None
    return clean
