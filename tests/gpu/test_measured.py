"""Rows on a GPU: what each precision loses, ONNX Runtime on CUDA, PyTorch's recorded graphs, memory, energy and clocks.

`make test-gpu` runs all of it on an NVIDIA GPU; nothing else does. Beside it, marked alike: PyTorch's rungs
(tests/benchmarks/test_baselines.py), NVML, energy, telemetry and the environment, in their own files, and mmcv's operators.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import backends, exported, gates, matrix, run
from benchmarks.environment import ROOT
from deploy import export
from deploy.__main__ import main as deploy
from deploy.precision.calibration import add
from train import cli
from train.errors import VerificationError
from train.experiment import Experiment

pytestmark = pytest.mark.gpu
BRIEF = ["batch_sizes=[1]", "repetitions=1", "inputs=2", "timer={seconds: 0.3, window_ms: 50}"]


def cuda_onnxruntime() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider; install onnxruntime-gpu in its place")


@pytest.fixture
def static(digits_experiment: Experiment, tmp_path: Path) -> Experiment:
    """The tiny experiment with a graph of one size."""
    copy = Experiment(digits_experiment.name, tmp_path)
    shutil.copytree(digits_experiment.train, copy.train)
    export.export(copy, shape="static")
    return copy


def measure(experiment: Experiment, *sets: str, device: str = "cuda") -> Any:
    """`make bench DEVICE=cuda` in brief; the experiment's results."""
    asked = matrix.read(ROOT / "configs" / "bench" / "cuda.yaml", [*BRIEF, *sets])
    request = run.Request((experiment.name,), asked, work=experiment.work, device=device)
    ((results, _),) = run.run(request)
    return results


@pytest.mark.parametrize("which", ["digits_experiment", "scenes_experiment", "detector_experiment"])
def test_engines_keep_the_accuracy_of_their_precision(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """fp32 within 0.05 points of PyTorch, fp16 99.9 % of it, int8 99 %, or the gate says why not."""
    pytest.importorskip("tensorrt", reason="TensorRT is not installed; docs/gpu.md says how")
    whole: Experiment = request.getfixturevalue(which)
    copy = Experiment(whole.name, tmp_path / "work")
    shutil.copytree(whole.root, copy.root)
    precisions = ["fp32"]
    for precision in ("fp16", "int8"):
        try:
            add.add(copy, [precision], count=24)
            precisions.append(precision)
        except VerificationError as error:
            cli.say(f"{precision} is left out: {error}")  # the export's own gate: a barely trained network may waver
    arguments = [
        "engine",
        copy.name,
        "--work",
        str(copy.work),
        "--size",
        "32x32:96x96:256x256",
        "--precision",
        *precisions,
    ]
    assert cli.run(deploy, arguments) == 0
    found = measure(copy, f"backends={{pytorch: [fp32], tensorrt: [{', '.join(precisions)}]}}")
    assert {row.status for row in found.rows} == {"ok"}, [row.reason for row in found.rows if row.reason]
    made = gates.checks(found)
    assert len(made) == len(precisions)
    assert not [check.text for check in made if check.status == "fail"]


def test_the_whole_matrix_has_rows_and_each_says_why_where_it_has_no_numbers(digits_experiment: Experiment) -> None:
    found = measure(digits_experiment)
    assert {row.backend for row in found.rows} == set(found.matrix.backends)
    assert not [row.reason for row in found.rows if row.status == "failed"]
    assert all(row.reason for row in found.rows if row.status == "unavailable")
    eager = [row for row in found.rows if (row.backend, row.precision) == matrix.BASELINE]
    assert {row.status for row in eager} == {"ok"}
    assert all(row.peak_device_mib for row in eager)
    assert found.environment.gpus[0].cuda is not None
    assert any(sighting.gpu_mhz for trace in found.traces for sighting in trace.sightings)
    if found.environment.energy_source:
        assert all(row.energy_j_per_image is not None for row in eager if row.scenario == "stream")


def test_onnxruntime_on_cuda_answers_as_on_the_cpu_bound_or_not(digits_experiment: Experiment) -> None:
    cuda_onnxruntime()
    subject = exported.read(digits_experiment.work, digits_experiment.name)
    here, there = (backends.get("onnxruntime").open(subject, "fp32", device, 2) for device in ("cpu", "cuda"))
    _assert_alike(here, there, 2)


def test_recorded_graphs_of_onnxruntime_answer_as_the_cpu(static: Experiment) -> None:
    cuda_onnxruntime()
    subject = exported.read(static.work, static.name)
    here = backends.get("onnxruntime").open(subject, "fp32", "cpu", 2)
    recorded = backends.get("onnxruntime-cudagraphs").open(subject, "fp32", "cuda", 2)
    _assert_alike(here, recorded, 1)


def _assert_alike(here: Any, there: Any, batch: int) -> None:
    """By `run` and by bound calls that take turns: no answer is another input's."""
    (spec,) = there.inputs
    size = [edge if isinstance(edge, int) else 32 for edge in spec.shape[2:]]
    rng = np.random.default_rng(0)
    feeds = [{spec.name: rng.standard_normal((batch, 3, *size), np.float32)} for _ in range(3)]
    bound = [there.bind(each) for each in feeds]
    for each, call in [*zip(feeds, bound, strict=True)] * 2:
        call()
        wanted, found, ran = here.run(each), call.outputs(), there.run(each)
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(ran[name], array, rtol=1e-3, atol=1e-5)


def test_a_cell_without_memory_fails_alone_and_says_so(digits_experiment: Experiment) -> None:
    import torch

    free, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(free - (3 << 30), dtype=torch.uint8, device="cuda")
    found = measure(
        digits_experiment,
        "backends=[pytorch]",
        "shapes=[null, [4096, 4096]]",
        "batch_sizes=[16]",
        "scenarios=[stream]",
        "inputs=1",
    )
    del ballast
    torch.cuda.empty_cache()
    rows = {row.shape: row for row in found.rows}
    assert rows[None].status == "ok", rows[None].reason
    large = rows[(4096, 4096)]  # the images alone take 3 GiB
    assert large.status == "failed"
    assert "ran out of memory at batch 16" in str(large.reason)
