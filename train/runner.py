"""Training: one call around MMEngine's Runner, from a config to a whole, recorded checkpoint."""

import copy
import os
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config

from train import config as configs
from train import distributed
from train.errors import BackendError, InputError, UsageError
from train.experiment import Experiment, Record, tools
from train.files import sha256, write_atomic
from train.plan import Plan, Request, plan


def train(request: Request) -> tuple[Experiment, Record, bool]:
    """Train an experiment, or find that it is trained already. Of several processes, the first one reads and writes.

    Returns:
        The experiment, its record, and whether anything was trained now.

    Raises:
        UsageError, InputError, BackendError: see each error's text.
    """
    if request.load_from and not request.load_from.is_file():
        raise InputError(f"{request.load_from}: no such checkpoint (LOAD_FROM)")
    _choose_device(request.device)
    planned = distributed.in_turn(lambda: plan(request))
    experiment = planned.experiment
    if planned.fingerprint != distributed.from_first(lambda: planned.fingerprint):
        raise UsageError(
            "this machine would train something else than the first one; give all the same command, data and packages"
        )
    if record := distributed.from_first(lambda: None if request.force else experiment.current(planned.fingerprint)):
        return experiment, record, False
    if not planned.data["images"].get("train"):
        raise InputError(
            f"{planned.data['root']}: no training images; this data set can only be exported and measured on"
        )
    distributed.check_batch(planned.config)  # before the seconds that what follows takes

    started = time.monotonic()
    configs.activate(planned.config, planned.file)
    from train import loop  # MMEngine's Runner takes seconds to import

    trained = loop.run(planned, request)

    def finish() -> Record:
        seconds = time.monotonic() - started
        written = publish(planned, trained.model, trained.checkpoint, metrics=trained.metrics, seconds=seconds)
        loop.draw_curve(planned)
        return written

    return experiment, distributed.from_first(finish), True


def adopt(request: Request, checkpoint: Path) -> tuple[Experiment, Record]:
    """Take a checkpoint trained elsewhere as an experiment's own, so that it can be exported and measured.

    Raises:
        InputError: a checkpoint that is refused or does not fit the config's model.
        UsageError: the experiment holds a model that was trained here.
    """
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: no such checkpoint (CHECKPOINT)")
    planned = plan(request, purpose=f"adopt {sha256(checkpoint)}")
    if record := planned.experiment.current(planned.fingerprint):
        return planned.experiment, record
    if (planned.experiment.train / "record.json").is_file() and planned.experiment.read().origin == "trained":
        raise UsageError(
            f"{planned.experiment.train}: holds a model trained here, which CHECKPOINT= would replace; choose another WORK="
        )
    configs.activate(planned.config, planned.file)
    model = build_model(planned.config)
    return planned.experiment, publish(planned, model, checkpoint, origin=checkpoint.name, trust=request.trust)


def build_model(config: Config) -> Any:
    """The model a bound config describes, with fresh weights, in eval mode on the CPU."""
    from mmengine.registry import MODELS

    try:
        # A copy: some of mmdet's detectors write into the config that they are built from.
        return MODELS.build(copy.deepcopy(config.model)).eval()
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


def _choose_device(device: str) -> None:
    """Make the wanted device the one that MMEngine will find; called before CUDA is first looked at."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise BackendError(
                "DEVICE=cuda: torch finds no CUDA device here; check the driver (nvidia-smi), or use DEVICE=cpu"
            )


def _portable(config: Config) -> Config:
    """The config without this machine's paths: it travels in the bundle."""
    clean = Config(config.to_dict())
    for split, dataset in configs.datasets(clean):
        root, dataset.data_root = dataset.data_root, ""
        for evaluator in configs.evaluators(clean, split):
            if "ann_file" in evaluator:
                evaluator.ann_file = str(Path(evaluator.ann_file).relative_to(root))
    for key in ("work_dir", "launcher", "resume"):
        clean.pop(key, None)
    clean.load_from = None
    return clean
