"""Instance masks of mmdet's mask heads before they are resized to the image: what the exported graph gives.

Of SOLO, SOLOv2 and YOLACT probabilities less the threshold, so that what is above zero belongs to the mask, as of logits;
resizing keeps that. Of Mask2Former logits. Sources: mmdet/models/dense_heads/solo_head.py, solov2_head.py, yolact_head.py,
maskformer_head.py.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode


def single_stage(model: Any, features: Sequence[Tensor], samples: Sequence[Any]) -> tuple[list[Any], list[Tensor]]:
    """A `SingleStageInstanceSegmentor`'s own instances of each image, and their masks K×h×w."""
    head, boxed = model.mask_head, model.bbox_head is not None
    boxes = model.bbox_head.predict(features, samples, rescale=False) if boxed else None
    maps = head(features, boxes) if boxed else head(features)
    # A list of masks: h×w×K of each image (YOLACT), N×…×h×w of each level (SOLO); or features, N×…×h×w (SOLOv2).
    size = maps[0][0].shape[:2] if boxed else (maps[-1] if torch.is_tensor(maps[-1]) else maps[0][0]).shape[2:]
    kept: list[Tensor] = []
    draw = head._predict_by_feat_single

    def keep(*arguments: Any, **options: Any) -> Any:
        with _Calls(F.interpolate) as calls:
            result = draw(*arguments, **options)
        kept.extend(given[0][0] for given, _ in calls.seen[:1])
        return result

    head._predict_by_feat_single = keep
    try:
        metas = [sample.metainfo for sample in samples]
        found = head.predict_by_feat(*maps, results_list=boxes, batch_img_metas=metas, rescale=False)
    finally:
        del head._predict_by_feat_single
    drawn = iter(kept)  # nothing is drawn for an image without instances
    empty = features[0].new_zeros(0, *size)
    return found, [next(drawn) - head.test_cfg.mask_thr if len(each) else empty for each in found]


def panoptic(model: Any, features: Sequence[Tensor], samples: Sequence[Any]) -> tuple[list[Any], list[Tensor]]:
    """A `MaskFormer`'s own instances of each image, and the logits of their masks, K×h×w."""
    fusion = model.panoptic_fusion_head
    with _Calls(F.interpolate) as resized:
        results = model.panoptic_head.predict(features, samples)
    logits = resized.seen[-1][0][0]
    with _Calls(Tensor.topk) as chosen:
        found = [each["ins_results"] for each in fusion.predict(*results, samples, rescale=False)]
    masks = []
    for own, (_, (_, index)) in zip(logits, chosen.seen, strict=True):
        thing = index % fusion.num_classes < fusion.num_things_classes
        masks.append(own[index // fusion.num_classes][thing])
    return found, masks


class _Calls(TorchFunctionMode):
    """Keeps the arguments and the result of each call of a torch function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.seen: list[tuple[tuple[Any, ...], Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is self.function:
            self.seen.append((args, result))
        return result
