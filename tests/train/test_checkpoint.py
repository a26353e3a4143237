"""Checkpoints run nothing, and are whole or absent."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from train import checkpoint, compat
from train.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def _allow_listed() -> None:
    compat.apply()


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def write(path: Path, extra: Any) -> Path:
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "extra": extra}, path)
    return path


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("posix.system", lambda mark: Call(os.system, f"touch {mark}")),
        ("eval", lambda mark: Call(eval, f"open({str(mark)!r}, 'w')")),
        ("exec", lambda mark: {"deep": [Call(exec, f"open({str(mark)!r}, 'w')")]}),
        ("getattr", lambda mark: Call(getattr, OrderedDict, "fromkeys")),
        ("getattr", lambda mark: Call(getattr, HistoryBuffer, "__init__")),
        ("torch.serialization.load", lambda mark: Call(torch.load, str(mark))),
    ],
)
def test_what_could_run_is_refused_by_name_and_not_run(tmp_path: Path, name: str, make: Any) -> None:
    mark = tmp_path / "executed"
    path = write(tmp_path / "evil.pth", make(mark))
    with pytest.raises(InputError) as caught:
        checkpoint.read(path)
    assert name in str(caught.value)
    assert "--trust-checkpoint" in str(caught.value)
    assert not mark.exists()


def test_control_the_same_file_runs_when_trusted(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    checkpoint.read(write(tmp_path / "evil.pth", Call(os.system, f"touch {mark}")), trust=True)
    assert mark.exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    path = tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {mark}"), protocol=2))
    with pytest.raises(InputError, match=r"refused: it holds 'posix\.system'"):
        checkpoint.read(path)
    assert not mark.exists()


def test_mmengines_own_logs_are_read(tmp_path: Path) -> None:
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    content = checkpoint.read(write(tmp_path / "ok.pth", history))
    assert content["extra"].mean() == 2.0


@pytest.mark.parametrize("keep", [0, 10, 300, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "cut.pth", None)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    with pytest.raises(InputError, match=r"cut\.pth"):
        checkpoint.read(path)


@pytest.mark.parametrize("content", ["version https://git-lfs.github.com/spec/v1", "<html>"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.pth"
    path.write_text(content)
    with pytest.raises(InputError, match="not a PyTorch checkpoint"):
        checkpoint.read(path)


def test_no_file_and_no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.read(tmp_path / "none.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds list"):
        checkpoint.read(tmp_path / "list.pth")
    torch.save({"lr": 0.1}, tmp_path / "numbers.pth")
    with pytest.raises(InputError, match="'lr' in the state dict is no tensor"):
        checkpoint.read(tmp_path / "numbers.pth")


def test_a_bare_state_dict_is_taken(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    other = nn.Linear(2, 3)
    checkpoint.load_into(other, tmp_path / "bare.pth")
    assert torch.equal(other.weight, model.weight)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(3, 2)}, r"1 missing \(bias\)"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "more": torch.zeros(1)}, r"1 unexpected \(more\)"),
        ({"weight": torch.zeros(9, 9), "bias": torch.zeros(3)}, r"1 of another shape \(weight\)"),
        ({"weight": torch.full((3, 2), torch.nan), "bias": torch.zeros(3)}, "not finite: weight"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, state: Any, message: str) -> None:
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message):
        checkpoint.load_into(nn.Linear(2, 3), tmp_path / "other.pth")


def test_fine_tuning_needs_the_same_body(tmp_path: Path) -> None:
    def model() -> nn.Module:
        return nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 5)})

    def saved(state: dict[str, torch.Tensor]) -> Path:
        torch.save(state, tmp_path / "pretrained.pth")
        return tmp_path / "pretrained.pth"

    body = {"backbone.weight": torch.ones(2, 2), "backbone.bias": torch.ones(2)}
    tuned = model()
    head = tuned["head"].weight.clone()
    new = checkpoint.load_matching(tuned, saved({**body, "head.weight": torch.zeros(9, 2)}))
    assert new == ["head.weight", "head.bias"]
    assert torch.equal(tuned["backbone"].weight, torch.ones(2, 2))
    assert torch.equal(tuned["head"].weight, head)
    with pytest.raises(InputError, match="0 of 2 tensors"):
        checkpoint.load_matching(model(), saved({"features.weight": torch.zeros(2, 2)}))


def test_a_removal_waits_for_the_next_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = checkpoint.AtomicBackend()
    old, new = tmp_path / "epoch_1.pth", tmp_path / "epoch_2.pth"
    backend.put(b"one", old)
    backend.remove(old)
    assert old.read_bytes() == b"one", "the old checkpoint is kept until the new one is whole"

    def crash(descriptor: int) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="power cut"):
            backend.put(b"two", new)
    assert old.read_bytes() == b"one"
    assert not new.exists()
    checkpoint.AtomicBackend().put(b"two", new)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_2.pth"]


def test_latest_is_the_newest(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    for age, name in enumerate(("epoch_10.pth", "epoch_9.pth", "best_x.pth")):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert checkpoint.latest(tmp_path) == tmp_path / "epoch_10.pth"
