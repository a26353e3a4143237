"""`python -m deploy export EXP`: checkpoint → verified ONNX bundle; `… verify EXP` compares it once more; `… engine EXP` builds
engines of it for this machine's GPU. `… zoo` tries every model of a list."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.zoo import command as zoo
from train import cli, lock
from train.errors import UsageError

if TYPE_CHECKING:
    from train.experiment import Experiment

EPILOG = """\
examples:
  python -m deploy export cls/resnet18_digits                     what `python -m train` left in work/
  python -m deploy export cls/resnet18_digits --shape static      one image of one size
  python -m deploy export cls/shufflenet-v2_imagenet --checkpoint weights.pth --data images/
  python -m deploy export cls/resnet18_digits --precision fp16 int8
                                          beside it, graphs in float16 and in 8 bits that keep its accuracy
  python -m deploy verify cls/resnet18_digits
  python -m deploy engine cls/resnet18_digits --precision fp32 fp16 --batch 1:1:32
                                          TensorRT engines for this machine's GPU, in the bundle
  python -m deploy zoo --only ATSS,mmseg                          which models of the zoo export, equal to PyTorch

A bundle is written only when its numbers are the unpatched model's.
exit codes: 0 ok · 2 usage or config · 3 bad data, checkpoint or model file · 4 environment · 5 numbers disagree
"""


def parser() -> argparse.ArgumentParser:
    """The command line of this room."""
    made = argparse.ArgumentParser(
        prog="python -m deploy",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("experiment", metavar="EXP", help="an experiment's name, or the path of its config")
    common.add_argument(
        "--work", type=Path, default=Path("work"), metavar="DIR", help="where experiments lie (default: work)"
    )
    common.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    verb = verbs.add_parser("export", parents=[common], help="checkpoint → verified ONNX bundle")
    verb.add_argument(
        "--shape", default="dynamic", help="static, batch or dynamic (default), or the path of an MMDeploy config"
    )
    verb.add_argument(
        "--checkpoint", type=Path, metavar="PTH", help="a checkpoint trained elsewhere, for this experiment's config"
    )
    verb.add_argument("--data", type=Path, metavar="DIR", help="images to verify on, with --checkpoint")
    verb.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="load a checkpoint that holds more than tensors; it can run code",
    )
    verb.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="with --checkpoint"
    )
    verb.add_argument("--skip-bad", action="store_true", help="leave unreadable images out instead of refusing the set")
    verb.add_argument(
        "--force", action="store_true", help="export though the bundle is current; with --precision, make those anew"
    )
    _add_precision(verb)
    verbs.add_parser("verify", parents=[common], help="compare a bundle once more with the model it came from")
    _add_engine(verbs.add_parser("engine", parents=[common], help="bundle → engines for this machine's GPU"))
    zoo.add_arguments(verbs.add_parser("zoo", help="try the export on every model of configs/zoo.yaml"))
    return made


def _add_precision(verb: argparse.ArgumentParser) -> None:
    from deploy import precision

    own = verb.add_argument_group("precision", "other precisions of the graph, held against it on training images")
    own.add_argument(
        "--precision", nargs="+", action="extend", default=[], choices=precision.names(), help="graphs to add"
    )
    own.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="other images, without labels: the model's own predictions count",
    )
    own.add_argument(
        "--calibration-images", type=int, metavar="N", help="how many images ranges are measured on (default: 64)"
    )
    own.add_argument(
        "--gate",
        type=float,
        metavar="PERCENT",
        help="of the float32 graph's score, to reach at least (default: the precision's own)",
    )


def _add_engine(verb: argparse.ArgumentParser) -> None:
    from deploy.engines.building import command

    command.add_arguments(verb)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the verb."""
    arguments = parser().parse_args(argv)
    return {"export": _export, "verify": _verify, "engine": _engine, "zoo": zoo.execute}[arguments.verb](arguments)


def _engine(arguments: argparse.Namespace) -> int:
    from deploy.engines.building import command

    return command.run(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from deploy import export
    from train import runner
    from train.config import locate
    from train.experiment import Experiment

    _refuse_ignored(arguments)
    experiment = Experiment(locate(arguments.experiment)[0], arguments.work)
    # MMEngine and MMDeploy log to stdout, which is for --json.
    with contextlib.redirect_stdout(sys.stderr), lock.only_writer(experiment.root):
        if arguments.checkpoint:
            request = runner.Request(
                arguments.experiment,
                work=arguments.work,
                data=arguments.data,
                options=tuple(arguments.cfg_options),
                trust=arguments.trust_checkpoint,
                skip_bad=arguments.skip_bad,
            )
            runner.adopt(request, arguments.checkpoint)
        # Asked for other precisions, --force makes those anew.
        anew = arguments.force and not arguments.precision
        result = export.export(experiment, shape=arguments.shape, force=anew)
        precisions = _precisions(experiment, arguments)
    worst = max(output["max_abs"] for output in result.parity["outputs"].values())
    return cli.finish(
        {
            "experiment": experiment.name,
            "bundle": str(result.bundle),
            "exported": result.new,
            "parity": result.parity,
            "precisions": precisions,
        },
        as_json=arguments.json,
        lines=[
            f"{'exported' if result.new else 'current'}: {result.bundle} (parity passed: {result.parity['images']} images, "
            f"{len(result.parity['sizes'])} sizes, max |Δ| {worst:.1e})",
            *(_line(name, report) for name, report in precisions.items()),
        ],
        next_command=f"make infer EXP={experiment.name} PRECISION={next(iter(precisions))} IMAGES=photos"
        if precisions
        else f"make bench EXP={experiment.name}",
    )


def _refuse_ignored(arguments: argparse.Namespace) -> None:
    """What was trained here has its data and its config: options that would change them are no use without --checkpoint."""
    for flag in ("data", "cfg_options"):
        if getattr(arguments, flag) and not arguments.checkpoint:
            raise UsageError(
                f"--{flag.replace('_', '-')} is for --checkpoint; without it the data and config are those of the training"
            )


def _precisions(experiment: "Experiment", arguments: argparse.Namespace) -> dict[str, Any]:
    """Add the precisions asked for; a report each."""
    if not arguments.precision:
        asked = [flag for flag in ("calibration", "calibration_images", "gate") if getattr(arguments, flag) is not None]
        if asked:
            raise UsageError(f"--{asked[0].replace('_', '-')} is for --precision; say which")
        return {}
    from deploy.precision.calibration import add, images

    return add.add(
        experiment,
        arguments.precision,
        folder=arguments.calibration,
        count=arguments.calibration_images or images.CALIBRATION,
        gate=arguments.gate,
        force=arguments.force,
    )


def _line(name: str, report: dict[str, Any]) -> str:
    values = ", ".join(
        f"{metric} {value:.2f} of {report['scores']['float32'][metric]:.2f}"
        for metric, value in report["scores"][name].items()
    )
    state = "exported" if report["new"] else "current"
    return f"{state}: {name} ({values} on search images; {len(report['float_layers'])} layers in float32)"


def _verify(arguments: argparse.Namespace) -> int:
    from deploy import export
    from train.config import locate
    from train.experiment import Experiment

    with contextlib.redirect_stdout(sys.stderr):
        experiment = Experiment(locate(arguments.experiment)[0], arguments.work)
        parity = export.verify(experiment)
        parity.require()
    return cli.finish(
        {"experiment": experiment.name, "bundle": str(experiment.bundle), "parity": parity.to_dict()},
        as_json=arguments.json,
        lines=[f"{experiment.bundle}: {parity.summary()}"],
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
