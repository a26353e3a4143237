"""`ort_infer`, the runtime in C++, on the bundle's graph, fp32."""

from pathlib import Path

from benchmarks import native
from benchmarks.exported import Exported
from slipway_runtime.manifest import GRAPH_NAME


class OrtInfer:
    """`model.onnx`, from file to prediction without Python."""

    name = "ort_infer"
    precision = "fp32"
    distributions: tuple[str, ...] = ()

    def artifact(self, exported: Exported) -> tuple[Path, str]:
        """The graph."""
        return exported.experiment.bundle / GRAPH_NAME, exported.manifest.files[GRAPH_NAME]

    def version(self) -> str | None:
        """The program's and its engine's; None where it is not built."""
        return native.version()

    def open(self, exported: Exported, device: str, threads: int) -> native.Program:
        """The program, with `threads` threads inside an operator and as many that prepare images.

        Raises:
            BackendError: it is not built, or the device is not there.
        """
        return native.Program(exported.experiment.bundle, exported.manifest, device, threads)


BACKEND = OrtInfer()
