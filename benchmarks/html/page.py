"""The page: its parts in their order, and the policy that keeps the network out."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import Template
from xml.etree.ElementTree import Element

from benchmarks.html import clocks, details, ecdf, groups, pareto, stages, table, verdict
from benchmarks.html.engines import Styles
from benchmarks.html.markup import element, plural, text
from benchmarks.results import Results

FILE_NAME = "report.html"
_FOLDER = Path(__file__).parent


def render(results: Sequence[Results]) -> str:
    """One page of these experiments, the same text for the same results.

    Raises:
        ValueError: no results.
    """
    if not results:
        raise ValueError("a report needs the results of at least one experiment")
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    names = ", ".join(result.experiment for result in results)
    return Template(_asset("report.html")).substitute(
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; base-uri 'none'; form-action 'none'",
        title=_escaped(f"{names} · benchmark"),
        style=style,
        script=script,
        subtitle=_escaped(_subtitle(results)),
        main="\n".join(text(part) for part in _parts(results) if part is not None),
    )


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """How a content security policy names an inline script or style (W3C CSP 3, "hash-source")."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _escaped(words: str) -> str:
    return text(element("i", words)).removeprefix("<i>").removesuffix("</i>")


def _subtitle(results: Sequence[Results]) -> str:
    machines = dict.fromkeys(
        f"{r.device} · {' + '.join(gpu.name for gpu in r.environment.gpus) or r.environment.cpu_model} · "
        f"{plural(r.environment.threads, 'thread')}"
        for r in results
    )
    dates = sorted({r.date_utc[:10] for r in results})
    experiments, rows = plural(len(results), "experiment"), plural(sum(len(r.rows) for r in results), "row")
    return " · ".join([experiments, rows, *machines, dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"])


def _parts(results: Sequence[Results]) -> list[Element | None]:
    styles, reasons = Styles(results), details.reasons(results)
    cards = element("div", *map(verdict.card, results), class_="cards")
    return [
        element("section", element("h2", "Verdict"), cards, id="verdict"),
        element(
            "section",
            element("h2", "Rows"),
            _filters(results),
            table.render(results, reasons),
            details.notes(results, reasons),
            id="table",
        ),
        *(_experiment(result, styles, f"e{index}") for index, result in enumerate(results)),
        details.method(results),
    ]


def _filters(results: Sequence[Results]) -> Element:
    """A choice for every axis on which rows differ; hidden until the script runs."""
    rows = [row for result in results for row in result.rows]
    chosen = {name: dict.fromkeys(of(row) for row in rows) for name, of in table.FILTERS.items()}
    return element(
        "form",
        *(_choice(name, list(values)) for name, values in chosen.items() if len(values) > 1),
        element("button", "Show all", type="reset"),
        element("p", f"{len(rows)} of {plural(len(rows), 'row')}", id="count", role="status"),
        id="filters",
        aria_label="Filter rows and charts",
        hidden="",
    )


def _choice(name: str, values: Sequence[str]) -> Element:
    options = [element("option", value or "as they come", value=value) for value in values]
    every = element("option", "all", value="*")
    return element("label", element("span", name), element("select", every, *options, name=name))


def _experiment(results: Results, styles: Styles, name: str) -> Element:
    split = groups.split(results)
    plots = [
        element(
            "div",
            pareto.render(results, rows, styles),
            ecdf.render(results, rows, styles, f"{name}-{index}"),
            class_="plots",
            **{f"data_{key}": table.FILTERS[key](rows[0]) for key in ("boundary", "batch", "shape", "scenario")},
        )
        for index, rows in enumerate(split)
    ]
    absent = element("p", "No row of this experiment fits the filters.", class_="nothing", hidden="")
    return element(
        "section",
        element("h2", results.experiment),
        element("p", "Charts show the first batch, scenario and boundary that fit the filters.", class_="note script"),
        styles.legend(groups.measured(results.rows)),
        *plots,
        absent,
        element("div", stages.render(results), clocks.render(results), class_="plots always"),
        details.render(results),
        class_="experiment",
        data_experiment=results.experiment,
        id=name,
    )
