"""ONNX Runtime on the bundle's graph, fp32."""

from pathlib import Path

from benchmarks.exported import Exported
from slipway_runtime.manifest import GRAPH_NAME
from slipway_runtime.sessions import Session


class OnnxRuntime:
    """`model.onnx`, opened as `slipway_runtime` opens it."""

    name = "onnxruntime"
    precision = "fp32"
    distributions = ("onnxruntime", "onnxruntime-gpu")

    def artifact(self, exported: Exported) -> tuple[Path, str]:
        """The graph."""
        return exported.experiment.bundle / GRAPH_NAME, exported.manifest.files[GRAPH_NAME]

    def open(self, exported: Exported, device: str, threads: int) -> Session:
        """The graph on the device, with `threads` threads inside an operator."""
        from slipway_runtime.sessions.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(self.artifact(exported)[0], device, threads)


BACKEND = OnnxRuntime()
