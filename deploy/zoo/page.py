"""docs/supported-models.md, and the totals in README.md, from stored results: `docs/supported-models.json`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.zoo import Line, Shape
from deploy.zoo.run import PACKAGES, WHEELS, Cell
from train.documents import insert
from train.errors import InputError
from train.files import write_atomic, write_json
from train.machine import available_cores, cpu_model, versions

ROOT = Path(__file__).parents[2]
STORED = ROOT / "docs" / "supported-models.json"
PAGE = ROOT / "docs" / "supported-models.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- zoo: begin -->", "<!-- zoo: end -->"
KINDS = {
    "Image classification": lambda line: line.package == "mmpretrain",
    "Detection and instance segmentation": lambda line: line.package == "mmdet",
    "Semantic segmentation": lambda line: line.package == "mmseg",
}

INTRO = """\
# Supported models

Every model of `configs/zoo.yaml`, built from the config that its mm* wheel ships, exported, and compared with the unpatched
PyTorch model. Graphs are of `ai.onnx` only, at least opset 17, and run in stock ONNX Runtime without a custom library. Weights
are random and seeded, batch norms have the statistics of images, and last layers are scaled so that there is something to
detect; images are small. `make zoo` makes this page from its results, `docs/supported-models.json`.

*static*: one image of one size. *dynamic*: any number of images of any size, with one graph: compared two at once, at the
traced size and three others. `batch`: the model itself takes one size; its graph takes any number of images. *heads*: largest
difference of the maps that the network's first head gives. *predictions*: largest difference of the final outputs, scores,
logits or, of detections, which are matched one to one, of scores. A difference passes within rtol 1e-3 and atol 1e-5, or
where PyTorch's own float32 is as far from float64; detections have the same label, IoU ≥ 0.99, |Δscore| ≤ 1e-4 and equal
masks. Errors are the larger of both shapes; nodes and MiB are of the dynamic graph where there is one, seconds of building,
exporting and comparing both.

