"""PyTorch compiled: `torch.compile` with Inductor, weights frozen into the code, channels last."""

from typing import TYPE_CHECKING

from benchmarks.baselines.channels_last import ChannelsLastSession
from benchmarks.baselines.eager import Eager
from train.errors import BackendError

if TYPE_CHECKING:
    from torch import Tensor

#: Shapes that one function may be compiled for. Beyond them PyTorch would go on uncompiled; here it refuses.
_RECOMPILE_LIMIT = 64


class CompiledSession(ChannelsLastSession):
    """The forward pass compiled: for the first shape alone, from the second on for any size (PyTorch's own rule).

    A detector's maps are compiled, what is found in them is not: its sizes differ from image to image, and each new one
    could compile again inside a timed call.
    """

    once_a_shape = True

    def prepare(self) -> None:
        """Channels last; nothing is compiled before the first images come."""
        import torch
        from torch._dynamo import config

        super().prepare()
        config.recompile_limit = _RECOMPILE_LIMIT
        config.fail_on_recompile_limit_hit = True  # else: uncompiled, under a compiled row's name
        model, task, postprocess = self.reference.model, self.reference.task, self.reference.postprocess
        for module in model.modules():
            if hasattr(module, "predict_by_feat"):
                module.predict_by_feat = torch.compiler.disable(module.predict_by_feat)
        # Freezing folds batch normalisation and packs weights, as ONNX Runtime does when it opens a graph.
        self._compiled = torch.compile(
            lambda images: task.forward(model, images, postprocess), options={"freezing": True}
        )

    def forward(self, images: "Tensor") -> "dict[str, Tensor]":
        """The compiled function; the first call of a shape may compile.

        Raises:
            BackendError: the compiler refuses the model.
        """
        import torch

        with self.refusals(), torch.no_grad():  # freezing wants no gradients
            outputs: dict[str, Tensor] = self._compiled(images)
        return outputs


class Compiled(Eager):
    """`pytorch-channels-last` through `torch.compile`."""

    name = "pytorch-compile"
    session = CompiledSession

    def check(self, device: str) -> None:
        """For the CPU, Inductor writes C++.

        Raises:
            BackendError: no C++ compiler.
        """
        if device != "cpu":
            return
        from torch._inductor import config
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            tried = ", ".join(filter(None, config.cpp.cxx))
            raise BackendError(
                f"{self.name} needs a C++ compiler for Inductor, '{tried}' is none; install g++ or set CXX"
            )


BACKEND = Compiled()
