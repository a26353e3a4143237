"""Samples that training cannot load."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from train import samples
from train.data import prepare

TINY = Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py"


@pytest.mark.fault(
    row="data-sample-damaged",
    fault="files of a prepared set that were damaged before training",
    sees="2 of 1797 files of the prepared set cannot be read any more: …/train/3/0013.png (empty file), …; "
    "remove the set's folder to have it prepared again",
    code=3,
    intact="earlier checkpoints; no other image takes a bad one's place",
)
def test_damaged_samples_end_training_counted_and_named(tmp_path: Path, run_module: Callable[..., Any]) -> None:
    root = prepare("digits", tmp_path / "data" / "digits").root
    bad = sorted((root / "train").rglob("*.png"))[100:102]
    for path in bad:
        _replace(path)
    options = ("train_dataloader.num_workers=2", "train_dataloader.dataset.pipeline.0.ignore_empty=True")
    done = run_module("train", TINY, "--work", tmp_path, "--device", "cpu", "--cfg-options", *options)
    assert done.returncode == 3, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "error: 2 of 1797 files of the prepared set cannot be read any more: " in last
    assert all(f"{os.path.relpath(path, root)} (empty file)" in last for path in bad)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "cls" / "tiny_digits" / "train" / "record.json").exists()


@pytest.mark.fault(
    row="data-sample-dropped",
    fault="a transform that gives nothing for a sample",
    sees="PATH: the pipeline gives nothing for it; a transform that drops samples would change what is trained on",
    code=3,
    intact="no other image takes its place",
)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_dropped_sample_is_named(tmp_path: Path, workers: int) -> None:
    from torch.utils.data import DataLoader

    dataset = _dataset(tmp_path, max_refetch=0)
    samples.guard(dataset)
    with pytest.raises(samples.BadSampleError) as caught:
        list(DataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=lambda batch: batch))
    message = str(samples.counted(caught.value, [dataset]))
    assert message.startswith(f"{tmp_path}/cat/3.png: the pipeline gives nothing for it; a transform that drops")
    assert "\n" not in message


@pytest.mark.control(row="data-sample-damaged")
@pytest.mark.control(row="data-sample-dropped")
def test_control_mmengine_puts_another_sample_in_its_place(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, max_refetch=1000)  # MMEngine's default
    wanted = next(i for i in range(len(dataset)) if dataset.get_data_info(i)["img_path"].endswith("cat/3.png"))
    taken = dataset[wanted]["img_path"]
    assert not taken.endswith("cat/3.png"), "in silence"
    assert len(list(dataset)) == len(dataset), "and the set seems whole"


def _replace(path: Path) -> None:
    """Empty a file without touching what it is a link to."""
    path.unlink()
    path.touch()


def _dataset(root: Path, max_refetch: int) -> Any:
    """mmpretrain's, of a folder a class, with a transform that gives nothing for cat/3.png."""
    from mmpretrain.datasets import CustomDataset

    def drop(results: dict[str, Any]) -> dict[str, Any] | None:
        return None if results["img_path"].endswith("cat/3.png") else results

    for name in ("cat", "dog"):
        (root / name).mkdir()
        for i in range(5):
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(root / name / f"{i}.png")
    return CustomDataset(data_root=str(root), pipeline=[drop], max_refetch=max_refetch)
