"""Configs and options."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import engine_bundles
import pytest
import yaml

from benchmarks import matrix, timing
from benchmarks.__main__ import main as bench
from benchmarks.__main__ import parser as bench_parser
from deploy.__main__ import main as deploy
from slipway_runtime.__main__ import main as predict
from train import cli, limits
from train import config as configs
from train.__main__ import main as train
from train.errors import UsageError

TINY = str(Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py")
Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a command, which must end with code 2 and one line, and leave nothing in the work folder; the line."""

    def run(main: Callable[[Sequence[str] | None], int], *arguments: object) -> str:
        try:
            code: Any = cli.run(main, [*map(str, arguments)])
        except SystemExit as stop:  # argparse's own
            code = stop.code
        err = capfd.readouterr().err
        assert code == 2, err
        lines = [line for line in err.splitlines() if "error: " in line]
        assert len(lines) == 1, err
        assert "Traceback" not in err
        assert [path.name for path in (tmp_path / "work").rglob("*") if path.is_file()] in ([], [".lock"])
        return lines[0]

    return run


@pytest.fixture
def options(tmp_path: Path) -> list[object]:
    """A tiny experiment in a work folder of its own, and the flag that overrides follow."""
    return [TINY, "--work", tmp_path / "work", "--device", "cpu", "--cfg-options"]


@pytest.mark.fault(
    row="config-keys",
    fault="training: unknown keys, in a config or in OPTIONS=",
    sees="all of them, each with its place and the nearest known one: “(did you mean 'max_epochs'?)”",
    code=2,
    intact="nothing is trained or written",
)
def test_unknown_keys_of_an_experiment(refused: Refused, options: list[object], tmp_path: Path) -> None:
    line = refused(train, *options, "train_cfg.max_epoch=1", "optim_wraper.type=x")
    assert "did you mean 'max_epochs'?" in line
    assert "did you mean 'optim_wrapper'?" in line
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = [{TINY!r}]\nmodel = dict(backbone=dict(dept=3), hed=dict())\nparam_schedulers = 1\n")
    config = configs.read(mine)
    with pytest.raises(UsageError) as caught:  # the command says so once the data set lies there
        configs.activate(config, mine)
    for hint in (
        "ResNet takes no 'dept' (did you mean 'depth'?)",
        "'hed' (did you mean 'head'?)",
        "'param_scheduler'?",
    ):
        assert hint in str(caught.value)


