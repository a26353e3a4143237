"""PyTorch eager: the unpatched model, as the same function the graph computes. The other rungs build on this one."""

import contextlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from benchmarks.exported import Exported
from benchmarks.matrix import Precision
from slipway_runtime.manifest import TensorSpec
from slipway_runtime.sessions import Bound, Feeds, Session
from train.errors import BackendError

if TYPE_CHECKING:
    from torch import Tensor

    from deploy.reference import Reference

_AUTOCAST: dict[Precision, str] = {"bf16": "bfloat16", "fp16": "float16"}


class PyTorchSession(Session):
    """A reference model behind the session interface. A rung overrides `prepare`, `place`, `forward` or `compute`.

    Args:
        reference: images N×C×H×W on the device → outputs by name, on the device.
        device: "cpu" or "cuda".
        inputs: the graph's inputs; there must be one.
        outputs: the graph's outputs.
        precision: "fp32", or what `torch.autocast` lowers operators to. Inputs and outputs are float32 in any case.
        name: the rung's.

    Attributes:
        once_a_shape: the first pass of each shape of images does more than the others: `bind` does that one.
    """

    once_a_shape = False

    def __init__(
        self,
        reference: "Reference",
        device: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        precision: Precision = "fp32",
        name: str = "pytorch",
    ) -> None:
        super().__init__(inputs, outputs)
        self.name = name
        self.reference = reference
        self.device = device
        self.precision = precision
        self._passed: set[tuple[int, ...]] = set()
        (self._image,) = (spec.name for spec in self.inputs)
        self.prepare()

    def prepare(self) -> None:
        """What a rung does to the model, once."""

    def place(self, array: NDArray) -> "Tensor":
        """A host array as a tensor on the device."""
        import torch

        return torch.from_numpy(array).to(self.device)

    def forward(self, images: "Tensor") -> "dict[str, Tensor]":
        """Outputs by name, on the device, perhaps not finished and not float32."""
        return self.reference(images)

    def compute(self, images: "Tensor") -> "dict[str, Tensor]":
        """Outputs by name, on the device, perhaps not finished.

        Raises:
            BackendError: PyTorch cannot compute this model in this precision, or in this rung's way, on this device.
        """
        import torch

        if self.precision == "fp32":
            return self.forward(images)
        with self.refusals(), torch.autocast(self.device, dtype=getattr(torch, _AUTOCAST[self.precision])):
            outputs = self.forward(images)
        return {name: each.float() if each.is_floating_point() else each for name, each in outputs.items()}

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """What PyTorch refuses is not there on this machine, or not for this model: `BackendError` in one line."""
        try:
            yield
        except BackendError:
            raise
        # Compilers and kernels raise what they like, from NotImplementedError to AssertionError.
        except Exception as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
            raise BackendError(
                f"{self.name} cannot run this model in {self.precision} on {self.device}: "
                f"{type(error).__name__}: {reason[:240]}"
            ) from error

    def native(self, paths: Sequence[Path]) -> Iterator[Any] | None:
        """Predictions of the model's own package, which may know more than the graph does; None where that is nothing."""
        task = self.reference.task
        if not hasattr(task, "native"):
            return None
        return (task.native(sample) for _, sample in self.reference.samples(paths, native=True))

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        return self.fetch(self.compute(self.place(feeds[self._image])))

    def _bind(self, feeds: Feeds) -> Bound:
        images = self.place(feeds[self._image])
        if self.once_a_shape and images.shape not in self._passed:
            self.compute(images)
            self._passed.add(images.shape)
        return _Bound(self, images)

    def fetch(self, outputs: "dict[str, Tensor]") -> dict[str, NDArray]:
        """Outputs as host arrays."""
        return {spec.name: outputs[spec.name].cpu().numpy() for spec in self.outputs}


class _Bound(Bound):
    def __init__(self, session: PyTorchSession, images: "Tensor") -> None:
        import torch

        super().__init__(session)
        self._images = images
        self._pytorch = session
        self._finish = torch.cuda.synchronize if session.device == "cuda" else _nothing

    def _compute(self) -> Any:
        outputs = self._pytorch.compute(self._images)
        self._finish()
        return outputs

    def _fetch(self, outputs: Any) -> dict[str, NDArray]:
        return self._pytorch.fetch(outputs)


class Eager:
    """`torch` as it comes, in true fp32 (no TF32), as the other fp32 rows compute, or in lower precision by autocast.

    `session` makes the rung's session; the other rungs have their own.
    """

    name = "pytorch"
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
    baseline = True
    distributions: tuple[str, ...] = ("torch", "torchvision", "mmengine", "mmcv-lite")
    session: type[PyTorchSession] = PyTorchSession

    def artifact(self, exported: Exported, precision: Precision) -> tuple[Path, str]:
        """The checkpoint."""
        return exported.experiment.checkpoint, exported.record.checkpoint_sha256

    def open(self, exported: Exported, precision: Precision, device: str, threads: int) -> PyTorchSession:
        """The unpatched model on the device, with `threads` threads inside an operator.

        Raises:
            BackendError: no torch, no CUDA device for it, or nothing that this rung needs besides.
        """
        if find_spec("torch") is None:
            raise BackendError(f"backend '{self.name}' needs torch, which is not installed; run `make setup`")
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError(f"torch {torch.__version__} finds no CUDA device; check nvidia-smi, or use DEVICE=cpu")
        self.check(device)
        from deploy import reference

        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.set_num_threads(threads)
        experiment = exported.experiment
        model = reference.load(experiment.config, experiment.checkpoint, exported.manifest.postprocess, device)
        inputs, outputs = exported.manifest.inputs, exported.manifest.outputs
        return self.session(model, device, inputs, outputs, precision, self.name)

    def check(self, device: str) -> None:
        """What a rung needs besides torch.

        Raises:
            BackendError: it is not there.
        """


def _nothing() -> None:
    """A CPU tensor is finished when the call returns."""


BACKEND = Eager()
