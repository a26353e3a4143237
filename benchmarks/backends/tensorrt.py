"""TensorRT on the plan that was built of the bundle's graph (`make engine-…`)."""

from pathlib import Path

from benchmarks.exported import Exported
from benchmarks.matrix import Precision
from slipway_runtime import cuda, plan
from slipway_runtime.errors import SessionError
from slipway_runtime.plan import PlanInfo
from slipway_runtime.sessions import Session
from train.errors import BackendError

#: TensorRT's packages have a name for each CUDA that they are built for, and its libraries are packages of their own.
PACKAGES = tuple(f"tensorrt{cuda}{part}" for cuda in ("", "-cu12", "-cu13") for part in ("", "-bindings", "-libs"))


class TensorRt:
    """The newest plan of a precision that fits this machine, opened as `slipway_runtime` opens it.

    Nothing is built here: without such a plan the row says how to build one.
    """

    name = "tensorrt"
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    baseline = False
    distributions: tuple[str, ...] = ("cuda-bindings", *PACKAGES)

    def artifact(self, exported: Exported, precision: Precision) -> tuple[Path, str]:
        """The plan. Neither it nor TensorRT's engine is loaded; the driver is asked which GPU this is.

        Raises:
            BackendError: no GPU, no TensorRT, or no plan for them.
        """
        path, info = self._plan(exported, precision)
        return path, info.plan_sha256

    def describe(self, exported: Exported, precision: Precision) -> str:
        """How the plan was built, in one line: of what, with which options, and what its layers compute in.

        Raises:
            BackendError: as `artifact`.
        """
        _, info = self._plan(exported, precision)
        options, machine = info.options, info.machine
        layers = ", ".join(f"{count} {name}" for name, count in sorted(info.layers.items())) or "unknown"
        shapes = "; ".join(f"{each.minimum} to {each.maximum}, best {each.optimum}" for each in options.profiles)
        return (
            f"TensorRT {machine.tensorrt}, CUDA {machine.cuda}; layers: {layers}; TF32 {'on' if options.tf32 else 'off'}; "
            f"optimisation level {options.optimization_level}; shapes {shapes}; built in {info.build_seconds:.1f} s "
            f"from {info.graph} {info.graph_sha256[:8]}"
        )

    def open(self, exported: Exported, precision: Precision, device: str, threads: int) -> Session:
        """The plan on the GPU.

        Raises:
            BackendError: another device than "cuda", or as `artifact`.
            SessionError, BundleError: the plan is not what its description says, or TensorRT does not take it.
        """
        if device != "cuda":
            raise BackendError(f"{self.name} computes on NVIDIA GPUs, the device is {device}; use DEVICE=cuda")
        path, _ = self._plan(exported, precision)
        from slipway_runtime.sessions.tensorrt import TensorRtSession

        return TensorRtSession(path, device, threads)

    @staticmethod
    def _plan(exported: Exported, precision: Precision) -> tuple[Path, PlanInfo]:
        try:
            return plan.find(exported.experiment.bundle, exported.manifest, precision, cuda.machine())
        except SessionError as error:
            raise BackendError(str(error))


BACKEND = TensorRt()