@pytest.mark.control(row="config-keys")
def test_control_mmengine_takes_them_in_silence(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = [{TINY!r}]\nparam_schedulers = 1\ntrain_cfg = dict(max_epoch=9)\n")
    config = configs.read(mine)
    assert config.param_schedulers == 1
    assert config.train_cfg.max_epochs == 2, "what was meant was not changed"


@pytest.mark.fault(
    row="config-matrix-keys",
    fault="measuring: unknown keys in a matrix or in gates",
    sees="all of them: “unknown key 'batches': did you mean 'batch_sizes'? …; unknown key 'secs': …”",
    code=2,
    intact="nothing is measured or written",
)
def test_unknown_keys_of_a_matrix_and_of_gates(refused: Refused, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("batches: [1]\ntimer: {secs: 1}\nrepetition: 2\n")
    line = refused(bench, "run", "cls/x", "--work", tmp_path / "work", "--config", mine)
    for hint in ("'batches': did you mean 'batch_sizes'?", "'secs': did you mean 'seconds'?", "mean 'repetitions'?"):
        assert hint in line
    mine.write_text("accuracyy: {}\ndif: {}\n")
    line = refused(bench, "diff", tmp_path, tmp_path, "--gates", mine)
    assert "did you mean 'accuracy'?" in line
    assert "did you mean 'diff'?" in line


@pytest.mark.control(row="config-matrix-keys")
def test_control_a_lenient_matrix_measures_something_else() -> None:
    class Lenient(matrix.Matrix, extra="ignore"):
        pass

    assert Lenient.model_validate(yaml.safe_load("repetition: 9")).repetitions == 3


@pytest.mark.fault(
    row="config-types",
    fault="training: a value of a wrong type or size: max_epochs=two, batch_size=0, lr=fast",
    sees="“'train_cfg.max_epochs': expected a whole number, 1 or more, found 'two'”, one for each",
    code=2,
    intact="nothing is trained or written",
)
def test_wrong_types_of_an_experiment(refused: Refused, options: list[object]) -> None:
    given = ["train_cfg.max_epochs=two", "train_dataloader.batch_size=0", "optim_wrapper.optimizer.lr=fast"]
    line = refused(train, *options, *given)
    for each in ("'train_cfg.max_epochs': expected a whole number, 1 or more, found 'two'", "found 0", "found 'fast'"):
        assert each in line


@pytest.mark.control(row="config-types")
def test_control_mmengine_stumbles_later(
    tmp_path: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "problems", lambda config: ())
    with pytest.raises(ValueError, match="invalid literal for int"):
        cli.run(train, [*map(str, options), "train_cfg.max_epochs=two"])
    assert (tmp_path / "work" / "data").is_dir()


@pytest.mark.fault(
    row="config-order",
    fault="a minimum above its maximum: --batch 8:4:1, --size, the timer's min_calls and max_calls",
    sees="“--batch 8:4:1: …: minimum ≤ optimum ≤ maximum is expected”, “min_calls 100 is above max_calls 5”",
    code=2,
    intact="nothing is built or measured",
)
def test_a_minimum_above_its_maximum(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    made, file = engine_bundles.experiment(tmp_path / "made")
    for option in (("--batch", "8:4:1"), ("--size", "64x64:32x32:96x96")):
        said = refused(deploy, "engine", file, "--work", made.work, *option)
        assert "minimum ≤ optimum ≤ maximum is expected" in said
    assert not (made.bundle / "engines").exists()
    command = ["run", "cls/x", "--work", tmp_path / "work", "--set", "timer={min_calls: 100, max_calls: 5}"]
    assert "min_calls 100 is above max_calls 5" in refused(bench, *command)


@pytest.mark.control(row="config-order")
def test_control_unordered_the_least_is_not_reached() -> None:
    settings = timing.TimerSettings.model_construct(
        **{**timing.TimerSettings().model_dump(), "min_calls": 100, "max_calls": 5, "seconds": 0.001}
    )
    assert len(timing.measure([lambda: None], settings).samples_us) == 5


@pytest.mark.fault(
    row="config-names",
    fault="an experiment, a config or a back end that does not exist",
    sees="“unknown experiment 'cls/resnet18_digit': did you mean 'cls/resnet18_digits'? known: …”",
    code=2,
    intact="nothing is written",
)
def test_unknown_names(refused: Refused, tmp_path: Path) -> None:
    work = ("--work", tmp_path / "work")
    near = "unknown experiment 'cls/resnet18_digit': did you mean 'cls/resnet18_digits'?"
    assert near in refused(train, "cls/resnet18_digit", *work)
    assert near in refused(deploy, "verify", "cls/resnet18_digit", *work)
    assert "no such config" in refused(train, "nowhere.py", *work)
    assert "'onnxrt': did you mean 'onnxruntime'" in refused(bench, "run", "cls/x", *work, "--set", "backends=[onnxrt]")


@pytest.mark.control(row="config-names")
def test_control_a_name_taken_as_a_path_is_only_missing() -> None:
    with pytest.raises(FileNotFoundError):
        configs.Config.fromfile("cls/resnet18_digit.py")


@pytest.mark.fault(
    row="config-conflicts",
    fault="options that exclude each other, or that need another one",
    sees="which ones: “--data is for --checkpoint; …”, “argument --config: not allowed with argument --quick”",
    code=2,
    intact="nothing is written",
)
def test_options_that_do_not_go_together(refused: Refused, tmp_path: Path) -> None:
    work = ("--work", tmp_path / "work")
    assert "not allowed with argument --quick" in refused(bench, "run", "x", *work, "--quick", "--config", "x.yaml")
    assert "--data is for --checkpoint" in refused(deploy, "export", TINY, *work, "--data", tmp_path)
    both = ("bundle", "photo.jpg", "--splash", "--opacity", "0.5")
    assert "not allowed with argument --splash" in refused(predict, *both)
    assert "--nodes" in refused(train, TINY, *work, "--nodes", "2")


@pytest.mark.control(row="config-conflicts")
def test_control_unrefused_the_last_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argparse.ArgumentParser, "add_mutually_exclusive_group", lambda self: self)
    assert bench_parser().parse_args(["run", "x", "--quick", "--config", "x.yaml"]).config == Path("x.yaml")
