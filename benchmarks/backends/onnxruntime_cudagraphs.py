"""ONNX Runtime on CUDA by CUDA graphs: the kernels of one call are recorded once a shape and launched as one."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import backends
from benchmarks.exported import Exported
from benchmarks.matrix import Precision
from train.errors import BackendError

if TYPE_CHECKING:
    from slipway_runtime.sessions import Session


class OnnxRuntimeCudaGraphs:
    """`model.onnx` of one size on an NVIDIA GPU.

    ONNX Runtime records a graph only if each of its nodes runs on the GPU. Where sizes vary, nodes that compute shapes run on
    the CPU; so do a detector's, which depend on what was found.
    """

    name = "onnxruntime-cudagraphs"
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    baseline = False
    distributions = ("onnxruntime-gpu",)

    def artifact(self, exported: Exported, precision: Precision) -> tuple[Path, str]:
        """The graph."""
        return backends.graph(exported, precision)

    def open(self, exported: Exported, precision: Precision, device: str, threads: int) -> "Session":
        """The graph on the GPU, with buffers that stay where they are.

        Raises:
            BackendError: another device than "cuda".
            SessionError: this ONNX Runtime has no CUDA, it does not start, the graph's sizes vary, or a node of it would run
                elsewhere.
        """
        if device != "cuda":
            raise BackendError(f"{self.name} records CUDA kernels, the device is {device}; use DEVICE=cuda")
        path, _ = self.artifact(exported, precision)
        from slipway_runtime.sessions.onnxruntime import OnnxRuntimeSession

        session = OnnxRuntimeSession(path, device, threads, cuda_graphs=True)
        session.name = self.name
        return session


BACKEND = OnnxRuntimeCudaGraphs()
