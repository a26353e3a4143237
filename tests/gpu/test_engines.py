"""Engines of the networks that are promised build of the shipped graphs and answer as the unpatched PyTorch model.

`make test-gpu` runs all of it on an NVIDIA GPU; nothing else does. One case runs everywhere on the stand-in of TensorRT, so
that the first machine with a GPU meets no mistake of the tests themselves.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from seeded_bundles import ANY, CASES, Case, make
from trt_fixtures import playing

import slipway_runtime
from deploy import __main__ as deploy
from deploy import parity, reference
from slipway_runtime.sessions import open_session
from train import cli
from train.experiment import Experiment


@pytest.fixture(autouse=True)
def _float64_on_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network that learned nothing detects hangs on less than float32 tells apart."""
    monkeypatch.setattr(parity, "ROUNDING_IMAGES", 64)


def build(
    experiment: Experiment, capsys: pytest.CaptureFixture[str], precision: str = "fp32", more: Sequence[str] = ()
) -> Path:
    """`make engine-…`; the plan."""
    config = experiment.root.parents[2] / experiment.name.split("/")[0] / f"{experiment.root.name}.py"
    name = str(config) if config.is_file() else experiment.name
    arguments = ["engine", name, "--work", str(experiment.work), "--precision", precision, "--json", *more]
    assert cli.run(deploy.main, arguments) == 0, capsys.readouterr().err
    (built,) = json.loads(capsys.readouterr().out)["engines"]
    return Path(built["path"])


def assert_answers_as_pytorch(experiment: Experiment, plan: Path, scratch: Path) -> None:
    """rtol 1e-3, atol 1e-5, detections one to one: what an export is held to, from tensors to predictions."""
    record = experiment.read()
    session = open_session(plan, device="cuda")
    model = slipway_runtime.load(experiment.bundle, session=session)
    judge = reference.load(experiment.config, experiment.checkpoint, model.manifest.postprocess)
    parity.compare(model, judge, parity.validation_images(record, scratch)).require("the engine is wrong")


def check(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Export, build and compare."""
    experiment = make(case, folder)
    capsys.readouterr()
    plan = build(experiment, capsys, more=["--size", case.sizes] if case.sizes else [])
    assert_answers_as_pytorch(experiment, plan, folder / "mirrored")
    return plan


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_engine_answers_as_pytorch(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT is not installed; docs/gpu.md says how")
    check(case, tmp_path, capsys)


def test_the_check_itself_on_the_stand_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with playing(leaks=True):
        plan = check(Case("cls/resnet18_digits", sizes=ANY), tmp_path, capsys)
    assert plan.suffix == ".plan"
