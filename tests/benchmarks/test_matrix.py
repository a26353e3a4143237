"""The matrix file and its errors."""

from pathlib import Path

import pytest
import yaml

from benchmarks import matrix
from benchmarks.matrix import Matrix
from train.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs" / "bench"


def _read(folder: Path, text: str, *overrides: str) -> Matrix:
    path = folder / "matrix.yaml"
    path.write_text(text)
    return matrix.read(path, overrides)


def test_the_default_file_says_what_the_program_would_do_without_it(tmp_path: Path) -> None:
    assert matrix.read(CONFIGS / "default.yaml") == _read(tmp_path, "") == Matrix()
    named = yaml.safe_load((CONFIGS / "default.yaml").read_text())
    assert set(named) == set(Matrix.model_fields), "default.yaml explains every key"
    assert set(named["timer"]) == set(type(Matrix().timer).model_fields)


MATRICES = sorted(path for path in CONFIGS.glob("*.yaml") if not path.stem.endswith("gates"))


@pytest.mark.parametrize("path", MATRICES, ids=lambda path: path.stem)
def test_every_shipped_file_is_valid(path: Path) -> None:
    assert matrix.read(path).repetitions >= 1


def test_overrides(tmp_path: Path) -> None:
    made = _read(tmp_path, "batch_sizes: [4]", "batch_sizes=[1, 2]", "timer.seconds=3", "backends.pytorch=[bf16]")
    assert (made.batch_sizes, made.timer.seconds, made.backends) == ((1, 2), 3, {"pytorch": ("bf16",)})
    assert made.timer.tolerance == Matrix().timer.tolerance


@pytest.mark.parametrize(
    ("text", "engines"),
    [
        ("backends: [b, a]", [("b", "fp32"), ("a", "fp32")]),
        ("backends: {a: int8, b: [fp16, fp32]}", [("a", "int8"), ("b", "fp16"), ("b", "fp32")]),
    ],
)
def test_backends_expand_to_every_precision(tmp_path: Path, text: str, engines: list[tuple[str, str]]) -> None:
    assert _read(tmp_path, text).engines == engines


def test_shapes(tmp_path: Path) -> None:
    assert _read(tmp_path, "shapes: [null, [512, 1024]]").shapes == (None, (512, 1024))


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("batchsizes: [1]", (), "unknown key 'batchsizes': did you mean 'batch_sizes'?"),
        ("timer: {secs: 1}", (), "unknown key 'secs': did you mean 'seconds'?"),
        ("", ("timer.windows=2",), "unknown key 'windows'"),
        ("batch_sizes: []", (), "batch_sizes: "),
        ("batch_sizes: [0]", (), "greater than 0, got 0"),
        ("boundaries: [modell]", (), "'model', 'host' or 'e2e', got 'modell'"),
        (
            "backends: {pytorch: [int4]}",
            (),
            "backends.pytorch.0: Input should be 'fp32', 'bf16', 'fp16' or 'int8', got 'int4'",
        ),
        ("backends: {}", (), "at least 1 item"),
        ("backends: {pytorch: []}", (), "backends.pytorch: "),
        ("scenarios: [single]", (), "'stream' or 'offline', got 'single'"),
        ("shapes: [[512]]", (), "shapes.0"),
        ("shapes: [[0, 5]]", (), "greater than 0"),
        ("repetitions: many", (), "got 'many'"),
        ("- 1", (), "expected keys, found list"),
        ("a: [", (), "not YAML"),
        ("", ("batch_sizes",), "--set takes KEY=VALUE"),
        ("", ("seed.x=1",), "Input should be a valid integer"),
        ("seed: 1", ("seed.x=1",), "'seed' holds a value, no keys"),
        ("", ("seed=[",), "not a YAML value"),
    ],
)
def test_a_wrong_matrix_is_explained_in_one_line(
    tmp_path: Path, text: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, text, *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a benchmark configuration.*default\.yaml"):
        matrix.read(tmp_path / "none.yaml")
