"""The reference: the unpatched PyTorch model, outside every patch context. Parity and the benchmark's baseline use it."""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from deploy import tasks
from slipway_runtime.manifest import Postprocess
from slipway_runtime.preprocess import plain_opencv
from train import checkpoint, compat
from train import config as configs
from train.errors import InputError
from train.runner import build_model


class Reference:
    """A model as its package made it, with the outputs that the exported graph has.

    Args:
        config: a resolved config, as training writes it.
        checkpoint_path: its weights; every key must match.
        postprocess: what is done with the outputs; it decides which they are.
        device: "cpu" or "cuda".
    """

    def __init__(self, config: Config, checkpoint_path: Path, postprocess: Postprocess, device: str = "cpu") -> None:
        compat.use(config.default_scope)
        self.config = config
        self.postprocess = postprocess
        self.task = tasks.find(config)
        self.model = build_model(config)
        checkpoint.load_into(self.model, checkpoint_path)
        self.model.to(device).eval()
        self.device = device
        self._double: Any = None

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """N×3×H×W float32 on the device → outputs by name: the function the graph computes."""
        outputs: dict[str, Tensor] = self.task.forward(self.model, images, self.postprocess)
        return outputs

    @torch.inference_mode()
    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """The same outputs out of the model's own `predict`.

        Raises:
            InputError: a size that the model refuses.
        """
        with _size_named(images, "an image"):
            outputs: dict[str, Tensor] = self.task.predict(self.model, images, self.postprocess)
        return outputs

    @torch.inference_mode()
    def exact(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs in float64: how far float32 rounds can be told from it."""
        if self._double is None:
            self._double = copy.deepcopy(self.model).double()
        with _SampledInOneType():
            outputs: dict[str, Tensor] = self.task.forward(self._double, images.double(), self.postprocess)
        return outputs

    def graph_input(self, path: Path) -> Tensor:
        """What goes through the graph of an image file at one time, 3×H×W.

        Raises:
            InputError: a size that the model refuses.
        """
        image = next(self.samples([path]))[0]
        sample: Tensor = self.task.sample(image, self.postprocess)
        return sample

    @torch.inference_mode()
    def samples(self, paths: Sequence[Path], *, native: bool = False) -> Iterator[tuple[Tensor, Any]]:
        """Each image as the model's package sees it: prepared, 3×H×W, and with its final prediction, a data sample.

        `native`: the model may use what the graph does not know, such as where the padding begins.
        """
        from mmengine.dataset import Compose, pseudo_collate

        # Annotations are the evaluator's business: the images may have none.
        steps = [step for step in configs.test_pipeline(self.config) if step["type"] != "LoadAnnotations"]
        compat.use(self.config.default_scope)  # another task's model may have been built since
        pipeline = Compose(steps)
        for path in paths:
            with plain_opencv():
                packed = pseudo_collate([pipeline(dict(img_path=str(path)))])
            prepared = self.model.data_preprocessor(packed, training=False)
            if not native:
                self.task.policy(prepared["data_samples"][0])
            with _size_named(prepared["inputs"], path.name):
                (sample,) = self.model(**prepared, mode="predict")
            yield prepared["inputs"][0], sample


class _SampledInOneType(TorchFunctionMode):
    """Lets float64 maps be sampled at float32 places: PointRend's have that type whatever the model's is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.grid_sample:
            args = (args[0], args[1].to(args[0]), *args[2:])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _size_named(images: Tensor, what: str) -> Iterator[None]:
    """Turn a model's refusal of its input into an error for the user."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        height, width = images.shape[2:]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the model refuses {what} of {width}×{height} after the test pipeline: {reason}; give it larger images, a "
            "Resize in the test pipeline, or sizes it can divide (data_preprocessor.test_cfg.size_divisor)"
        ) from None


def load(config: Path, checkpoint_path: Path, postprocess: Postprocess, device: str = "cpu") -> Reference:
    """Read a resolved config and build the reference from it."""
    resolved = configs.read(config)
    configs.activate(resolved, config)
    return Reference(resolved, checkpoint_path, postprocess, device)
