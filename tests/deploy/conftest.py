"""What the deploy room's tests share: the tiny experiment's reference, its bundle, and images to verify on."""

import shutil
from pathlib import Path

import pytest

from deploy import parity, reference
from slipway_runtime import manifest
from train.experiment import Experiment


@pytest.fixture(scope="session")
def unpatched(digits_experiment: Experiment) -> reference.Reference:
    """The tiny experiment's unpatched model."""
    postprocess = manifest.read(digits_experiment.bundle).postprocess
    return reference.load(digits_experiment.config, digits_experiment.checkpoint, postprocess)


@pytest.fixture(scope="session")
def images(digits_experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The 32 images that an export verifies on."""
    return parity.validation_images(digits_experiment.read(), tmp_path_factory.mktemp("mirrored"))


@pytest.fixture
def copied(digits_experiment: Experiment, tmp_path: Path) -> Experiment:
    """The tiny experiment once more, to damage."""
    copy = Experiment(digits_experiment.name, tmp_path)
    shutil.copytree(digits_experiment.train, copy.train)
    return copy
