"""`python -m train CONFIG`: train an experiment and leave its best checkpoint, ready to export."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from train import cli, distributed

EPILOG = """\
examples:
  python -m train cls/resnet18_digits                          the embedded data set, minutes on a CPU
  python -m train cls/resnet50_flowers --load-from imagenet.pth
  python -m train cls/resnet18_flowers --data photos/          your own folder of class folders
  python -m train mine.py --cfg-options train_cfg.max_epochs=20 optim_wrapper.optimizer.lr=1e-3
  python -m train det/retinanet-r50_coco --data coco --processes 4           one a GPU
  python -m train CONFIG --processes 4 --nodes 2 --node-rank 0 --master 10.0.0.1:29500   on the first of two machines,
  python -m train CONFIG --processes 4 --nodes 2 --node-rank 1 --master 10.0.0.1:29500   on the second
  torchrun --nproc-per-node 4 -m train CONFIG                                            the same as --processes 4

several processes:
  The config's batch is divided among all of them, so steps, schedule and learning rate stay those of one process, and so
  does the result, within noise; a batch that cannot be divided evenly is refused. For larger batches set
  train_dataloader.batch_size, and the learning rate with it, by --cfg-options. Every process normalises by the batch
  statistics of its own share; their running means are averaged before each validation and checkpoint (sync_bn = "torch"
  in a config joins them, on GPUs). Every validation image counts once. The threads (OMP_NUM_THREADS, or the cores) are
  divided too. The first process alone prints and writes; when one ends, all end, and --resume goes on, with any number.
  Each process has its own GPU (NCCL), or none (gloo). Several machines need the same command, data and packages; to
  resume, also one --work that they share.

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
    several = made.add_argument_group("several processes")
    several.add_argument("--processes", type=int, default=1, metavar="N", help="processes a machine (default: 1)")
    several.add_argument("--nodes", type=int, default=1, metavar="M", help="machines (default: 1)")
    several.add_argument("--node-rank", type=int, metavar="R", help="which of the machines this is, from 0")
    several.add_argument("--master", metavar="HOST:PORT", help="where the machines meet: the first one and a free port")
    made.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    arguments = parser().parse_args(argv)
    from train import config, launch, lock, runner
    from train.errors import UsageError

    if arguments.list:
        print("\n".join(config.names()))
        return 0
    if arguments.experiment is None:
        raise UsageError("which experiment? --list shows them; make train-cls EXP=cls/resnet18_digits")
    nodes = launch.Nodes(arguments.processes, arguments.nodes, arguments.node_rank, arguments.master)
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
        if nodes.total > 1 and not distributed.is_member():
            return launch.launch(sys.argv[1:] if argv is None else argv, nodes)
        # MMEngine logs to stdout, which is for --json.
        with (
            distributed.joined(arguments.device) as first,
            contextlib.redirect_stdout(sys.stderr),
            lock.only_writer(request.folder) if first else contextlib.nullcontext(),
        ):
            experiment, record, trained = runner.train(request)
    except KeyboardInterrupt:
        cli.say("interrupted; --resume (RESUME=1) goes on from the last whole checkpoint")
        return 130
    if not first:
        return 0
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
