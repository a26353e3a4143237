"""The training loop: MMEngine's Runner, made crash-safe, resumable and quiet."""

import contextlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import EpochBasedTrainLoop, Runner

from train import checkpoint, distributed, samples, tasks
from train.cli import say
from train.data.image_files import some
from train.errors import InputError, UsageError
from train.plan import Plan, Request


class _Runner(Runner):
    """MMEngine's Runner whose page about environment, config and hooks goes to the log file only."""

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        logger = super().build_logger(*args, **kwargs)
        self._console = next(handler for handler in logger.handlers if not isinstance(handler, logging.FileHandler))
        self._console.setLevel(logging.WARNING)
        return logger

    _fine_tuned = False

    def fine_tune(self, path: Path, *, trust: bool) -> None:
        """Initialise the model and load a pretrained checkpoint into it, safely and with one line of report."""
        self._init_model_weights()
        self._fine_tuned = True
        new = checkpoint.load_matching(bare(self.model), path, trust=trust)
        say(f"fine-tuning from {path}" + (f"; {len(new)} new: {some(new)}" if new else ""))

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """Load what a run goes on from. MMEngine leaves out what does not fit; here all of it must, and be finite."""
        checkpoint.fitting(bare(self.model), Path(filename))
        return super().load_checkpoint(filename, *args, **kwargs)

    def _init_model_weights(self) -> None:
        if not self._fine_tuned:  # `train` would initialise over what `fine_tune` loaded
            super()._init_model_weights()

    def build_optim_wrapper(self, *args: Any, **kwargs: Any) -> Any:
        """Build it without a line for each parameter, and a warning for each that a head shares on purpose."""
        before = self._console.level
        self._console.setLevel(logging.ERROR)
        try:
            return super().build_optim_wrapper(*args, **kwargs)
        finally:
            self._console.setLevel(before)

    def wrap_model(self, model_wrapper_cfg: Any, model: Any) -> Any:
        """Wrap it with batch statistics of each process, also where a class' default is to join them: as one process."""
        return super().wrap_model(model_wrapper_cfg, revert_sync_batchnorm(model))  # `sync_bn` joins them again

    def build_evaluator(self, evaluator: Any) -> Any:
        """Build it so that processes send each other what a metric needs; MMEngine's default is a folder that all see."""
        made = super().build_evaluator(evaluator)
        for metric in made.metrics:
            metric.collect_device = "gpu"  # that is: by the process group, on whatever device
        return made

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> Any:
        """Build it so that a sample that cannot be loaded is an error with its name."""
        made = Runner.build_dataloader(*args, **kwargs)
        samples.guard(made.dataset)
        return made

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save what every process would: MMEngine calls all of them, and the first one writes."""
        distributed.average_statistics(self.model)
        super().save_checkpoint(*args, **kwargs)

    def train(self) -> Any:
        self._console.setLevel(logging.INFO)
        return super().train()


class _StatisticsHook(Hook):
    """Validate the model that the checkpoint holds: each process has batch statistics of its own until then."""

    priority = "LOWEST"

    def before_val_epoch(self, runner: Any) -> None:
        distributed.average_statistics(runner.model)


class _ResumedHook(Hook):
    """Validate a checkpoint that training resumes from: it was saved before its validation, which a crash may have cut off."""

    priority = "LOWEST"

    def before_train(self, runner: Any) -> None:
        loop = runner.train_loop
        if runner.val_loop is None:
            return
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        if done and done >= loop.val_begin and (done % loop.val_interval == 0 or done == end):
            runner.val_loop.run()


@dataclass(frozen=True)
class Trained:
    """What a run ends with: the model, its best checkpoint and that checkpoint's validation metrics, in percent."""

    model: Any
    checkpoint: Path
    metrics: dict[str, float]


