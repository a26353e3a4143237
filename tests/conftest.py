"""Fixtures of every room: the real data, and one small experiment taken through training and export once a session."""

import os

# Small models on few threads: with as many threads as cores, a busy machine makes them wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from trt_fixtures import tensorrt_stand_in  # noqa: F401 -- a fixture of every room

from benchmarks import nvml
from train.compat import ops

# Before any test module imports mmcv, as the rooms do it.
ops.install()

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "configs" / "cls" / "tiny_digits.py"
TINY_SCENES = ROOT / "tests" / "configs" / "seg" / "tiny_scenes.py"
TINY_BOXES = ROOT / "tests" / "configs" / "det" / "tiny_scenes.py"
TINY_MASKS = ROOT / "tests" / "configs" / "det" / "tiny_masks.py"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a GPU skip where there is none; `make test-gpu` refuses such a machine."""
    if not nvml.handles():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU, or no driver that tells of it"))


@pytest.fixture(autouse=True)
def _torch_threads() -> Iterator[None]:
    """What a backend sets for its process must not reach the next test: other threads train other weights."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and pretrained weights that SLIPWAY_DATA names; tests that need it skip without."""
    named = os.environ.get("SLIPWAY_DATA")
    if not named:
        pytest.skip("SLIPWAY_DATA names no folder of real images and weights")
    folder = Path(named).resolve()
    if not folder.is_dir():
        pytest.skip(f"SLIPWAY_DATA={named} is no folder")
    return folder


@pytest.fixture(scope="session")
def run_module() -> Run:
    """Run `python -m MODULE ARGS…` from the checkout, as a user does."""

    def run(
        module: str, *arguments: object, cwd: Path = ROOT, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command: Sequence[str] = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=500, env={**os.environ, **(env or {})}
        )

    return run


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `work` folder shared by the session's tests."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def trained(work: Path):
    """The tiny experiment, trained in this process."""
    from train import runner

    experiment, _, new = runner.train(runner.Request(str(TINY), work=work, device="cpu"))
    assert new
    return experiment


@pytest.fixture(scope="session")
def digits_experiment(trained):
    """The tiny experiment, trained and exported with dynamic shapes."""
    from deploy import export

    exported = export.export(trained)
    assert exported.new
    return trained


@pytest.fixture(scope="session")
def scenes_experiment(work: Path):
    """The tiny segmenter, trained and exported with dynamic shapes."""
    from deploy import export
    from train import runner

    experiment, _, new = runner.train(runner.Request(str(TINY_SCENES), work=work, device="cpu"))
    assert new
    assert export.export(experiment).new
    return experiment


@pytest.fixture(scope="session")
def trained_detector(work: Path):
    """The tiny detector, trained in this process."""
    from train import runner

    experiment, _, new = runner.train(runner.Request(str(TINY_BOXES), work=work, device="cpu"))
    assert new
    return experiment


@pytest.fixture(scope="session")
def trained_masks(work: Path):
    """The tiny detector of masks, trained in this process."""
    from train import runner

    experiment, _, new = runner.train(runner.Request(str(TINY_MASKS), work=work, device="cpu"))
    assert new
    return experiment


@pytest.fixture(scope="session")
def detector_experiment(trained_detector):
    """The tiny detector, trained and exported with dynamic shapes."""
    from deploy import export

    assert export.export(trained_detector).new
    return trained_detector


@pytest.fixture(scope="session")
def masks_experiment(trained_masks):
    """The tiny detector of masks, trained and exported with dynamic shapes."""
    from deploy import export

    assert export.export(trained_masks).new
    return trained_masks
