"""ONNX Runtime on the bundle's graph."""

from pathlib import Path

from benchmarks import backends
from benchmarks.exported import Exported
from benchmarks.matrix import Precision
from slipway_runtime.sessions import Session


class OnnxRuntime:
    """`model.onnx`, opened as `slipway_runtime` opens it."""

    name = "onnxruntime"
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    baseline = False
    distributions = ("onnxruntime", "onnxruntime-gpu")

    def artifact(self, exported: Exported, precision: Precision) -> tuple[Path, str]:
        """The graph."""
        return backends.graph(exported, precision)

    def open(self, exported: Exported, precision: Precision, device: str, threads: int) -> Session:
        """The graph on the device, with `threads` threads inside an operator."""
        from slipway_runtime.sessions.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(self.artifact(exported, precision)[0], device, threads)


BACKEND = OnnxRuntime()
