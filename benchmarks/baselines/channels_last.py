"""PyTorch eager with the channels of a pixel beside each other in memory (NHWC), which convolutions are faster in."""

from typing import TYPE_CHECKING

from numpy.typing import NDArray

from benchmarks.baselines.eager import Eager, PyTorchSession

if TYPE_CHECKING:
    from torch import Tensor


class ChannelsLastSession(PyTorchSession):
    """Weights and images in channels-last memory format. Images are rearranged where they are placed on the device."""

    def prepare(self) -> None:
        """The weights, once."""
        import torch

        self.reference.model.to(memory_format=torch.channels_last)

    def place(self, array: NDArray) -> "Tensor":
        """N×C×H×W as ever, strided as N×H×W×C."""
        import torch

        return super().place(array).contiguous(memory_format=torch.channels_last)


class ChannelsLast(Eager):
    """`pytorch` in the layout that its convolutions prefer."""

    name = "pytorch-channels-last"
    session = ChannelsLastSession


BACKEND = ChannelsLast()
