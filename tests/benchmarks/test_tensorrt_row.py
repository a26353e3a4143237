"""Rows of GPUs: each says what this machine or this bundle lacks, none computes on something else."""

from pathlib import Path

import onnx
import pytest
from colour_bench import Bench
from trt_fixtures import playing
from trt_fixtures import write_plan as write_stand_in_plan

from benchmarks import backends, exported, gates, matrix
from benchmarks.environment import ROOT
from slipway_runtime import cuda, plan
from slipway_runtime.manifest import GRAPH_NAME
from slipway_runtime.plan import Machine, Options, PlanInfo, Profile
from train.errors import BackendError
from train.experiment import Experiment
from train.files import sha256

HERE = Machine(tensorrt="10.16.1.11", cuda="13.0", driver="13.0", gpu="NVIDIA H100", compute_capability="9.0")
ROWS = ["onnxruntime", "onnxruntime-cudagraphs", "onnxruntime-tensorrt", "tensorrt"]


def write_plan(experiment: Experiment, machine: Machine = HERE, precision: str = "fp32") -> Path:
    """A plan and what is said of it, in the experiment's bundle; its content is none that TensorRT would take."""
    subject = exported.read(experiment.work, experiment.name)
    shape = (1, 3, 8, 8)
    options = Options(precision=precision, profiles=(Profile(minimum=shape, optimum=shape, maximum=shape),))  # type: ignore[arg-type]
    graph = subject.manifest.files[GRAPH_NAME]
    key = plan.key_of(graph, options, machine, 1)
    path = plan.path_of(experiment.bundle, precision, key)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"a plan")
    info = PlanInfo(
        key=key,
        plan_sha256="0" * 64,
        graph=GRAPH_NAME,
        graph_sha256=graph,
        machine=machine,
        options=options,
        inputs=subject.manifest.inputs,
        outputs=subject.manifest.outputs,
        layers={"fp16": 2, "fp32": 1},
        build_seconds=1.25,
    )
    plan.sidecar(path).write_text(info.to_json())
    return path


def row(experiment: Experiment) -> tuple[backends.Backend, exported.Exported]:
    return backends.get("tensorrt"), exported.read(experiment.work, experiment.name)


def test_the_row_is_of_the_plan_that_fits(colours: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "machine", lambda: HERE)
    fits = write_plan(colours)
    write_plan(colours, HERE.model_copy(update={"gpu": "NVIDIA A100", "compute_capability": "8.0"}))
    backend, subject = row(colours)
    assert backend.artifact(subject, "fp32") == (fits, "0" * 64)
    assert (
        backend.describe(subject, "fp32")
        == (  # type: ignore[attr-defined]
            "TensorRT 10.16.1.11, CUDA 13.0; layers: 2 fp16, 1 fp32; TF32 off; optimisation level 3; shapes (1, 3, 8, 8) to "
            f"(1, 3, 8, 8), best (1, 3, 8, 8); built in 1.2 s from model.onnx {subject.manifest.files[GRAPH_NAME][:8]}"
        )
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tensorrt": "11.4.0.106"}, "built with TensorRT 11.4.0.106, here is 10.16.1.11"),
        ({"gpu": "NVIDIA A100", "compute_capability": "8.0"}, "built for NVIDIA A100"),
        (None, "no TensorRT plan in fp32 for this machine; build one"),
    ],
)
def test_a_plan_of_another_machine_is_none(
    colours: Experiment, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str] | None, reason: str
) -> None:
    monkeypatch.setattr(cuda, "machine", lambda: HERE)
    if changed is not None:
        write_plan(colours, HERE.model_copy(update=changed))
    backend, subject = row(colours)
    for ask in (backend.artifact, lambda *which: backend.open(*which, "cuda", 1)):
        with pytest.raises(BackendError) as caught:
            ask(subject, "fp32")
        assert reason in str(caught.value)
        assert "`make engine-cls EXP=cls/colours PRECISION=fp32`" in str(caught.value)


