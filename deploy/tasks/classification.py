"""Image classification: mmpretrain's `ImageClassifier` → one output `output`, N×C scores that sum to 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from deploy.outputs import Output
from slipway_runtime.manifest import ClassificationOutput
from train.errors import UsageError

CODEBASE = dict(type="mmpretrain", task="Classification")
SDK = True
COMPARISON = Output


def check(config: Config) -> None:
    """Only single-label image classifiers: others give scores that do not mean a distribution over the classes."""
    if config.model.type.split(".")[-1] != "ImageClassifier":
        raise UsageError(f"model type '{config.model.type}': only ImageClassifier can be exported as a classifier")
    head = config.model.get("head") or {}
    if "MultiLabel" in head.get("type", "MultiLabel"):
        raise UsageError(f"head '{head.get('type')}': only single-label heads can be exported as a classifier")


def one_size(config: Config) -> None:
    """The test pipeline decides."""


def postprocess(config: Config, deploy_config: Config, classes: Sequence[str]) -> ClassificationOutput:
    """Top five, or all where there are fewer classes."""
    return ClassificationOutput(topk=min(5, len(classes)))


def outputs(postprocess: ClassificationOutput) -> dict[str, dict[int, str]]:
    """The scores."""
    return {"output": {}}


def trace(model: Any, images: Tensor, postprocess: ClassificationOutput) -> Tensor:
    """MMDeploy's rewritten `predict`: softmax scores."""
    scores: Tensor = model(images, data_samples=None, mode="predict")
    return scores


def forward(model: Any, images: Tensor, postprocess: ClassificationOutput) -> dict[str, Tensor]:
    """Softmax of the logits, as `ClsHead.predict` computes it, without making a DataSample an image."""
    return {"output": torch.softmax(model(images, mode="tensor"), dim=1)}


def predict(model: Any, images: Tensor, postprocess: ClassificationOutput) -> dict[str, Tensor]:
    """The `pred_score` of mmpretrain's own predictions."""
    return {"output": torch.stack([sample.pred_score for sample in model(images, mode="predict")])}


def compared(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Each output by itself."""
    return outputs


def policy(sample: Any) -> None:
    """The graph knows what the model knows."""


def sample(image: Any, postprocess: ClassificationOutput) -> Any:
    """The image, 3×H×W, goes through the graph whole."""
    return image


def agreement(result: Any, sample: Any) -> tuple[int, int]:
    """Whether the best class is the same."""
    return int(result.labels[0] == int(sample.pred_label)), 1
