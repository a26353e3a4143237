"""Semantic segmentation: mmseg's `EncoderDecoder` → one output `output`, N×C×h×w logits.

The logits have the input's size, as mmseg's heads give them ("full"), or the network's stride ("stride", by
`codebase_config.logits` of the deploy config), which moves mmseg's first resize from the graph to the runtime.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor

from deploy.outputs import Output
from slipway_runtime.manifest import SegmentationOutput, Window
from train.cli import nearest
from train.errors import UsageError

CODEBASE = dict(type="mmseg", task="Segmentation", with_argmax=False)
SDK = False  # it resizes images and maps otherwise than mmseg: its labels are not the model's
COMPARISON = Output
MODELS = ("EncoderDecoder", "CascadeEncoderDecoder")
LOGITS = ("full", "stride")
#: Heads whose logits are no resize of what their `forward` gives.
REFINING = ("PointHead", "MaskFormerHead", "Mask2FormerHead")


def check(config: Config) -> None:
    """Only encoder-decoders, in whole or slide mode: both runtimes repeat those two; and only functions of the image."""
    if _type(config.model) not in MODELS:
        raise UsageError(
            f"model type '{config.model.type}': only {' and '.join(MODELS)} can be exported as a segmenter"
        )
    mode = _test_config(config).get("mode", "whole")
    if mode not in ("whole", "slide"):
        raise UsageError(f"test_cfg.mode '{mode}': expected whole or slide")
    head = _head(config)
    if _type(head) == "LightHamHead" and (head.get("ham_kwargs") or {}).get("rand_init", True):
        raise UsageError(
            "LightHamHead draws new random bases for every image, so that the same image gives other logits each time: "
            "no graph can repeat them; train it with decode_head.ham_kwargs.rand_init=False, which keeps its bases"
        )


def one_size(config: Config) -> None:
    """The test pipeline decides."""


def postprocess(config: Config, deploy_config: Config, classes: Sequence[str]) -> SegmentationOutput:
    """How mmseg makes labels of logits (mmseg/models/segmentors/base.py, encoder_decoder.py).

    Raises:
        UsageError: an unknown `codebase_config.logits`, or "stride" for a head that makes more of its maps than a resize;
            strides that leave gaps between windows.
    """
    head, test = _head(config), _test_config(config)
    logits = deploy_config.get("codebase_config", {}).get("logits", "full")
    if logits not in LOGITS:
        raise nearest(logits, LOGITS, "codebase_config.logits")
    if logits == "stride" and _type(head) in REFINING:
        raise UsageError(f"codebase_config.logits 'stride': {_type(head)} does more than resize its maps; use 'full'")
    window = None
    if test.get("mode") == "slide":
        (height, width), (stride_height, stride_width) = test.crop_size, test.stride
        if stride_height > height or stride_width > width:
            raise UsageError(
                f"test_cfg: stride {test.stride} is larger than crop_size {test.crop_size}; pixels between"
            )
        window = Window(height=height, width=width, stride_height=stride_height, stride_width=stride_width)
    return SegmentationOutput(
        align_corners=head.get("align_corners", False),
        # mmseg's default for a single logit (decode_head.py).
        threshold=head.get("threshold") or 0.3 if head.get("out_channels") == 1 else None,
        window=window,
        logits=logits,
    )


def outputs(postprocess: SegmentationOutput) -> dict[str, dict[int, str]]:
    """The logits: of the input's size, or of one that follows from it."""
    full = postprocess.logits == "full"
    return {"output": {2: "height" if full else "logits_height", 3: "width" if full else "logits_width"}}


def trace(model: Any, images: Tensor, postprocess: SegmentationOutput) -> Tensor:
    """The function itself: it holds nothing that tracing would freeze."""
    return forward(model, images, postprocess)["output"]


def forward(model: Any, images: Tensor, postprocess: SegmentationOutput) -> dict[str, Tensor]:
    """Logits of one input, a whole image or a window of one."""
    if postprocess.logits == "stride":
        # Not `model(images, mode="tensor")`: MMDeploy's rewrite of `forward` does not mind the mode.
        logits = model._forward(images)
        # Some heads give maps for further losses too, after their logits.
        return {"output": logits[0] if isinstance(logits, tuple) else logits}
    size = tuple(images.shape[2:])
    return {
        "output": model.encode_decode(images, [dict(img_shape=size, pad_shape=size, ori_shape=size) for _ in images])
    }


def predict(model: Any, images: Tensor, postprocess: SegmentationOutput) -> dict[str, Tensor]:
    """The `seg_logits` of mmseg's own predictions, each input taken as a whole image that needs no resize."""
    if postprocess.logits == "stride" or postprocess.threshold is not None:
        return forward(model, images, postprocess)  # mmseg's predictions hold other maps than the head's
    from mmseg.structures import SegDataSample

    size = tuple(images.shape[2:])
    metainfo = dict(img_shape=size, pad_shape=size, ori_shape=size, padding_size=(0, 0, 0, 0))
    samples = [SegDataSample(metainfo=dict(metainfo)) for _ in images]
    test_config, model.test_cfg = model.test_cfg, ConfigDict({**model.test_cfg, "mode": "whole"})
    try:
        samples = model.predict(images, samples)
    finally:
        model.test_cfg = test_config
    return {"output": torch.stack([sample.seg_logits.data for sample in samples])}


def compared(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Each output by itself."""
    return outputs


def policy(sample: Any) -> None:
    """The graph knows what the model knows."""


def sample(image: Any, postprocess: SegmentationOutput) -> Any:
    """What the graph sees of an image, 3×H×W: all of it, or its first window."""
    window = postprocess.window
    return image[:, : window.height, : window.width] if window else image


def agreement(result: Any, sample: Any) -> tuple[int, int]:
    """Pixels with the same label, at the image's own size."""
    wanted = sample.pred_sem_seg.data[0].cpu().numpy()
    if result.label_map.shape != wanted.shape:
        return 0, wanted.size
    return int((result.label_map == wanted).sum()), wanted.size


def _head(config: Config) -> ConfigDict:
    head = config.model.decode_head
    return head[-1] if isinstance(head, list | tuple) else head


def _type(node: ConfigDict) -> str:
    """A type's name without its package."""
    name: str = node.type
    return name.split(".")[-1]


def _test_config(config: Config) -> ConfigDict:
    return config.model.get("test_cfg") or ConfigDict()
