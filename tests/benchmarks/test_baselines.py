"""The PyTorch ladder: every rung gives eager's answers, or says in one line why it is not there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import backends, cell, exported
from benchmarks.baselines.eager import PyTorchSession
from benchmarks.matrix import Precision
from benchmarks.outcome import Outcome, Spec
from benchmarks.timing import TimerSettings
from train.errors import BackendError
from train.experiment import Experiment

RUNGS = ["pytorch-channels-last", "pytorch-compile", "pytorch-cudagraphs"]


def open_rung(experiment: Experiment, name: str, precision: Precision = "fp32", device: str = "cpu") -> Any:
    subject = exported.read(experiment.work, experiment.name)
    return backends.check(name, precision).open(subject, precision, device, 1)


def feeds(session: PyTorchSession, batch: int = 2, size: int = 32) -> dict[str, Any]:
    images = np.random.default_rng(size).standard_normal((batch, 3, size, size), np.float32)
    return {session.inputs[0].name: images}


def assert_like_eager(experiment: Experiment, session: Any, tolerance: float = 1e-4, size: int = 32) -> float:
    """`run` and a bound call agree with eager's; the largest difference."""
    eager = open_rung(experiment, "pytorch")
    given = feeds(session, size=size)
    wanted, ran = eager.run(given), session.run(given)
    bound = session.bind(given)
    bound()
    found = bound.outputs()
    for name, array in wanted.items():
        assert ran[name].dtype == found[name].dtype == array.dtype
        np.testing.assert_allclose(ran[name], array, atol=tolerance, rtol=tolerance)
        np.testing.assert_allclose(found[name], ran[name], atol=1e-6)
    return max(float(np.abs(ran[name] - array).max()) for name, array in wanted.items())


def test_rungs_are_baselines_in_every_precision_of_autocast() -> None:
    for name in ["pytorch", *RUNGS]:
        assert backends.get(name).baseline
        assert backends.get(name).precisions == ("fp32", "bf16", "fp16")


def test_channels_last_answers_as_eager(digits_experiment: Experiment) -> None:
    session = open_rung(digits_experiment, "pytorch-channels-last")
    assert session.place(np.zeros((1, 3, 4, 5), np.float32)).stride() == (60, 1, 15, 3)
    assert_like_eager(digits_experiment, session)


def test_channels_last_answers_as_eager_in_a_detector(detector_experiment: Experiment) -> None:
    eager, session = (open_rung(detector_experiment, name) for name in ("pytorch", "pytorch-channels-last"))
    given = feeds(session, size=64)
    wanted, found = eager.run(given), session.run(given)
    np.testing.assert_allclose(found["dets"], wanted["dets"], atol=1e-3)


def test_autocast_lowers_the_arithmetic_and_not_the_outputs(digits_experiment: Experiment) -> None:
    session = open_rung(digits_experiment, "pytorch", "bf16")
    assert assert_like_eager(digits_experiment, session, tolerance=0.1) > 0  # else nothing was lowered


@pytest.mark.parametrize("refusal", [RuntimeError('"op" not implemented for Half\nmore'), NotImplementedError("")])
def test_a_precision_that_torch_refuses_is_unavailable(digits_experiment: Experiment, refusal: Exception) -> None:
    session = open_rung(digits_experiment, "pytorch", "fp16")

    def refuse(images: Any) -> Any:
        raise refusal

    session.reference = refuse
    with pytest.raises(BackendError, match=r"^pytorch cannot run this model in fp16 on cpu: .+$") as caught:
        session.run(feeds(session))
    assert "\n" not in str(caught.value)


def test_a_refusal_of_the_first_images_makes_an_unavailable_cell(
    digits_experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(session: PyTorchSession, images: Any) -> Any:
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(PyTorchSession, "forward", refuse)
    fields = {"backend": "pytorch", "precision": "fp16", "device": "cpu", "batch": 1, "repetition": 0, "inputs": 1}
    fields |= {"experiment": digits_experiment.name, "boundaries": ["host"], "threads": 1, "seed": 0}
    spec = Spec(work=digits_experiment.work, timer=TimerSettings(), **fields)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    assert cell.main([str(tmp_path / "spec.json"), str(tmp_path / "outcome.json")]) == 0
    outcome = Outcome.model_validate_json((tmp_path / "outcome.json").read_text())
    assert outcome.status == "unavailable"
    assert str(outcome.reason).endswith("RuntimeError: not implemented for 'Half'")


def test_control_an_error_of_eager_fp32_is_no_refusal(digits_experiment: Experiment) -> None:
    session = open_rung(digits_experiment, "pytorch")
    with pytest.raises(RuntimeError, match="expected input"):
        session.compute(session.place(np.zeros((1, 5, 32, 32), np.float32)))


@pytest.mark.slow
def test_compiled_answers_as_eager_at_every_size_and_compiles_in_bind_alone(digits_experiment: Experiment) -> None:
    from torch._dynamo.utils import counters

    session = open_rung(digits_experiment, "pytorch-compile")
    assert_like_eager(digits_experiment, session)
    assert_like_eager(digits_experiment, session, size=48)
    bound = session.bind(feeds(session, size=40))
    compiled = counters["stats"]["unique_graphs"]
    assert compiled > 0
    bound()
    session.run(feeds(session, size=40))
    assert counters["stats"]["unique_graphs"] == compiled


def test_a_model_that_cannot_be_compiled_is_unavailable(digits_experiment: Experiment) -> None:
    session = open_rung(digits_experiment, "pytorch-compile")

    def compiler(images: Any) -> Any:
        raise AssertionError("Unsupported: something\n\nfrom user code:\n ...")

    session._compiled = compiler
    with pytest.raises(
        BackendError, match=r"^pytorch-compile cannot run this .*: AssertionError: Unsupported: something$"
    ):
        session.bind(feeds(session))


def test_no_compiler_is_named(digits_experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config, cpp_builder

    cpp_builder.cpp_compiler_search.cache_clear()
    with config.patch({"cpp.cxx": (None, "no-such-compiler")}), pytest.raises(BackendError, match="no-such-compiler"):
        open_rung(digits_experiment, "pytorch-compile")
    cpp_builder.cpp_compiler_search.cache_clear()


@pytest.mark.parametrize("name", ["pytorch-cudagraphs", "onnxruntime-tensorrt"])
def test_rows_of_gpus_are_unavailable_elsewhere(digits_experiment: Experiment, name: str) -> None:
    with pytest.raises(BackendError, match=f"^{name} .* device is cpu; use DEVICE=cuda$"):
        open_rung(digits_experiment, name)


def test_a_missing_provider_names_those_found(digits_experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    ort = pytest.importorskip("onnxruntime")
    from slipway_runtime.errors import SessionError

    if "TensorrtExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has the provider")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(
        SessionError, match=r"needs TensorrtExecutionProvider, this onnxruntime has .*CPUExecutionProvider"
    ):
        open_rung(digits_experiment, "onnxruntime-tensorrt", "fp16", "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("name", RUNGS)
def test_rungs_answer_as_eager_on_the_gpu(digits_experiment: Experiment, name: str) -> None:
    session = open_rung(digits_experiment, name, device="cuda")
    assert_like_eager(digits_experiment, session)
    assert_like_eager(digits_experiment, session, size=48)
