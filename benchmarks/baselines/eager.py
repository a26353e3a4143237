"""PyTorch eager: the unpatched model, as the same function the graph computes."""

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
    from deploy.reference import Reference


class PyTorchSession(Session):
    """A reference model behind the session interface.

    Args:
        reference: images N×C×H×W on the device → outputs by name, on the device.
        device: "cpu" or "cuda".
        inputs: the graph's inputs; there must be one.
        outputs: the graph's outputs.
    """

    name = "pytorch"

    def __init__(
        self, reference: "Reference", device: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        super().__init__(inputs, outputs)
        self.reference = reference
        self.device = device
        (self._image,) = (spec.name for spec in self.inputs)

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        import torch

        outputs = self.reference(torch.from_numpy(feeds[self._image]).to(self.device))
        return {spec.name: outputs[spec.name].cpu().numpy() for spec in self.outputs}

    def native(self, paths: Sequence[Path]) -> Iterator[Any] | None:
        """Predictions of the model's own package, which may know more than the graph does; None where that is nothing."""
        task = self.reference.task
        if not hasattr(task, "native"):
            return None
        return (task.native(sample) for _, sample in self.reference.samples(paths, native=True))

    def _bind(self, feeds: Feeds) -> Bound:
        return _Bound(self, feeds)


class _Bound(Bound):
    def __init__(self, session: PyTorchSession, feeds: Feeds) -> None:
        super().__init__(session)
        import torch

        (array,) = feeds.values()
        self._images = torch.from_numpy(array).to(session.device)
        self._reference = session.reference
        self._finish = torch.cuda.synchronize if session.device == "cuda" else _nothing

    def _compute(self) -> Any:
        outputs = self._reference(self._images)
        self._finish()
        return outputs

    def _fetch(self, outputs: Any) -> dict[str, NDArray]:
        return {spec.name: outputs[spec.name].cpu().numpy() for spec in self._session.outputs}


class Eager:
    """`torch` as it comes, in true fp32 (no TF32), as the other fp32 rows compute."""

    name = "pytorch"
    precisions: tuple[Precision, ...] = ("fp32",)
    baseline = True
    distributions = ("torch", "torchvision", "mmengine", "mmcv-lite")

    def artifact(self, exported: Exported, precision: Precision) -> tuple[Path, str]:
        """The checkpoint."""
        return exported.experiment.checkpoint, exported.record.checkpoint_sha256

    def open(self, exported: Exported, precision: Precision, device: str, threads: int) -> PyTorchSession:
        """The unpatched model on the device, with `threads` threads inside an operator.

        Raises:
            BackendError: no torch, or no CUDA device for it.
        """
        if find_spec("torch") is None:
            raise BackendError("backend 'pytorch' needs torch, which is not installed; run `make setup`")
        import torch

        from deploy import reference

        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError(f"torch {torch.__version__} finds no CUDA device; check nvidia-smi, or use DEVICE=cpu")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.set_num_threads(threads)
        experiment = exported.experiment
        model = reference.load(experiment.config, experiment.checkpoint, exported.manifest.postprocess, device)
        return PyTorchSession(model, device, exported.manifest.inputs, exported.manifest.outputs)


def _nothing() -> None:
    """A CPU tensor is finished when the call returns."""


BACKEND = Eager()
