"""`python -m benchmarks.pooling` proves and times exact adaptive pooling, and writes both into docs/adaptive-pooling.md."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmarks import brief
from benchmarks.environment import ROOT
from benchmarks.pooling import cost, proof
from benchmarks.report import table
from train import cli, documents
from train.files import write_json

DOCUMENT = ROOT / "docs" / "adaptive-pooling.md"
STORED = ROOT / "benchmarks" / "results" / "adaptive-pooling.json"


class Stored(BaseModel):
    """What the document's tables are made from."""

    model_config = ConfigDict(extra="forbid")

    proof: list[proof.Line]
    cost: cost.Cost


def render(stored: Stored) -> str:
    """Both tables as Markdown; ends with a newline."""
    return "\n".join([*_proof(stored.proof), "", *_cost(stored.cost)]) + "\n"


def _proof(lines: Sequence[proof.Line]) -> list[str]:
    header = ["bins", "pooling", "sizes", "shape wrong or none", "values wrong", "max error"]
    rows = [
        [str(line.bins), line.kind, str(line.sizes), str(line.misshapen), str(line.wrong), f"{line.max_error:.1e}"]
        for line in sorted(lines, key=lambda line: line.bins)
    ]
    return table(header, rows)


def _cost(measured: cost.Cost) -> list[str]:
    header = [
        "graph",
        "median ms",
        f"latency over {cost.BASE}'s in the same turn [95 % CI]",
        "max error of a logit",
        "pixels changed",
    ]
    rows = []
    for name, samples in measured.samples_us.items():
        ratio, low, high = measured.ratio(name)
        rows.append(
            [
                name,
                f"{cost.median_ms(samples):.1f}",
                "baseline" if name == cost.BASE else f"{ratio:.3f} [{low:.3f}, {high:.3f}]",
                f"{measured.max_error[name]:.1e}",
                f"{measured.changed_percent[name]:.2f} %",
            ]
        )
    machine = measured.environment
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in ("torch", "onnxruntime", "mmdeploy"))
    return [
        *table(header, rows),
        "",
        f"{cost.MODEL}, 1×3×{cost.SIZE[0]}×{cost.SIZE[1]} float32, on {machine.cpu_model}, {machine.cores} cores, "
        f"{machine.threads} threads; {versions}; {machine.date_utc[:10]}. "
        f"{sum(map(len, measured.samples_us[cost.BASE]))} turns in {len(measured.samples_us[cost.BASE])} processes, "
        "each of one call a graph in random order.",
    ]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.pooling", description=__doc__)
    made.add_argument("--only", choices=("proof", "cost"), help="make one of the two anew and keep the other")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is asked for anew and write the document."""
    only = parser().parse_args(argv).only
    kept = Stored.model_validate_json(STORED.read_text(encoding="utf-8")) if only else None
    stored = Stored(
        proof=kept.proof if kept and only == "cost" else proof.prove(),
        cost=kept.cost if kept and only == "proof" else cost.measure(),
    )
    write_json(STORED, stored.model_dump(mode="json"))
    documents.insert(DOCUMENT, render(stored), brief.BEGIN, brief.END)
    return cli.finish({}, as_json=False, lines=[f"wrote: {DOCUMENT.relative_to(Path.cwd())}"])


if __name__ == "__main__":
    sys.exit(cli.run(main))