def run(planned: Plan, request: Request) -> Trained:
    """Train to the end.

    Raises:
        UsageError: a part of the config that cannot be built, or a batch that the processes cannot share.
        InputError: a checkpoint to fine-tune or to go on from that is refused or of another model, or samples that cannot be loaded.
    """
    runner = build(planned, request)
    # pycocotools prints its steps and a table of what the log says anyway. The log keeps the stream it was built with.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            runner.train()
        except samples.BadSampleError as error:
            loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop]
            raise samples.counted(error, [loop.dataloader.dataset for loop in loops]) from None
        except (ValueError, RuntimeError) as error:
            if explained := distributed.explain(error):
                raise explained from None
            raise
    task = tasks.named(planned.data["task"])
    hub = runner.message_hub
    history = _validated(hub)
    if task.METRIC not in history:
        # mmdet measures nothing where nothing was found.
        say(
            f"warning: validation found nothing, {task.METRIC_LABEL} is 0; train for longer. The last checkpoint is kept"
        )
        return Trained(bare(runner.model), Path(hub.get_info("last_ckpt")), {task.METRIC: 0.0})
    best = int(np.argmax(history[task.METRIC]))
    metrics = {key: task.PERCENT * float(history[key][best]) for key in (task.METRIC, *task.ALSO) if key in history}
    return Trained(bare(runner.model), Path(hub.get_info("best_ckpt")), metrics)


def bare(model: Any) -> Any:
    """A model without what averages its gradients."""
    return model.module if is_model_wrapper(model) else model


def _validated(hub: Any) -> dict[str, Any]:
    """Each metric's values, one a validation."""
    return {key.removeprefix("val/"): log.data[0] for key, log in hub.log_scalars.items() if key.startswith("val/")}


def build(planned: Plan, request: Request) -> Any:
    """The Runner of a plan, ready to train: from scratch, fine-tuning, or resuming."""
    config, folder = planned.config, planned.experiment.train
    config.work_dir = str(folder)
    checkpoint.harden(config)
    if request.resume:
        newest = distributed.from_first(lambda: checkpoint.latest(folder))
        if newest is None:
            say(f"{folder}: nothing to resume, starting from the beginning")
        elif not newest.is_file():
            raise InputError(f"{newest}: the first machine has it, this one has not; resume in a folder that all share")
        else:
            say(f"resuming from {newest}")
            config.load_from, config.resume = str(newest), True
    try:
        runner = _Runner.from_cfg(distributed.share(config))
    except (TypeError, KeyError, ValueError) as error:
        # MMEngine's registry names the class that could not be built, and why.
        raise UsageError(f"{planned.file}: {str(error).strip(chr(34))}") from None
    runner.register_hook(checkpoint.PlainStateHook())
    runner.register_hook(_StatisticsHook())
    runner.register_hook(_ResumedHook())
    if request.load_from and not config.resume:
        runner.fine_tune(request.load_from, trust=request.trust)
    if distributed.is_first():
        # Only now: a run that could not start must not cost an interrupted one its checkpoints.
        _clear(folder, keep_checkpoints=bool(config.resume))
    return runner


def _clear(folder: Path, *, keep_checkpoints: bool) -> None:
    """Remove what a run that was killed while it wrote left unfinished, and what an earlier run left."""
    old = () if keep_checkpoints else ("epoch_*.pth", "iter_*.pth", "best_*.pth")
    for pattern in (".*.pth.*", *old):
        for path in folder.glob(pattern):
            path.unlink()


def draw_curve(planned: Plan) -> None:
    """Draw training loss and validation metric over the steps of the newest run into `curve.png`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder, task = planned.experiment.train, tasks.named(planned.data["task"])
    logs = sorted(folder.glob("*/vis_data/scalars.json"))
    points = [json.loads(line) for line in logs[-1].read_text().splitlines()] if logs else []
    loss = [(point["step"], point["loss"]) for point in points if "loss" in point]
    scores = [(point["step"], point[task.METRIC]) for point in points if task.METRIC in point]
    if not loss:
        return
    figure, left = plt.subplots(figsize=(7, 4), layout="constrained")
    left.plot(*zip(*loss, strict=True), color="tab:blue", label="training loss")
    left.set(xlabel="iteration", ylabel="training loss")
    if scores:
        # MMEngine may give validation points the epoch as step; spread them over the iterations.
        scale = loss[-1][0] / scores[-1][0]
        right = left.twinx()
        right.plot(
            [step * scale for step, _ in scores],
            [task.PERCENT * value for _, value in scores],
            "o-",
            color="tab:orange",
        )
        right.set(ylabel=f"validation {task.METRIC_LABEL} (%)")
    figure.savefig(folder / "curve.png", dpi=120)
    plt.close(figure)
