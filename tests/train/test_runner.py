"""Training, on the tiny experiment: what it leaves, when it does nothing, how it resumes and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from train import checkpoint, loop, runner
from train.errors import BackendError, InputError, UsageError
from train.experiment import Experiment
from train.files import sha256

TINY = str(Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py")


@pytest.fixture(scope="module")
def request_(work: Path) -> runner.Request:
    return runner.Request(TINY, work=work, device="cpu")


def test_what_training_leaves(trained: Experiment) -> None:
    record = trained.read()
    assert record.experiment == "cls/tiny_digits"
    assert record.metrics["accuracy/top1"] > 80
    assert record.data["classes"] == [str(digit) for digit in range(10)]
    assert record.checkpoint_sha256 == sha256(trained.checkpoint)
    state = torch.load(trained.checkpoint, weights_only=True)
    assert set(state) == {"meta", "state_dict"}
    curve = cv2.imread(str(trained.train / "curve.png"))
    assert curve.shape[0] > 300
    assert curve.std() > 5, "the curve is drawn"
    assert "Epoch(val)" in next(trained.train.glob("*/*.log")).read_text()


def test_the_best_epoch_is_the_one_kept(trained: Experiment) -> None:
    logs = next(trained.train.glob("*/vis_data/scalars.json")).read_text().splitlines()
    top1 = [point["accuracy/top1"] for point in map(json.loads, logs) if "accuracy/top1" in point]
    assert trained.read().metrics["accuracy/top1"] == pytest.approx(max(top1))


def test_nothing_to_do_the_second_time(trained: Experiment, request_: runner.Request) -> None:
    before = trained.checkpoint.stat().st_mtime_ns
    experiment, record, new = runner.train(request_)
    assert not new
    assert record == trained.read()
    assert experiment.checkpoint.stat().st_mtime_ns == before


def test_what_decides_the_result_changes_the_fingerprint(request_: runner.Request, trained: Experiment) -> None:
    known = trained.read().fingerprint
    assert runner.plan(request_).fingerprint == known
    assert runner.plan(replace(request_, options=("train_cfg.max_epochs=3",))).fingerprint != known
    assert runner.plan(replace(request_, load_from=trained.checkpoint)).fingerprint != known


def test_a_damaged_experiment_is_not_current(trained: Experiment, tmp_path: Path) -> None:
    copy = Experiment(trained.name, tmp_path)
    copy.train.mkdir(parents=True)
    for name in ("config.py", "checkpoint.pth", "record.json"):
        (copy.train / name).write_bytes((trained.train / name).read_bytes())
    fingerprint = trained.read().fingerprint
    assert copy.current(fingerprint)
    copy.checkpoint.write_bytes(copy.checkpoint.read_bytes()[:-1])
    assert copy.current(fingerprint) is None
    with pytest.raises(InputError, match="altered since training"):
        copy.read()


@pytest.mark.parametrize(("moment", "epoch"), [("after_val_epoch", 1), ("before_val_epoch", 2)])
def test_the_same_seed_gives_the_same_weights_and_an_interrupted_run_resumes(
    trained: Experiment, request_: runner.Request, tmp_path: Path, moment: str, epoch: int
) -> None:
    """Some epochs, then `--resume` to the end: the learning curve goes on where it was, and a validation is made up for."""
    again = replace(request_, work=tmp_path)
    (tmp_path / "data").symlink_to(request_.work / "data")
    planned = runner.plan(again)
    runner.configs.activate(planned.config, planned.file)
    started = loop.build(planned, again)

    class StopHere(KeyboardInterrupt):
        pass

    class Interrupt(checkpoint.Hook):
        priority = "LOWEST"

    def stop(ran: loop.Runner, metrics: object = None) -> None:
        if ran.epoch == epoch:
            raise StopHere

    setattr(Interrupt, moment, staticmethod(stop))
    started.register_hook(Interrupt())
    with pytest.raises(StopHere):
        started.train()
    first = checkpoint.latest(planned.experiment.train)
    assert first is not None
    assert first.name == f"epoch_{epoch}.pth"
    assert checkpoint.read(first)["meta"]["epoch"] == epoch

    experiment, record, new = runner.train(replace(again, resume=True))
    assert new
    resumed = checkpoint.read(experiment.checkpoint)["state_dict"]
    uninterrupted = checkpoint.read(trained.checkpoint)["state_dict"]
    assert record.metrics == pytest.approx(trained.read().metrics)
    for key, value in uninterrupted.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_refusals(request_: runner.Request, trained: Experiment, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        runner.train(replace(request_, load_from=tmp_path / "none.pth"))
    other = tmp_path / "other.pth"
    torch.save({"state_dict": {"features.0": torch.zeros(1)}}, other)
    interrupted = tmp_path / "cls" / "tiny_digits" / "train" / "epoch_1.pth"
    interrupted.parent.mkdir(parents=True)
    interrupted.write_bytes(b"")
    with pytest.raises(InputError, match="is a checkpoint of another one"):
        runner.train(replace(request_, load_from=other, work=tmp_path))
    assert interrupted.exists(), "a run that could not start leaves an interrupted one's checkpoints"
    with pytest.raises(InputError, match="does not fit the model"):
        runner.adopt(replace(request_, work=tmp_path), other)
    with pytest.raises(InputError, match=r"no such checkpoint .CHECKPOINT"):
        runner.adopt(replace(request_, work=tmp_path / "untouched"), tmp_path / "none.pth")
    assert not (tmp_path / "untouched").exists()
    assert not (tmp_path / "cls" / "tiny_digits" / "train" / "record.json").exists()
    with pytest.raises(UsageError, match="holds a model trained here"):
        runner.adopt(request_, trained.checkpoint)
    with pytest.raises(UsageError, match="nothing trained yet"):
        Experiment("cls/none", tmp_path).read()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_an_error(request_: runner.Request) -> None:
    with pytest.raises(BackendError, match="DEVICE=cuda"):
        runner.train(replace(request_, device="cuda"))


def test_the_loss_of_the_102_flower_exercise_learns(request_: runner.Request, tmp_path: Path) -> None:
    """The exercise's parts together: the registered L1 loss and batch mixup."""
    (tmp_path / "data").symlink_to(request_.work / "data")
    options = (
        "model.head.loss.type=ClassDistributionL1Loss",
        "model.train_cfg.augments.type=Mixup",
        "model.train_cfg.augments.alpha=0.2",
        "train_cfg.max_epochs=1",
    )
    _, record, _ = runner.train(replace(request_, work=tmp_path, options=options))
    assert record.metrics["accuracy/top1"] > 30
