"""The gates: each with results that break it, and with results that do not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import environment, gates
from benchmarks.gates import Gates, SpeedLimit
from benchmarks.matrix import Matrix
from benchmarks.results import Accuracy, Comparison, Interval, Results, Row
from train.errors import BackendError, MeasurementError, UsageError, VerificationError

FILE = Path(__file__).parents[2] / "configs" / "bench" / "gates.yaml"
EAGER = "pytorch cpu fp32 b1 model"


def _row(backend: str = "onnxruntime", **changes: Any) -> Row:
    made = Row(
        experiment="cls/x",
        backend=backend,
        device="cpu",
        precision="fp32",
        batch=1,
        boundary="model",
        artifact_sha256="a1" * 32,
        bundle_sha256="c3" * 32,
        status="ok",
        strongest=EAGER,
    )
    return made.model_copy(update=changes)


def _accuracy(backend: str, top1: float, precision: str = "fp32", **changes: Any) -> Accuracy:
    made = Accuracy(
        backend=backend,
        device="cpu",
        precision=precision,  # type: ignore[arg-type]
        artifact_sha256="a1" * 32,
        images=2000,
        values={"top1_percent": top1, "top5_percent": 99.5},
    )
    return made.model_copy(update=changes)


def _results(*rows: Row, accuracy: tuple[Accuracy, ...] = ()) -> Results:
    return Results(
        experiment="cls/x",
        task="classification",
        device="cpu",
        date_utc="2026-01-02T03:04:05+00:00",
        bundle_sha256="c3" * 32,
        data_fingerprint="e5",
        parity_passed=True,
        environment=environment.capture(["torch"], 2, "cpu"),
        matrix=Matrix(),
        rows=list(rows or (_row("pytorch"), _row())),
        accuracy=[_accuracy("pytorch", 90.0), *accuracy],
        samples_us={},
    )


def _interval(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


def test_the_file_says_what_the_program_would_do_without_it() -> None:
    assert gates.read(FILE) == Gates() == gates.DEFAULT
    named = yaml.safe_load(FILE.read_text())
    assert set(named) == set(Gates.model_fields), "gates.yaml explains every key"
    assert set(named["accuracy"]) == set(Gates().accuracy)
    assert set(named["diff"]) == set(type(Gates().diff).model_fields)


def test_its_example_is_a_limit() -> None:
    (line,) = (line.strip("# ") for line in FILE.read_text().splitlines() if line.startswith("#   - {"))
    (example,) = yaml.safe_load(line)
    assert SpeedLimit(**example).min_speedup == 1.5


def test_a_file_keeps_what_it_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text("accuracy: {int8: {points: 2}}\ndiff: {slower_percent: 20}")
    made = gates.read(path)
    assert (made.accuracy["int8"].points, made.accuracy["fp32"].points) == (2, 0.05)
    assert (made.diff.slower_percent, made.diff.lost_points) == (20, 0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracyy: {}", "unknown key 'accuracyy': did you mean 'accuracy'?"),
        ("accuracy: {fp8: {points: 1}}", "unknown precision 'fp8'"),
        ("accuracy: {fp32: {point: 1}}", "unknown key 'point': did you mean 'points'?"),
        ("accuracy: {fp32: {points: 1, percent: 99}}", "accuracy.fp32: expected either points or percent"),
        ("accuracy: {int8: {percent: 101}}", "accuracy.int8.percent: "),
        ("speed: [{backend: onnxruntime, minspeedup: 2}]", "unknown key 'minspeedup': did you mean 'min_speedup'?"),
        ("speed: [{backend: onnxruntime, min_speedup: 0}]", "speed.0.min_speedup: Input should be greater than 0"),
        ("speed: [{backend: onnxruntime, min_speedup: 2, against: all}]", "speed.0.against: "),
        ("diff: {slower: 1}", "unknown key 'slower': did you mean 'slower_percent'?"),
        ("- 1", "expected keys, found list"),
        ("a: [", "not YAML"),
    ],
)
def test_wrong_gates_are_explained_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        gates.read(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_gates(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected gates.*see configs/bench/gates\.yaml"):
        gates.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("precision", "top1", "holds"),
    [
        ("fp32", 90.05, True),
        ("fp32", 89.95, True),
        ("fp32", 90.06, False),  # the same numbers are expected, so a gain is a fault too
        ("fp32", 89.94, False),
        ("fp16", 89.91, True),
        ("fp16", 89.90, False),
        ("fp16", 91.00, True),
        ("bf16", 89.90, False),
        ("int8", 89.10, True),
        ("int8", 89.09, False),
    ],
)
def test_accuracy_by_precision(precision: str, top1: float, holds: bool) -> None:
    entry = _accuracy("onnxruntime", top1, precision)
    results = _results(accuracy=(entry,))
    error = gates.verdict(results)
    assert (error is None) == holds
    assert gates.lost(results.accuracy) == ([] if holds else [entry])
    if error:
        assert isinstance(error, VerificationError)
        assert f"top1 of onnxruntime {precision} is {top1:.3f} %, of pytorch fp32 90.000 %" in str(error)
        mend = {"fp32": "deploy verify", "bf16": "gates.yaml"}.get(precision, "a higher GATE=")
        assert mend in str(error).split("; ")[-1]


def test_the_value_decides_about_accuracy_and_its_interval_is_told() -> None:
    points = _interval(-0.5, -1.2, 0.2)
    entry = _accuracy("onnxruntime", 89.5, difference=Comparison(points=points, method="paired bootstrap"))
    error = gates.verdict(_results(accuracy=(entry,)))
    assert isinstance(error, VerificationError)
    assert "-0.500 points [-1.200, +0.200], at most 0.05 points off" in str(error)


def test_other_limits() -> None:
    results = _results(accuracy=(_accuracy("onnxruntime", 88.5),))
    loose = Gates.model_validate({"accuracy": {"fp32": {"points": 2}}})
    assert gates.verdict(results, loose) is None
    assert not gates.lost(results.accuracy, loose)
    assert isinstance(gates.verdict(results), VerificationError)


def test_without_the_baseline_nothing_is_lost() -> None:
    entry = _accuracy("onnxruntime", 50)
    assert gates.lost([entry]) == []
    assert gates.accuracy_deltas(_results(accuracy=(entry,)))[0][2] == -40


def _asked(least: float, **changes: Any) -> Gates:
    return Gates(speed=(SpeedLimit(backend="onnxruntime", min_speedup=least, **changes),))


@pytest.mark.parametrize(
    ("ratio", "status"),
    [
        (_interval(2.0, 1.6, 2.4), "pass"),
        (_interval(1.6, 1.4, 1.8), "undecided"),
        (_interval(1.4, 1.2, 1.6), "undecided"),
        (_interval(1.3, 1.2, 1.4), "fail"),
    ],
)
def test_the_interval_decides_about_speed(ratio: Interval, status: str) -> None:
    results = _results(_row("pytorch"), _row(speedup=ratio))
    (check,) = (check for check in gates.checks(results, _asked(1.5)) if check.kind == "speed")
    assert check.status == status
    assert ("more repetitions narrow it" in check.text) == (status == "undecided")
    error = gates.verdict(results, _asked(1.5))
    assert (error is not None) == (status == "fail")
    if error:
        assert isinstance(error, MeasurementError)
        assert "1.30× [1.20, 1.40] as fast as the strongest PyTorch row, at least 1.5× asked" in str(error)
    assert gates.verdict(results) is None, "nothing is asked by default"


def test_against_eager_is_the_other_ratio() -> None:
    results = _results(_row("pytorch"), _row(speedup=_interval(1, 1, 1), speedup_eager=_interval(3, 2.5, 3.5)))
    assert gates.verdict(results, _asked(2, against="eager")) is None
    assert isinstance(gates.verdict(results, _asked(2)), MeasurementError)


def test_the_strongest_row_itself_is_as_fast_as_itself() -> None:
    results = _results(_row(strongest="onnxruntime cpu fp32 b1 model"))
    assert gates.verdict(results, _asked(1)) is None
    assert isinstance(gates.verdict(results, _asked(1.1)), MeasurementError)


def test_a_row_that_was_asked_for_must_have_a_ratio() -> None:
    gone = _row(status="unavailable", reason="no such engine")
    error = gates.verdict(_results(_row("pytorch"), gone), _asked(1))
    assert isinstance(error, MeasurementError)
    assert "no ratio, at least 1× asked; it is unavailable: no such engine" in str(error)
    assert "gave no valid row" in str(gates.verdict(_results(_row("pytorch"), _row()), _asked(1)))


@pytest.mark.parametrize(
    "other", [{"batch": 8}, {"boundary": "e2e"}, {"precision": "int8"}, {"scenario": "offline"}, {"backend": "x"}]
)
def test_a_row_that_was_not_asked_for_is_not_judged(other: dict[str, Any]) -> None:
    slow = _row(speedup=_interval(0.5, 0.4, 0.6))
    limit = SpeedLimit.model_validate({"backend": "onnxruntime", "min_speedup": 1.0} | other)
    assert gates.verdict(_results(_row("pytorch"), slow), Gates(speed=(limit,))) is None
    assert gates.verdict(_results(_row("pytorch"), slow), _asked(1)) is not None
    shaped = slow.model_copy(update={"shape": (64, 64)})
    assert gates.verdict(_results(_row("pytorch"), shaped), _asked(1)) is None


def test_the_order_of_what_went_wrong() -> None:
    """Nothing ran, then accuracy, then a failed row, then no valid row, then speed."""
    slow, lost = _row(speedup=_interval(0.5, 0.4, 0.6)), (_accuracy("onnxruntime", 80),)
    failed = _row("pytorch", status="failed", reason="why")
    nothing = _results(*(_row(name, status="unavailable", reason="no") for name in ("pytorch", "onnxruntime")))
    assert isinstance(gates.verdict(nothing, _asked(1)), BackendError)
    assert isinstance(gates.verdict(_results(failed, slow, accuracy=lost), _asked(1)), VerificationError)
    assert "failed: why" in str(gates.verdict(_results(failed, slow), _asked(1)))
    invalid = _results(_row(status="invalid", reason="noise"))
    assert "no row is valid; first: noise" in str(gates.verdict(invalid, _asked(1)))
    assert "0.50×" in str(gates.verdict(_results(_row("pytorch"), slow), _asked(1)))