*MMDeploy*: MMDeploy 1.3.1's own exporter on the same models, weights and images, in a process where nothing of ours rewrites
anything, by its deploy configs for ONNX Runtime with their documented values (`configs/zoo-mmdeploy.yaml`: opset 11, or 17 where
torch's exporter asks for a later one; segmenters with `with_argmax=False`, so that logits can be compared; thresholds are the
model's own, where MMDeploy takes them from it). What lets it start on this stack is a stand-in for `mmcv._ext`, `dynamo=False`,
one name that torch dropped, and the CPU as a default device. Logits and scores are compared as ours are; of detectors, what its
own post-processing makes of its graph against the model's own `predict`, by the same matching, masks by an IoU ≥ 0.98. Images
are larger where its pooling of small ones would have another number of bins than the model's; DETR and its like get one image
at a time, as it documents.
*documented*: what its documentation promises for ONNX Runtime. `agrees`: its graph gives what the model predicts; `with its
library`: stock ONNX Runtime does not load it, ONNX Runtime with MMDeploy's library of custom operators does; `one image at a
time`: not two at once; `differs`: it gives something else; `does not load`: not with its library either; `does not export`.
Weights are random: a difference is one of function, and says nothing of how often trained weights meet it. *custom operators*:
those that its graphs hold besides ONNX's own.
"""


class Model(BaseModel):
    """One model's line and what came of it, by shape."""

    model_config = ConfigDict(extra="forbid")
    line: Line
    slipway: dict[Shape, dict[str, Any]]
    mmdeploy: dict[Shape, dict[str, Any]] = {}

    def status(self, shape: Shape) -> str:
        """Ours: "exact", "batch", "refused", "wrong" or "failed"."""
        return str(self.slipway[shape]["status"])


class Stored(BaseModel):
    """The content of `docs/supported-models.json`."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = 1
    date_utc: str
    cpu_model: str
    cores: int
    versions: dict[str, str]
    models: list[Model]


def gather(results: Mapping[Cell, dict[str, Any]], before: Stored | None = None) -> Stored:
    """Results of whole lines, with this machine. MMDeploy's that are not among them are those of before."""
    models: dict[str, Model] = {}
    earlier = {model.line.model: model.mmdeploy for model in before.models} if before else {}
    for cell, result in results.items():
        kept = earlier.get(cell.line.model, {})
        model = models.setdefault(cell.line.model, Model(line=cell.line, slipway={}, mmdeploy=dict(kept)))
        getattr(model, cell.exporter)[cell.shape] = result
    return Stored(
        date_utc=datetime.now(timezone.utc).date().isoformat(),
        cpu_model=cpu_model(),
        cores=available_cores(),
        versions=versions({*PACKAGES, *WHEELS.values()}),
        models=list(models.values()),
    )


def read(path: Path = STORED) -> Stored:
    """What was stored.

    Raises:
        InputError: no such file, or a field that does not fit.
    """
    try:
        return Stored.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise InputError(f"{path}: not the results of a zoo ({str(error).splitlines()[0]}); run make zoo") from None


def write(stored: Stored) -> None:
    """The results, the page, and the totals in the README."""
    write_json(STORED, stored.model_dump(mode="json"))
    write_pages(stored)


def write_pages(stored: Stored) -> None:
    """The page and the totals in the README, of stored results."""
    write_atomic(PAGE, render(stored))
    insert(README, brief(stored), BEGIN, END)


def brief(stored: Stored) -> str:
    """The totals in a few lines of Markdown."""
    models = stored.models
    static, dynamic = (_count(models, shape, "exact") for shape in ("static", "dynamic"))
    batch = _count(models, "dynamic", "batch")
    text = (
        f"`make zoo` exports {len(models)} models of mmpretrain, mmdet and mmseg: {_share(static, models)} with a static shape "
        f"and {_share(dynamic, models)} with one graph for every size equal the unpatched PyTorch model in stock ONNX Runtime"
    )
    text += f"; {batch} more take one size themselves, and any number of images" if batch else ""
    theirs = [model for model in models if model.mmdeploy]
    if theirs:
        static, dynamic = (
            sum(_verdict(model.mmdeploy.get(shape)) == "agrees" for model in theirs) for shape in ("static", "dynamic")
        )
        text += (
            f". MMDeploy 1.3.1 itself gives such graphs, equal and without custom operators, for {static} static and "
            f"{dynamic} dynamic"
        )
    return f"{text}: [docs/supported-models.md](docs/supported-models.md).\n"


def render(stored: Stored) -> str:
    """The page."""
    said = ", ".join(f"{name} {version}" for name, version in stored.versions.items())
    seconds = sum(result["total_seconds"] for model in stored.models for result in model.slipway.values())
    parts = [
        INTRO,
        _totals(stored.models),
        f"On {stored.cpu_model}, {stored.cores} cores, one thread a model: {seconds / 60:.0f} minutes of one core in all; "
        f"{stored.date_utc}; {said}.\n",
    ]
    for title, belongs in KINDS.items():
        chosen = [model for model in stored.models if belongs(model.line)]
        if chosen:
            parts.append(f"## {title}\n\n{_table(chosen)}")
    refused = [_reason(model) for model in stored.models if _reason(model)]
    if refused:
        parts.append("## What is not exact, and why\n\n" + "".join(refused))
    theirs = [f"- {model.line.model}: {why}\n" for model in stored.models if (why := _their_reason(model))]
    if theirs:
        parts.append("## Where MMDeploy's graphs are not\n\n" + "".join(theirs))
    return "\n".join(parts)


def _count(models: Sequence[Model], shape: Shape, *statuses: str) -> int:
    return sum(model.status(shape) in statuses for model in models)


def _share(count: int, models: Sequence[Model]) -> str:
    return f"{count} ({100 * count / len(models):.0f} %)"


def _totals(models: Sequence[Model]) -> str:
    header = ["", "models", "static", "dynamic", "batch only", "refused", "MMDeploy static", "MMDeploy dynamic"]
    groups: dict[str, Callable[[Line], bool]] = {**KINDS, "all": lambda line: True}
    rows = []
    for title, belongs in groups.items():
        own = [model for model in models if belongs(model.line)]
        if not own:
            continue
        refused = sum("refused" in (model.status("static"), model.status("dynamic")) for model in own)
        counts = [_share(_count(own, shape, "exact"), own) for shape in ("static", "dynamic")]
        theirs = [_their_counts(own, shape) for shape in ("static", "dynamic")]
        rows.append([title, str(len(own)), *counts, str(_count(own, "dynamic", "batch")), str(refused), *theirs])
    said = "MMDeploy: how many graphs it exports / stock ONNX Runtime loads / agree with PyTorch.\n"
    return f"{_markdown(header, rows)}\n{said}"


def _their_counts(models: Sequence[Model], shape: Shape) -> str:
    found = [model.mmdeploy[shape] for model in models if shape in model.mmdeploy]
    return " / ".join(str(sum(bool(each.get(key)) for each in found)) for key in ("exports", "loads", "agrees"))


def _table(models: Sequence[Model]) -> str:
    header = ["model", "static", "dynamic", "heads", "predictions", "nodes", "MiB", "seconds"]
    header += ["documented", "MMDeploy static", "MMDeploy dynamic", "custom operators", "note"]
    return _markdown(header, [_row(model) for model in models])


def _row(model: Model) -> list[str]:
    results = [result for result in model.slipway.values() if result["status"] in ("exact", "batch", "wrong")]
    sizes = results[-1] if results else {}
    custom = sorted({name for shape in model.mmdeploy for name in _custom(model, shape)})
    return [
        model.line.model,
        model.status("static"),
        model.status("dynamic"),
        _largest(results, "heads"),
        _largest(results, "predictions"),
        str(sizes.get("nodes", "")),
        f"{sizes['mib']:.0f}" if sizes else "",
        f"{sum(result['total_seconds'] for result in model.slipway.values()):.0f}",
        next((result.get("documented", "") for result in model.mmdeploy.values()), ""),
        _verdict(model.mmdeploy.get("static")),
        _verdict(model.mmdeploy.get("dynamic")),
        ", ".join(custom),
        model.line.note,
    ]


def _largest(results: Sequence[Mapping[str, Any]], name: str) -> str:
    found = [result[name] for result in results if result.get(name) is not None]
    return f"{max(found):.1e}" if found else ""


def _custom(model: Model, shape: Shape) -> list[str]:
    return list(model.mmdeploy.get(shape, {}).get("custom", ()))


def _verdict(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return ""
    if not result.get("tried", True):
        return "not tried"
    if not result.get("exports"):
        return "does not export"
    if result["agrees"]:
        return "agrees" if result["loads"] else "agrees, with its library"
    if result.get("one_image"):
        return "agrees, one image at a time"
    return "differs" if result.get("library") else "does not load"


def _reason(model: Model) -> str:
    """Why a model of ours is not exact, a line a shape."""
    return "".join(
        f"- {model.line.model}, {shape}: {_said(model.line, shape, result)}\n"
        for shape, result in model.slipway.items()
        if result["status"] != "exact"
    )


def _said(line: Line, shape: Shape, result: Mapping[str, Any]) -> str:
    """The list's own words where the result is as it says, which are for readers."""
    own = line.static if shape == "static" else line.dynamic
    return own if line.expected(shape) == result["status"] else f"{result['status']}: {result['reason']}"


def _their_reason(model: Model) -> str:
    found = {
        shape: result
        for shape, result in model.mmdeploy.items()
        if result.get("reason") and not (result.get("agrees") and result.get("loads"))
    }
    causes = {result["cause"] for result in found.values() if result.get("cause")}
    said = "; ".join(f"{shape}: {result['reason']}" for shape, result in found.items())
    return f"{said} ({'; '.join(sorted(causes))})" if causes else said


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
