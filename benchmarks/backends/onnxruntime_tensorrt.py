"""ONNX Runtime with its TensorRT execution provider: TensorRT builds engines of the graph's parts, CUDA computes the rest."""

import os
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import backends
from benchmarks.backends.tensorrt import PACKAGES
from benchmarks.exported import Exported
from benchmarks.matrix import Precision
from train.errors import BackendError

if TYPE_CHECKING:
    from slipway_runtime.sessions import Session


class OnnxRuntimeTensorRt:
    """`model.onnx` on an NVIDIA GPU. In fp16, TensorRT chooses what it computes in half precision.

    An engine is built for the shapes that come, while the timer warms up. There is no int8: the bundle's Q/DQ graph is made for
    CPUs, with zero points that TensorRT does not take, and the provider builds from no other; backend `tensorrt` has int8.
    """

    name = "onnxruntime-tensorrt"
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    baseline = False
    distributions = ("onnxruntime-gpu", *PACKAGES)

    def artifact(self, exported: Exported, precision: Precision) -> tuple[Path, str]:
        """The fp32 graph, of which TensorRT makes both."""
        return backends.graph(exported, "fp32")

    def open(self, exported: Exported, precision: Precision, device: str, threads: int) -> "Session":
        """The graph on the GPU. Engines and timings are kept as long as this process lives.

        Raises:
            BackendError: another device than "cuda".
            SessionError: this ONNX Runtime has no such provider, or it does not start.
        """
        if device != "cuda":
            raise BackendError(f"{self.name} computes on NVIDIA GPUs, the device is {device}; use DEVICE=cuda")
        # TensorRT's builder uses TF32 unless this says no, and the provider has no option for it (onnxruntime issues 6427 and
        # 26029). It is read once a process, which a cell's own is.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        if find_spec("tensorrt"):
            import_module("tensorrt")  # loads the libraries of its package, which the provider needs

        from slipway_runtime.sessions.onnxruntime import OnnxRuntimeSession

        self._cache = tempfile.TemporaryDirectory(prefix="tensorrt-")
        cache = self._cache.name
        options = {
            "trt_fp16_enable": str(int(precision == "fp16")),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": cache,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": cache,
        }
        path, _ = self.artifact(exported, precision)
        session = OnnxRuntimeSession(path, device, threads, ("TensorrtExecutionProvider", options))
        session.name = self.name
        return session


BACKEND = OnnxRuntimeTensorRt()
