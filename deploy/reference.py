"""The reference: the unpatched PyTorch model, outside every patch context. Parity and the benchmark's baseline use it."""

from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor

from deploy import tasks
from train import checkpoint, compat
from train import config as configs
from train.runner import build_model


class Reference:
    """A model as its package made it, with the outputs that the exported graph has.

    Args:
        config: a resolved config, as training writes it.
        checkpoint_path: its weights; every key must match.
        device: "cpu" or "cuda".
    """

    def __init__(self, config: Config, checkpoint_path: Path, device: str = "cpu") -> None:
        compat.use(config.default_scope)
        self.config = config
        self.task = tasks.find(config)
        self.model = build_model(config)
        checkpoint.load_into(self.model, checkpoint_path)
        self.model.to(device).eval()
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """N×3×H×W float32 on the device → outputs by name: the function the graph computes."""
        outputs: dict[str, Tensor] = self.task.forward(self.model, images)
        return outputs

    @torch.inference_mode()
    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """The same outputs out of the model's own `predict`."""
        outputs: dict[str, Tensor] = self.task.predict(self.model, images)
        return outputs

    def load_images(self, paths: list[Path]) -> list[Tensor]:
        """Images through the mm* test pipeline and data preprocessor, one 3×H×W tensor each."""
        from mmengine.dataset import Compose, pseudo_collate

        pipeline = Compose(configs.test_pipeline(self.config))
        tensors = []
        for path in paths:
            packed = pseudo_collate([pipeline(dict(img_path=str(path)))])
            tensors.append(self.model.data_preprocessor(packed, training=False)["inputs"][0])
        return tensors


def load(config: Path, checkpoint_path: Path, device: str = "cpu") -> Reference:
    """Read a resolved config and build the reference from it."""
    resolved = configs.read(config)
    configs.activate(resolved, config)
    return Reference(resolved, checkpoint_path, device)
