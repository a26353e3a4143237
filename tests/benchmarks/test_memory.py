"""Memory that runs out: a real cell under a real limit, the words of every library, and what the kernel counts."""

import shlex
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from colour_bench import NAME, Bench
from onnx import helper, numpy_helper

from benchmarks import journal, memory
from benchmarks.journal import Cell
from benchmarks.outcome import Spec
from benchmarks.timing import TimerSettings
from slipway_runtime.manifest import FILE_NAME, GRAPH_NAME
from train.experiment import Experiment
from train.files import sha256

#: Address space of a cell's process in KiB: plenty for one image of the graph below, not for eight.
LIMIT_KIB = 12 << 20


def _write_hungry_graph(experiment: Experiment) -> None:
    """Put a branch beside the graph that takes 8 MiB at batch 1 and 32 GiB at batch 8, batch⁴."""
    graph_file, manifest_file = experiment.bundle / GRAPH_NAME, experiment.bundle / FILE_NAME
    before = sha256(graph_file)
    model = onnx.load(graph_file)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1 << 21], np.int64), "most"))
    graph.node.remove(next(node for node in graph.node if node.output[0] == "scores"))
    graph.node.extend(
        [
            helper.make_node("Shape", ["image"], ["shape"], start=0, end=1),
            helper.make_node("Concat", ["shape", "shape", "shape", "shape", "most"], ["hungry_shape"], axis=0),
            helper.make_node("ConstantOfShape", ["hungry_shape"], ["hungry"]),
            helper.make_node("ReduceMax", ["hungry"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["logits", "nothing"], ["sum"]),
            helper.make_node("Softmax", ["sum"], ["scores"]),
        ]
    )
    onnx.save(model, graph_file)
    manifest_file.write_text(manifest_file.read_text().replace(before, sha256(graph_file)))


def _limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells run under a limit of address space (RLIMIT_AS)."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nulimit -v {LIMIT_KIB}\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def test_a_cell_that_runs_out_of_memory_says_so_and_fails_alone(
    colours: Experiment, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_hungry_graph(colours)
    _limit(tmp_path, monkeypatch)
    code, found = bench(colours, "batch_sizes=[1, 8]", "boundaries=[model]", "accuracy_batch_size=1")
    assert code == 6
    status = {row["batch"]: row["status"] for row in found["rows"]}
    assert status == {1: "ok", 8: "failed"}
    reason = next(row["reason"] for row in found["rows"] if row["batch"] == 8)
    assert reason.startswith("ran out of memory at batch 8, which was not shrunk; choose smaller batch_sizes, shapes")
    assert "\n" not in reason


def _spec(**fields: object) -> Spec:
    settings = {
        "work": Path(),
        "experiment": NAME,
        "backend": "onnxruntime",
        "precision": "fp32",
        "device": "cpu",
        "batch": 8,
        "repetition": 0,
        "boundaries": ("model",),
        "inputs": 1,
        "threads": 1,
        "seed": 0,
        "timer": TimerSettings(),
    }
    return Spec.model_validate({**settings, **fields})


@pytest.mark.parametrize(
    "reason",
    [
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3.20 GiB for an array",
        "the process was killed by SIGABRT; it last said: what():  std::bad_alloc",
        "onnxruntime: the graph failed on this input: Failed to allocate memory for requested buffer of size 34359738368",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB",
        "CUDA failure 2: out of memory ; GPU=0",
        "cudaErrorMemoryAllocation",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "OSError: [Errno 12] Cannot allocate memory",
        "(-4:Insufficient memory) Failed to allocate 49152000000 bytes in function 'OutOfMemoryError'",
    ],
)
def test_what_libraries_say_when_memory_is_short(reason: str) -> None:
    explained = memory.explain(reason, _spec(), 0, 0)
    assert explained is not None
    assert explained.startswith("ran out of memory at batch 8, which was not shrunk")
    assert reason in explained


@pytest.mark.parametrize("reason", ["no such graph", "the process was killed by SIGSEGV", "exited with 9", None])
def test_other_failures_keep_their_reason(reason: str | None) -> None:
    assert memory.explain(reason, _spec(), 0, 1) is None


def test_the_kernels_kill_is_told_from_other_kills(tmp_path: Path) -> None:
    reason = "the process was killed by SIGKILL"
    assert memory.explain(reason, _spec(), 4, 4) is None, "someone's kill -9"
    assert memory.explain(reason, _spec(), None, None) is None, "nothing tells"
    assert "Linux killed it" in (memory.explain(reason, _spec(accuracy_batch_size=32), 4, 5) or "")
    vmstat = tmp_path / "vmstat"
    assert memory.oom_kills(vmstat) is None
    vmstat.write_text("nr_free_pages 4012\npgmajfault 93\noom_kill 5\ndrop_pagecache 0\n")
    assert memory.oom_kills(vmstat) == 5
    vmstat.write_text("nr_free_pages 4012\n")
    assert memory.oom_kills(vmstat) is None


def test_a_cells_trace_is_stored(colours: Experiment, bench: Bench) -> None:
    bench(colours, "boundaries=[model]")
    (cell,) = [each for each in journal.read(colours.bench / journal.FILE_NAME) if isinstance(each, Cell)]
    assert cell.trace is not None
    assert cell.trace.cell == cell.key
    assert cell.trace.sightings
    assert cell.outcome.timed_until_s is not None
    assert cell.outcome.timed_until_s > cell.trace.started_s
    assert cell.outcome.peak_device_mib is None, "there is none on the CPU"
