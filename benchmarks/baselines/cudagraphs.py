"""PyTorch by CUDA graphs: the kernels of one forward pass are recorded once a shape and launched as one."""

from typing import TYPE_CHECKING

from benchmarks.baselines.channels_last import ChannelsLastSession
from benchmarks.baselines.eager import Eager
from train.errors import BackendError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Passes before the recording, in which cuDNN chooses its algorithms (PyTorch's notes on CUDA semantics use three).
_WARM_UP = 3


class CudaGraphsSession(ChannelsLastSession):
    """One recording for each shape of images, which are copied, on the device, to where the recording reads them.

    What cannot be recorded, such as a copy to the host or a size that depends on values, PyTorch refuses.
    """

    once_a_shape = True

    def prepare(self) -> None:
        """Channels last, and no recordings yet."""
        super().prepare()
        self._recordings: dict[torch.Size, tuple[Tensor, torch.cuda.CUDAGraph, dict[str, Tensor]]] = {}

    def compute(self, images: "Tensor") -> "dict[str, Tensor]":
        """Outputs by name, which the next replay overwrites.

        Raises:
            BackendError: the forward pass of this model cannot be recorded.
        """
        if images.shape not in self._recordings:
            with self.refusals():
                self._record(images.clone())
        placed, graph, outputs = self._recordings[images.shape]
        placed.copy_(images)
        graph.replay()
        return outputs

    def _record(self, images: "Tensor") -> None:
        import torch

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                super().compute(images)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = super().compute(images)
        self._recordings[images.shape] = images, graph, outputs


class CudaGraphs(Eager):
    """`pytorch-channels-last`, recorded and replayed, on NVIDIA GPUs."""

    name = "pytorch-cudagraphs"
    session = CudaGraphsSession

    def check(self, device: str) -> None:
        """A CUDA device.

        Raises:
            BackendError: another device.
        """
        if device != "cuda":
            raise BackendError(f"{self.name} records CUDA kernels, the device is {device}; use DEVICE=cuda")


BACKEND = CudaGraphs()
