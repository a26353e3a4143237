"""The proof and the cost of exact adaptive pooling, and the page that shows them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks import brief, timing
from benchmarks.environment import capture
from benchmarks.pooling import MMDEPLOY, OURS, Pyramid, cost, export, proof
from benchmarks.pooling.__main__ import DOCUMENT, STORED, Stored, render

FORMULA, STATIC, DYNAMIC = proof.ERRORS
BRIEF = timing.TimerSettings(seconds=0.05, window_ms=1, tolerance=1000)


@pytest.fixture(scope="module")
def stored() -> Stored:
    return Stored.model_validate_json(STORED.read_text())


def lines(found: list[proof.Line], kind: str) -> list[proof.Line]:
    return [line for line in found if line.kind == kind]


def test_the_page_shows_what_was_computed(stored: Stored) -> None:
    text = DOCUMENT.read_text()
    assert f"{brief.BEGIN}\n{render(stored)}{brief.END}" in text, "python -m benchmarks.pooling"


def test_the_proof_covers_the_grid_and_holds(stored: Stored) -> None:
    assert {line.sizes for line in stored.proof} == {len(proof.SIZES) ** 2}
    for kind in (STATIC, DYNAMIC):
        assert len(lines(stored.proof, kind)) == 4
        assert all(line.misshapen == line.wrong == 0 for line in lines(stored.proof, kind))
        assert all(line.max_error <= proof.TOLERANCE for line in lines(stored.proof, kind))
    assert all(line.misshapen > 0 and line.wrong > 0 for line in lines(stored.proof, FORMULA) if line.bins > 1)


def test_the_proof_is_what_the_graph_gives_now(stored: Stored) -> None:
    found = proof.lines(DYNAMIC, proof.dynamic_errors(proof.SIZES, proof.SIZES))
    for now, then in zip(found, lines(stored.proof, DYNAMIC), strict=True):
        assert (now.sizes, now.misshapen, now.wrong) == (then.sizes, then.misshapen, then.wrong)
        assert now.max_error == pytest.approx(then.max_error, rel=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_table_is_what_the_script_computes(stored: Stored) -> None:
    for now, then in zip(proof.prove(), stored.proof, strict=True):
        assert (now.kind, now.bins, now.sizes, now.misshapen) == (then.kind, then.bins, then.sizes, then.misshapen)
        assert now.wrong == pytest.approx(then.wrong, rel=1e-3)
        assert now.max_error == pytest.approx(then.max_error, rel=1)


def test_lines_tell_wrong_shapes_from_wrong_values() -> None:
    errors = np.array([[0, 1e-7, np.inf, np.inf], [0, 0.5, 2e-6, np.inf]])
    assert [(line.misshapen, line.wrong, line.max_error) for line in proof.lines("x", errors)] == [
        (0, 0, 0.0),
        (0, 1, 0.5),
        (1, 1, 2e-6),
        (2, 0, 0.0),
    ]


def test_every_graph_is_timed_in_turn(tmp_path: Path) -> None:
    x = torch.zeros(1, 1, 16, 16)
    files = {}
    for name, backend in {"a": MMDEPLOY, "b": OURS}.items():
        files[name] = tmp_path / f"{name}.onnx"
        onnx.save(export(Pyramid(), x, backend), files[name])
    samples = cost.latencies(files, x.numpy(), BRIEF, seed=0)
    assert len(samples["a"]) == len(samples["b"]) > 3


def test_a_ratio_is_taken_within_a_turn() -> None:
    """A machine that slows down for minutes slows both graphs."""
    slow = [10.0, 10.0, 500.0, 900.0]
    measured = cost.Cost(
        environment=capture(("torch",), 2, "cpu"),
        samples_us={cost.BASE: [slow, slow], "exact": [[2 * value for value in slow]] * 2},
        changed_percent={},
        max_error={},
    )
    assert measured.ratio("exact") == (2.0, 2.0, 2.0)


@pytest.mark.slow
def test_pspnet_is_exact_and_mmdeploys_is_not() -> None:
    measured = cost.measure(1, BRIEF)
    assert measured.max_error[cost.BASE] > 1e-4
    assert measured.changed_percent[cost.BASE] > 0.1
    for name in set(cost.GRAPHS) - {cost.BASE}:
        assert measured.max_error[name] < 1e-5
        assert measured.changed_percent[name] < 0.01
        assert measured.ratio(name)[0] > 0
