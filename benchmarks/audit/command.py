"""`python -m benchmarks audit EXP…`: its options, its table and its exit code."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from train import cli
from train.errors import BackendError, MeasurementError, UsageError

if TYPE_CHECKING:
    from benchmarks.audit import Audit
    from benchmarks.audit.run import Engine

DEFAULT = Path(__file__).parents[2] / "configs" / "bench" / "default.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("experiments", nargs="+", metavar="EXP", help="an experiment's name, or the path of its config")
    parser.add_argument(
        "--backends",
        nargs="+",
        default=[],
        metavar="NAME[:PRECISION]",
        help="default: the matrix', and ort_infer if built",
    )
    parser.add_argument(
        "--config", type=Path, default=DEFAULT, metavar="YAML", help="the matrix (default: configs/bench/default.yaml)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override a key of the matrix"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("work"), metavar="DIR", help="where experiments lie (default: work)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--json", action="store_true", help="print what was found as one JSON object on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Audit, show a table and say what failed.

    Raises:
        MeasurementError: a check failed, or a backend broke.
        BackendError: nothing could run here.
    """
    from benchmarks import matrix
    from benchmarks.audit.run import FILE_NAME, Request, run

    request = Request(
        experiments=tuple(dict.fromkeys(arguments.experiments)),
        matrix=matrix.read(arguments.config, arguments.overrides),
        engines=tuple(_engine(text) for text in arguments.backends),
        work=arguments.work,
        device=arguments.device,
    )
    done = run(request)
    lines = [table(name, audits) for name, audits in done.items()]
    lines += [f"wrote: {request.work / name / 'bench' / FILE_NAME}" for name in done]
    found = {name: [audit.model_dump(mode="json") for audit in audits] for name, audits in done.items()}
    cli.finish({"experiments": found}, as_json=arguments.json, lines=lines)
    judge([audit for audits in done.values() for audit in audits])
    return 0


def judge(audits: "list[Audit]") -> None:
    """Raise what the exit code says.

    Raises:
        MeasurementError: a check failed, or a backend broke.
        BackendError: nothing could run here.
    """
    wrong = [f"{audit.backend} {audit.precision}" for audit in audits if not audit.passed]
    if wrong:
        raise MeasurementError(f"audit: not passed by {', '.join(dict.fromkeys(wrong))}; do not trust their numbers")
    if all(audit.status == "unavailable" for audit in audits):
        raise BackendError(f"audit: nothing can run here: {audits[0].reason}")


def table(experiment: str, audits: "list[Audit]") -> str:
    """A Markdown table, a row a check and boundary."""
    rows = [["backend", "check", "boundary", "passed", "measured", "limit", "what"], ["---"] * 7]
    for audit in audits:
        name = f"{audit.backend} {audit.precision}"
        if audit.status != "ok":
            rows.append(
                [name, "–", "–", "no" if audit.status == "failed" else "–", "–", "–", f"{audit.status}: {audit.reason}"]
            )
        for each in audit.findings:
            verdict = {True: "yes", False: "NO", None: "–"}[each.passed]
            rows.append(
                [name, each.check, each.boundary, verdict, _number(each.value), _number(each.limit), each.detail]
            )
    return f"## {experiment}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _engine(text: str) -> "Engine":
    from typing import get_args

    from benchmarks.matrix import Precision

    name, _, precision = text.partition(":")
    for known in get_args(Precision):
        if known == (precision or "fp32"):
            return name, known
    raise UsageError(
        f"--backends {text}: unknown precision '{precision}', expected one of {', '.join(get_args(Precision))}"
    )
