"""`python -m deploy zoo`: its arguments, and what it prints."""

import argparse
import contextlib
from collections import Counter
from pathlib import Path

from deploy import zoo
from deploy.zoo import page, run
from train import cli, lock
from train.errors import InputError, VerificationError
from train.machine import available_cores


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    verb.add_argument("--only", metavar="NAMES", help="packages, models, or globs of them, separated by commas")
    verb.add_argument("--jobs", type=int, metavar="N", help="models at once (default: as many as there are cores)")
    verb.add_argument("--force", action="store_true", help="run what is done already, too")
    verb.add_argument(
        "--mmdeploy", action="store_true", help="let MMDeploy's own exporter try the same models, for the page"
    )
    verb.add_argument(
        "--timeout", type=float, default=run.TIMEOUT_S, metavar="SECONDS", help="for each (default: 1200)"
    )
    verb.add_argument("--page", action="store_true", help="only write the page again, from its stored results")
    verb.add_argument(
        "--list", type=Path, default=zoo.LIST, metavar="YAML", help="the models (default: configs/zoo.yaml)"
    )
    verb.add_argument(
        "--work", type=Path, default=Path("work"), metavar="DIR", help="where results lie (default: work)"
    )
    verb.add_argument("--json", action="store_true", help="print the results as one JSON object on stdout")


def execute(arguments: argparse.Namespace) -> int:
    """Run what is asked for; a run of the whole list writes the page.

    Raises:
        VerificationError: a result that the list does not expect.
    """
    if arguments.page:
        stored = page.read()
        page.write_pages(stored)
        return cli.finish(stored.model_dump(mode="json"), as_json=arguments.json, lines=[f"wrote: {page.PAGE}"])
    lines = zoo.select(zoo.read(arguments.list), arguments.only)
    exporters = tuple(run.EXPORTERS) if arguments.mmdeploy else ("slipway",)
    store = run.Store(arguments.work / run.FOLDER)
    with lock.only_writer(store.folder):
        results = run.run(
            run.cells(lines, exporters),
            store,
            jobs=arguments.jobs or available_cores(),
            force=arguments.force,
            timeout_s=arguments.timeout,
            listed=arguments.list,
        )
    said = _summary(results)
    whole = not arguments.only and arguments.list == zoo.LIST
    if whole:
        before = None
        with contextlib.suppress(InputError):
            before = page.read()
        page.write(page.gather(results, before))
        said.append(f"wrote: {page.STORED}, {page.PAGE}, and the totals in {page.README}")
    differing = run.differing(results)
    cli.finish(
        {"results": {str(cell): result for cell, result in results.items()}, "differing": differing},
        as_json=arguments.json,
        lines=said,
        next_command=None if differing or whole else "make zoo",
    )
    if differing:
        raise VerificationError(
            f"{len(differing)} of {len(results)} are not as {arguments.list} expects: {'; '.join(differing[:5])}"
            f"{' …' if len(differing) > 5 else ''}; mend them, or say there what is right"
        )
    return 0


def _summary(results: "dict[run.Cell, dict[str, object]]") -> list[str]:
    """A line a shape: how many of each status."""
    lines = []
    for shape in zoo.SHAPES:
        own = [result for cell, result in results.items() if cell.shape == shape and cell.exporter == "slipway"]
        counts = Counter(str(result["status"]) for result in own)
        lines.append(f"{shape}: " + ", ".join(f"{count} {status}" for status, count in counts.most_common()))
    return lines
