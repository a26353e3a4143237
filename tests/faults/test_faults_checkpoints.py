"""Checkpoints."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deploy.__main__ import main as deploy
from train import checkpoint, cli, convert, runner
from train import config as configs
from train.__main__ import main as train
from train.errors import InputError
from train.experiment import Experiment

TINY = Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py"
State = dict[str, torch.Tensor]
#: Room → how a user brings a checkpoint there.
ROOMS = ("--checkpoint", "--load-from", "--resume")


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class Bring:
    """A work folder of its own, into which a checkpoint is brought by a room's command."""

    def __init__(self, trained: Experiment, folder: Path) -> None:
        self.own = Experiment(trained.name, folder / "work")
        self.own.train.mkdir(parents=True)
        (self.own.work / "data").symlink_to(trained.work / "data")
        self.content = torch.load(checkpoint.latest(trained.train), weights_only=False)
        self.folder = folder

    def path(self, room: str) -> Path:
        """Where the command will look for it."""
        return self.own.train / "epoch_1.pth" if room == "--resume" else self.folder / "brought.pth"

    def run(self, room: str, *more: str) -> int:
        """Run the command, on what lies at `path`."""
        verb: list[object] = [TINY, "--work", self.own.work, room]
        verb += [] if room == "--resume" else [self.path(room)]
        main, before = (deploy, ["export"]) if room == "--checkpoint" else (train, ["--device", "cpu"])
        return cli.run(main, [*before, *map(str, verb), *more])


@pytest.fixture
def bring(trained: Experiment, tmp_path: Path) -> Bring:
    return Bring(trained, tmp_path)


