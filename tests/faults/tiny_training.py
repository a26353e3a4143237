"""A training of two seconds, four steps an epoch, each of them logged; for tests that disturb it."""

from pathlib import Path
from typing import Any

import pytest
from faulty import Command

from train import compat
from train.data import prepare

EPOCHS = 3
TINY = Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py"
OPTIONS = [
    *("train_dataloader.dataset.indices=64", "val_dataloader.dataset.indices=32", "train_dataloader.batch_size=16"),
    *(f"train_cfg.max_epochs={EPOCHS}", f"param_scheduler.total_steps={EPOCHS}", "default_hooks.logger.interval=1"),
    "log_processor.window_size=1",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compat.apply()
    return prepare("digits", tmp_path_factory.mktemp("prepared") / "digits").root.parent


def make(folder: Path, data: Path, **fields: Any) -> Command:
    """`python -m train --resume` in `folder`."""
    folder.mkdir(exist_ok=True)
    if not (folder / "data").exists():
        (folder / "data").symlink_to(data)
    arguments = [TINY, "--work", folder, "--device", "cpu", "--resume", "--cfg-options", *OPTIONS]
    return Command("train", arguments, watched=folder / "cls", log=folder / "log.txt", **fields)
