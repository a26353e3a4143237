"""`ort_infer`, the runtime in C++, on the bundle's graph."""

from pathlib import Path

from benchmarks import backends, native
from benchmarks.exported import Exported
from benchmarks.matrix import Precision


class OrtInfer:
    """`model.onnx`, from file to prediction without Python."""

    name = "ort_infer"
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    baseline = False
    distributions: tuple[str, ...] = ()

    def artifact(self, exported: Exported, precision: Precision) -> tuple[Path, str]:
        """The graph."""
        return backends.graph(exported, precision)

    def version(self) -> str | None:
        """The program's and its engine's; None where it is not built."""
        return native.version()

    def open(self, exported: Exported, precision: Precision, device: str, threads: int) -> native.Program:
        """The program, with `threads` threads inside an operator and as many that prepare images.

        Raises:
            BackendError: it is not built, or the device is not there.
        """
        return native.Program(exported.experiment.bundle, exported.manifest, device, threads, precision)


BACKEND = OrtInfer()
