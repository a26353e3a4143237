"""`python -m train CONFIG`: train an experiment and leave its best checkpoint, ready to export."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from train import cli

EPILOG = """\
examples:
  python -m train cls/resnet18_digits                          the embedded data set, minutes on a CPU
  python -m train cls/resnet50_flowers --load-from imagenet.pth
  python -m train cls/resnet18_flowers --data photos/          your own folder of class folders
  python -m train mine.py --cfg-options train_cfg.max_epochs=20 optim_wrapper.optimizer.lr=1e-3

exit codes: 0 ok · 2 usage or config · 3 bad data or checkpoint · 4 environment
"""


def parser() -> argparse.ArgumentParser:
    """The command line of this room."""
    made = argparse.ArgumentParser(
        prog="python -m train", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "experiment", metavar="CONFIG", nargs="?", help="an experiment's name, or the path of an MMEngine config"
    )
    made.add_argument("--list", action="store_true", help="list the experiments and stop")
    made.add_argument("--data", type=Path, metavar="DIR", help="images to use instead of the source's own")
    made.add_argument("--load-from", type=Path, metavar="PTH", help="fine-tune from this checkpoint")
    made.add_argument(
        "--work", type=Path, default=Path("work"), metavar="DIR", help="where experiments lie (default: work)"
    )
    made.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: CUDA where there is one"
    )
    made.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of an interrupted run")
    made.add_argument("--force", action="store_true", help="train again though nothing changed")
    made.add_argument("--skip-bad", action="store_true", help="leave unreadable images out instead of refusing the set")
    made.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="load a checkpoint that holds more than tensors; it can run code",
    )
    made.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override config keys"
    )
    made.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    arguments = parser().parse_args(argv)
    from train import config, runner
    from train.errors import UsageError

    if arguments.list:
        print("\n".join(config.names()))
        return 0
    if arguments.experiment is None:
        raise UsageError("which experiment? --list shows them; make train-cls EXP=cls/resnet18_digits")
    request = runner.Request(
        experiment=arguments.experiment,
        work=arguments.work,
        data=arguments.data,
        load_from=arguments.load_from,
        options=tuple(arguments.cfg_options),
        device=arguments.device,
        resume=arguments.resume,
        trust=arguments.trust_checkpoint,
        skip_bad=arguments.skip_bad,
        force=arguments.force,
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # MMEngine logs to stdout, which is for --json
            experiment, record, trained = runner.train(request)
    except KeyboardInterrupt:
        cli.say("interrupted; --resume (RESUME=1) goes on from the last whole checkpoint")
        return 130
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in record.metrics.items())
    return cli.finish(
        {
            "experiment": experiment.name,
            "trained": trained,
            "checkpoint": str(experiment.checkpoint),
            "metrics": record.metrics,
        },
        as_json=arguments.json,
        lines=[f"{'trained' if trained else 'current'}: {experiment.checkpoint} ({metrics})"],
        next_command=f"make export-{experiment.name.split('/')[0]} EXP={experiment.name}"
        if "/" in experiment.name
        else None,
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