@pytest.fixture
def refused(bring: Bring, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Bring what was written: it must end with code 3 and one line that says this, and leave all as it was.

    Returns all that the command said.
    """

    def run(room: str, *says: str) -> str:
        before = {path: path.read_bytes() for path in bring.own.train.iterdir() if path.is_file()}
        capfd.readouterr()
        assert bring.run(room) == 3
        said = capfd.readouterr().err
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert line.startswith(f"error: {bring.path(room)}: ")
        for each in says:
            assert each in line
        after = {path.name: path.read_bytes() for path in bring.own.train.iterdir() if path.suffix == ".pth"}
        assert after == {path.name: content for path, content in before.items()}, "nothing written, nothing removed"
        assert not bring.own.bundle.exists()
        return said

    return run


GADGETS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "os.system": ("posix.system", lambda mark: Call(os.system, f"touch {mark}")),
    "builtins.eval": ("eval", lambda mark: Call(eval, f"open({str(mark)!r}, 'w')")),
    "torch.load": ("torch.serialization.load", lambda mark: Call(torch.load, str(mark), None, None)),
    "nested": ("exec", lambda mark: [{"deep": ({"deeper": Call(exec, f"open({str(mark)!r}, 'w')")},)}]),
    "nested call": ("print", lambda mark: Call(print, Call(os.system, f"touch {mark}"))),
}


@pytest.mark.fault(
    row="checkpoint-malicious",
    fault="a pickle that calls os.system, builtins.eval, torch.load or exec, at the top or nested; to export, fine-tune, resume",
    sees="“refused: it holds 'posix.system', which could run code; if you made the file yourself, use --trust-checkpoint”",
    code=3,
    intact="nothing in it was run; what lay in the experiment",
)
@pytest.mark.parametrize(
    ("room", "gadget"), [*(("--checkpoint", name) for name in GADGETS), *((room, "os.system") for room in ROOMS[1:])]
)
def test_what_could_run_is_refused(
    bring: Bring, refused: Callable[..., str], tmp_path: Path, room: str, gadget: str
) -> None:
    name, make = GADGETS[gadget]
    torch.save({**bring.content, "extra": make(tmp_path / "executed")}, bring.path(room))
    refused(room, f"refused: it holds '{name}'")
    assert not (tmp_path / "executed").exists()


@pytest.mark.fault(
    row="checkpoint-malicious",
    fault="a plain pickle named .pth",
    sees="the same",
    code=3,
    intact="nothing in it was run; what lay in the experiment",
)
def test_a_plain_pickle_is_refused(bring: Bring, refused: Callable[..., str], tmp_path: Path) -> None:
    content = pickle.dumps(Call(os.system, f"touch {tmp_path / 'executed'}"), protocol=2)
    bring.path("--checkpoint").write_bytes(content)
    refused("--checkpoint", "refused: it holds 'posix.system'")
    assert not (tmp_path / "executed").exists()


@pytest.mark.control(row="checkpoint-malicious")
@pytest.mark.control(row="checkpoint-foreign")
@pytest.mark.parametrize("gadget", ["os.system", "builtins.eval", "nested", "nested call"])
def test_control_trusted_it_runs(bring: Bring, tmp_path: Path, gadget: str) -> None:
    torch.save({**bring.content, "extra": GADGETS[gadget][1](tmp_path / "executed")}, bring.path("--checkpoint"))
    checkpoint.read(bring.path("--checkpoint"), trust=True)
    assert (tmp_path / "executed").exists()


@pytest.mark.fault(
    row="checkpoint-truncated",
    fault="a checkpoint cut off, empty, or a Git-LFS pointer; to export, fine-tune, resume",
    sees="“truncated or not a checkpoint (…); copy or download it again”",
    code=3,
    intact="what lay in the experiment",
)
@pytest.mark.parametrize(
    ("room", "content"),
    [
        *((room, 5000) for room in ROOMS),
        ("--checkpoint", 0),
        ("--checkpoint", b"version https://git-lfs.github.com/spec"),
    ],
)
def test_a_cut_off_file(bring: Bring, refused: Callable[..., str], room: str, content: int | bytes) -> None:
    torch.save(bring.content, bring.path(room))
    whole = bring.path(room).read_bytes()
    bring.path(room).write_bytes(whole[:content] if isinstance(content, int) else content)
    refused(room, "copy or download it again")


@pytest.mark.control(row="checkpoint-truncated")
def test_control_untranslated_it_is_a_traceback(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(bring.content, bring.path("--checkpoint"))
    os.truncate(bring.path("--checkpoint"), 5000)
    monkeypatch.setattr(checkpoint, "read", lambda path, trust=False: torch.load(path))
    with pytest.raises((OSError, RuntimeError)):
        bring.run("--checkpoint")


def another(state: State) -> State:
    """The weights of another architecture: keys missing, unexpected and of another shape."""
    names = sorted(key for key in state if key.endswith("conv1.weight"))
    renamed = {f"stranger.{key}" if key in names[:5] else key: value for key, value in state.items()}
    return {key: value[:1] if key == names[5] else value for key, value in renamed.items()}


@pytest.mark.fault(
    row="checkpoint-foreign",
    fault="a checkpoint that can only be opened by running what it holds: `make convert`, once (docs/containers.md)",
    sees="converted: OUT/theirs.safetensors (122 tensors, nothing else)",
    code=0,
    intact="all but OUT: it is opened in a container without a network; of the file, the weights go on",
)
def test_a_converted_one_is_exported(bring: Bring, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran, theirs, ours = tmp_path / "ran", tmp_path / "theirs.pth", tmp_path / "theirs.safetensors"
    torch.save({**bring.content, "extra": Call(os.system, f"touch {ran}")}, theirs)
    assert cli.run(convert.main, [str(theirs), str(ours)]) == 3
    assert "posix.system" in capsys.readouterr().err
    assert not ran.exists()
    assert cli.run(convert.main, [str(theirs), str(ours), "--trust-checkpoint"]) == 0
    assert ran.exists()
    state = bring.content["state_dict"]
    assert f"({len(state)} tensors, nothing else)" in capsys.readouterr().err
    found = checkpoint.read(ours)["state_dict"]
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    tiny_model().load_state_dict(checkpoint.fitting(tiny_model(), ours))
    theirs.write_bytes(b"\x80\x02cno_such_module\nThing\n.")
    assert cli.run(convert.main, [str(theirs), str(ours), "--trust-checkpoint"]) == 3
    assert "objects of code that is not here (No module named 'no_such_module')" in capsys.readouterr().err
    os.truncate(ours, 5000)
    with pytest.raises(InputError, match="truncated or not a checkpoint"):
        checkpoint.read(ours)


@pytest.mark.fault(
    row="checkpoint-other",
    fault="a checkpoint of another architecture; to export, resume",
    sees="all keys, then “does not fit the model: 5 missing (…, …); 5 unexpected (…, …); 1 of another shape (…)”",
    code=3,
    intact="what lay in the experiment",
)
@pytest.mark.parametrize("room", ["--checkpoint", "--resume"])
def test_another_architecture(bring: Bring, refused: Callable[..., str], room: str) -> None:
    state = bring.content["state_dict"]
    torch.save({**bring.content, "state_dict": another(state)}, bring.path(room))
    said = refused(room, "5 missing (backbone.", "5 unexpected (stranger.", "1 of another shape (backbone.")
    listed = {words[0]: words[1:] for words in map(str.split, said.splitlines()) if words}
    assert set(listed["missing:"]) == state.keys() - another(state).keys()
    assert set(listed["unexpected:"]) == another(state).keys() - state.keys()


@pytest.mark.fault(
    row="checkpoint-other",
    fault="a checkpoint of another architecture; to fine-tune",
    sees="“only 0 of 100 tensors outside the head fit this model; it is a checkpoint of another one”",
    code=3,
    intact="what lay in the experiment",
)
def test_nothing_to_fine_tune_from(bring: Bring, refused: Callable[..., str]) -> None:
    torch.save({f"other.{key}": value for key, value in bring.content["state_dict"].items()}, bring.path("--load-from"))
    refused("--load-from", "only 0 of ", "outside the head fit this model")


@pytest.mark.control(row="checkpoint-other")
def test_control_loaded_loosely_layers_stay_random(bring: Bring) -> None:
    state = bring.content["state_dict"]
    missing = next(key for key in sorted(state) if key.endswith("conv1.weight"))
    model = tiny_model()
    fresh = model.state_dict()[missing].clone()
    model.load_state_dict(
        {
            key: value
            for key, value in another(state).items()
            if key != missing and value.shape == state.get(key, value).shape
        },
        strict=False,
    )
    assert torch.equal(model.state_dict()[missing], fresh)
    assert not torch.equal(model.state_dict()[missing], state[missing])


@pytest.mark.fault(
    row="checkpoint-nan",
    fault="NaN or infinite weights; to export, fine-tune, resume",
    sees="“weights are not finite: backbone.conv1.weight; training diverged, use an earlier checkpoint”",
    code=3,
    intact="what lay in the experiment",
)
@pytest.mark.parametrize(("room", "value"), [*((room, float("nan")) for room in ROOMS), ("--checkpoint", float("inf"))])
def test_weights_that_are_no_numbers(bring: Bring, refused: Callable[..., str], room: str, value: float) -> None:
    spoil(bring.content["state_dict"], value)
    torch.save(bring.content, bring.path(room))
    refused(room, "weights are not finite: backbone.conv1.weight")


@pytest.mark.control(row="checkpoint-nan")
def test_control_unchecked_they_are_taken(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(bring.content["state_dict"], float("nan"))
    torch.save(bring.content, bring.path("--load-from"))
    monkeypatch.setattr(checkpoint, "_require_finite", lambda path, state: None)
    model = tiny_model()
    checkpoint.load_matching(model, bring.path("--load-from"))
    assert torch.isnan(model(torch.zeros(1, 3, 32, 32), mode="tensor")[-1]).all()


def spoil(state: State, value: float) -> None:
    state["backbone.conv1.weight"] = torch.full_like(state["backbone.conv1.weight"], value)


def tiny_model() -> Any:
    config = configs.read(TINY)
    configs.activate(config, TINY)
    configs.bind(config, Path("root"), [str(digit) for digit in range(10)])
    return runner.build_model(config)