def test_plans_of_a_precision_are_not_another_s(colours: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "machine", lambda: HERE)
    write_plan(colours, precision="fp16")
    backend, subject = row(colours)
    with pytest.raises(BackendError, match="no TensorRT plan in fp32"):
        backend.artifact(subject, "fp32")


@pytest.mark.parametrize("name", [name for name in ROWS if name != "onnxruntime"])
def test_on_the_cpu_they_are_unavailable(colours: Experiment, name: str) -> None:
    subject = exported.read(colours.work, colours.name)
    with pytest.raises(BackendError, match=f"^{name} .* device is cpu; use DEVICE=cuda$"):
        backends.get(name).open(subject, "fp32", "cpu", 1)


def test_without_a_gpu_every_row_says_so_and_none_is_measured(colours: Experiment, bench: Bench) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    code, found = bench(colours, f"backends=[{', '.join(ROWS)}]", arguments=["--device", "cuda"])
    assert code == 4, "nothing could be measured"
    reasons = {each["backend"]: (each["status"], each["reason"]) for each in found["rows"]}
    assert {status for status, _ in reasons.values()} == {"unavailable"}
    assert "needs CUDAExecutionProvider" in reasons["onnxruntime"][1]
    assert "needs CUDAExecutionProvider" in reasons["onnxruntime-cudagraphs"][1]
    assert "needs TensorrtExecutionProvider" in reasons["onnxruntime-tensorrt"][1]
    assert "driver" in reasons["tensorrt"][1]
    assert found["accuracy"] == []


def test_the_gpus_matrix_and_gates_are_valid() -> None:
    folder = ROOT / "configs" / "bench"
    asked = matrix.read(folder / "cuda.yaml")
    for name, precision in asked.engines:
        backends.check(name, precision)
    assert {("tensorrt", "int8"), ("pytorch-cudagraphs", "fp16"), matrix.BASELINE} <= set(asked.engines)
    for limit in gates.read(folder / "gpu_gates.yaml").speed:
        assert (limit.backend, limit.precision) in asked.engines
        assert limit.batch in asked.batch_sizes


def test_the_row_is_measured_and_accuracy_is_counted_with_the_plan(
    colours: Experiment, bench: Bench, tmp_path: Path
) -> None:
    model = onnx.load(colours.bundle / GRAPH_NAME)
    with playing() as trt:
        path = plan.path_of(colours.bundle, "fp32", "0" * 64)
        write_stand_in_plan(trt, model, path, [[(1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8)]])
        info = plan.read(path).model_copy(update={"graph_sha256": sha256(colours.bundle / GRAPH_NAME)})
        plan.sidecar(path).write_text(info.to_json())
        code, found = bench(
            colours,
            "backends={onnxruntime: [fp32], tensorrt: [fp32, fp16]}",
            "batch_sizes=[2, 8]",
            "accuracy_batch_size=4",
            arguments=["--device", "cuda"],
        )
    assert code == 0, found
    rows = {(each["backend"], each["precision"], each["batch"]): each for each in found["rows"]}
    assert rows.pop(("tensorrt", "fp32", 2))["status"] == "ok"
    assert {each["status"] for each in rows.values()} == {"unavailable"}, "nothing falls back"
    assert "the plan takes 1 to 4 images at once" in rows["tensorrt", "fp32", 8]["reason"]
    measured = [each for each in found["rows"] if each["status"] == "ok"]
    assert {each["boundary"] for each in measured} == {"model", "host", "e2e"}
    assert {each["artifact_sha256"] for each in measured} == {sha256(path)}
    (accuracy,) = found["accuracy"]
    assert accuracy["values"]["top1_percent"] == pytest.approx(100 * 8 / 9), "one of nine labels is wrong"
    text = (colours.bench / "results.jsonl").read_text()
    assert '"built":"TensorRT 10.16.1.11, CUDA ' in text
    assert "- tensorrt fp32: TensorRT 10.16.1.11, CUDA " in (colours.bench / "report.md").read_text()
    assert "(TensorRT 10.16.1.11, CUDA " in (colours.bench / "report.html").read_text()
