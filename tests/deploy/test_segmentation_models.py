"""Every segmentation model that comes with Slipway exports with one graph for all sizes, equal to the unpatched model.

`make models-table` writes what the slow test finds into docs/segmentation-models.md.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from models_table import MODELS, Compared, compare

from train import experiment
from train.files import write_atomic

DOC = Path(__file__).parents[2] / "docs" / "segmentation-models.md"
#: Of Cityscapes' test pipelines, and one that nothing divides.
SIZES = ((512, 1024), (397, 611))
HEAD = """\
# Segmentation models

The models of `configs/train/seg`, exported with one graph for every size (`SHAPE=dynamic`, opset 17, `ai.onnx` only), run in
stock ONNX Runtime and compared with the unpatched mmseg model. Weights are random and seeded, batch norms have the statistics
of data, and logits are compared before the arg max. A model that only takes multiples of 16 (U-Net) gets 397×611
padded, as mmseg pads it. *rounding* is how far PyTorch's own float32 is from the same model in
float64. `make models-table` makes this page.

| model | nodes | MiB | size | max \\|ONNX − PyTorch\\| | rounding | equal arg max |
|---|---|---|---|---|---|---|
"""


@pytest.mark.parametrize("model", MODELS)
def test_the_graph_is_the_model_at_every_size(model: str, tmp_path: Path) -> None:
    found = compare(model, tmp_path, ((64, 128), (101, 75)))
    assert all(output.passed for output in found.outputs.values()), found


def test_the_table_is_of_the_experiments_that_there_are() -> None:
    listed = [line.split("|")[1].strip() for line in DOC.read_text().splitlines() if line.startswith("| ")]
    assert set(MODELS) == set(listed) - {"model"}
    assert {f"seg/{model}_digits" for model in MODELS} <= set(experiment.names())


@pytest.fixture(scope="module")
def rows() -> list[str]:
    """The rows of the table, as models are compared."""
    return []


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_at_full_size(model: str, tmp_path: Path, rows: list[str]) -> None:
    found = compare(model, tmp_path, SIZES)
    assert all(output.passed for output in found.outputs.values()), found
    rows += lines(found)


@pytest.mark.slow
@pytest.mark.skipif("SLIPWAY_WRITE_DOCS" not in os.environ, reason="`make models-table` writes the page")
def test_the_table_is_written(rows: list[str]) -> None:
    assert len(rows) == len(MODELS) * len(SIZES)
    write_atomic(DOC, HEAD + "".join(rows))


def lines(found: Compared) -> Iterator[str]:
    """A model's rows of the table."""
    for (height, width), output in found.outputs.items():
        rounding = f"{output.rounding:.1e}" if output.rounding else ""
        yield (
            f"| {found.model} | {found.nodes} | {found.megabytes:.0f} | {height}×{width} | {output.max_abs:.1e} "
            f"| {rounding} | {100 * output.argmax.share:.4f} % |\n"
        )
