"""`python -m benchmarks run EXP…` measures bundles against PyTorch; `report` shows stored results, `diff` compares two,
`audit` checks that they can be believed."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.audit import command
from train import cli, documents
from train.errors import InputError
from train.files import write_atomic

CONFIGS = Path(__file__).parents[1] / "configs" / "bench"
EPILOG = """\
examples:
  python -m benchmarks run cls/resnet18_digits
  python -m benchmarks run cls/resnet18_digits --quick --set batch_sizes=[1]
  python -m benchmarks run cls/resnet18_digits cls/resnet50_flowers --device cuda --json
  python -m benchmarks report work > table.md
  python -m benchmarks report work --html report.html
  python -m benchmarks diff before after
  python -m benchmarks audit cls/resnet18_digits

exit codes: 0 ok · 2 usage or config · 3 bad input · 4 nothing can run here · 5 accuracy gate · 6 measurement failed
"""


def parser() -> argparse.ArgumentParser:
    """The command line of this room."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="{run,report,diff,audit}")
    run = verbs.add_parser("run", help="measure experiments", epilog=EPILOG, formatter_class=made.formatter_class)
    run.add_argument("experiments", nargs="+", metavar="EXP", help="an experiment's name, or the path of its config")
    which = run.add_mutually_exclusive_group()
    which.add_argument(
        "--config",
        type=Path,
        default=CONFIGS / "default.yaml",
        metavar="YAML",
        help="the matrix (default: configs/bench/default.yaml)",
    )
    which.add_argument(
        "--quick",
        action="store_const",
        dest="config",
        const=CONFIGS / "quick.yaml",
        help="the quick matrix: a first look",
    )
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override a key of the matrix"
    )
    run.add_argument(
        "--work", type=Path, default=Path("work"), metavar="DIR", help="where experiments lie (default: work)"
    )
    run.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    run.add_argument("--force", action="store_true", help="measure again though nothing changed")
    run.add_argument(
        "--json", action="store_true", help="print the results, without raw samples, as one JSON object on stdout"
    )
    run.set_defaults(call=_run)
    show = verbs.add_parser("report", help="print stored results as Markdown")
    show.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="results.jsonl files, or folders to search for them"
    )
    show.add_argument(
        "--json", action="store_true", help="print the results, without raw samples, as one JSON object instead"
    )
    show.add_argument(
        "--html", type=Path, metavar="FILE", help="write them as one page that opens without a network instead"
    )
    show.add_argument("--into", type=Path, metavar="FILE", help="put a short table between a document's markers")
    show.set_defaults(call=_report)
    compare = verbs.add_parser("diff", help="compare two results, and fail where something got worse")
    compare.add_argument("before", type=Path, metavar="BEFORE", help="results.jsonl, or a folder to search for them")
    compare.add_argument("after", type=Path, metavar="AFTER", help="the same, later")
    compare.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown")
    compare.set_defaults(call=_diff)
    check = verbs.add_parser(
        "audit", help="check that the numbers can be believed", epilog=EPILOG, formatter_class=made.formatter_class
    )
    command.add_arguments(check)
    check.set_defaults(call=command.main)
    for verb in (run, compare):
        verb.add_argument(
            "--gates",
            type=Path,
            default=CONFIGS / "gates.yaml",
            metavar="YAML",
            help="what must hold (default: configs/bench/gates.yaml)",
        )
    return made


def _run(arguments: argparse.Namespace) -> int:
    from benchmarks import gates, html, matrix, report
    from benchmarks.run import Request, run

    limits = gates.read(arguments.gates)
    request = Request(
        experiments=tuple(arguments.experiments),
        matrix=matrix.read(arguments.config, arguments.overrides),
        work=arguments.work,
        device=arguments.device,
        force=arguments.force,
    )
    done = run(request)
    lines = [report.render([results for results, _ in done])]
    folders = [(request.work / results.experiment / "bench", new) for results, new in done if results.ran]
    folders += [(request.work / "bench", True)] if len(done) > 1 else []
    lines += [
        f"{'wrote' if new else 'current'}: {folder}/{{{report.FILE_NAME},{html.FILE_NAME}}}" for folder, new in folders
    ]
    checks = [check for results, _ in done for check in gates.checks(results, limits)]
    lines += [f"undecided: {check.text}" for check in checks if check.status == "undecided"]
    verdicts = [gates.verdict(results, limits) for results, _ in done]
    cli.finish(
        {"experiments": {results.experiment: {**results.summary(), "measured": new} for results, new in done}},
        as_json=arguments.json,
        lines=lines,
        next_command=None if any(verdicts) else f"python -m benchmarks report {request.work}",
    )
    for error in filter(None, verdicts):
        raise error
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from benchmarks import brief, html, report, results

    found = [results.read(file) for path in arguments.paths for file in _result_files(path)]
    if arguments.json:
        return cli.finish(
            {"experiments": {entry.experiment: entry.summary() for entry in found}}, as_json=True, lines=[]
        )
    if arguments.html:
        write_atomic(arguments.html, html.render(found))
        return cli.finish({}, as_json=False, lines=[f"wrote: {arguments.html}"])
    if arguments.into:
        documents.insert(arguments.into, brief.render(found), brief.BEGIN, brief.END)
        return cli.finish({}, as_json=False, lines=[f"wrote: {arguments.into}"])
    sys.stdout.write(report.render(found))
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from benchmarks import diff, gates

    limits = gates.read(arguments.gates)
    changes = diff.compare(diff.read(arguments.before), diff.read(arguments.after), limits)
    if arguments.json:
        cli.finish({"experiments": [change.model_dump(mode="json") for change in changes]}, as_json=True, lines=[])
    else:
        sys.stdout.write(diff.render(changes))
    error = diff.verdict(changes, limits)
    if error:
        raise error
    return 0


def _result_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("results.jsonl"))
    if not files:
        raise InputError(
            f"{path}: expected results.jsonl somewhere below, found none; run python -m benchmarks run first"
        )
    return files


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it asks."""
    arguments = parser().parse_args(argv)
    code: int = arguments.call(arguments)
    return code


if __name__ == "__main__":
    sys.exit(cli.run(main))
