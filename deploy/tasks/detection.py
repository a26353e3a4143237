"""Detection and instance segmentation: mmdet's detectors → `dets`, `labels` and, with masks, `masks`.

The graph sees images, not where their padding begins: to it, an image is all that it is given. The reference is asked with
the same knowledge (`policy`), and boxes are cut to the image's content afterwards.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from deploy import matching, unresized
from deploy.matching import Detections, Matched
from deploy.unpasted import Unpasted
from slipway_runtime.manifest import DetectionOutput, Masks
from train.errors import UsageError

CODEBASE = dict(type="mmdet", task="ObjectDetection")
SDK = True
COMPARISON = Matched
#: What makes predictions of a head's maps: a rewrite must know a head's own.
_METHODS = (
    "predict_bbox",
    "predict_mask",
    "predict_by_feat",
    "_predict_by_feat_single",
    "_bbox_post_process",
    "instance_postprocess",
)
#: The modules of a detector that have some of them.
_HEADS = ("rpn_head", "bbox_head", "roi_head", "mask_head", "panoptic_fusion_head")
#: Heads whose boxes may end outside the image.
_UNBOUND = ("YOLOXHead", "YOLOV3Head", "CenterNetHead")
#: What `nms` of a test config may say.
_NMS = {"type", "iou_threshold", "class_agnostic", "split_thr"}


def check(config: Config) -> None:
    """Refuse heads that have no rewrite here, and suppression that ONNX has no operator for."""
    from mmdet.registry import MODELS

    from deploy import rewrites

    heads = [(name, config.model[name]) for name in _HEADS if config.model.get(name)]
    if not heads:
        raise UsageError(f"model type '{config.model.type}': it has no head that can be exported")
    test = config.model.get("test_cfg") or {}
    if config.model.get("panoptic_fusion_head") and (test.get("panoptic_on", True) or not test.get("instance_on")):
        raise UsageError(
            "panoptic segmentation cannot be exported, instances can: set panoptic_on=False and instance_on=True in "
            "model.test_cfg"
        )
    modules = rewrites.register("mmdet")
    known = {method for module in modules for method in (*module.REPLACES, *getattr(module, "RELIES_ON", ()))}
    for name in ("bbox_head", "mask_head") if "roi_head" in config.model else ():
        heads += [(f"roi_head.{name}", head) for head in _stages(config.model.roi_head.get(name))]
    for name, head in heads:
        cls = MODELS.get(head.type.split(".")[-1])
        strange = [method for method in _METHODS if getattr(cls, method, None) not in (None, *known)]
        if strange:
            raise UsageError(
                f"{name} '{head.type}': no exact rewrite of its {strange[0]}; add one to deploy/rewrites/mmdet"
            )
    for nms in _suppressions(test):
        odd = sorted(nms.keys() - _NMS)
        if nms.get("type", "nms") != "nms" or odd:
            raise UsageError(
                f"test_cfg: nms {dict(nms)}: only type='nms' with {', '.join(sorted(_NMS))} can be exported"
            )


def _stages(heads: Any) -> list[Any]:
    """A cascade's heads, or the only one; mmdet takes either."""
    return heads if isinstance(heads, list) else [heads] if heads else []


def _suppressions(node: Any) -> list[Mapping[str, Any]]:
    found = []
    for key, value in node.items():
        if key == "nms" and isinstance(value, Mapping):
            found.append(value)
        elif isinstance(value, Mapping):
            found += _suppressions(value)
    return found


def one_size(config: Config) -> None:
    """Pad what a `Resize` with `keep_ratio` gives to the smallest square that holds all of it; nothing is distorted."""
    from train import config as configs

    longest = 0
    for step in configs.test_pipeline(config):
        if step["type"] == "Resize" and step.get("keep_ratio"):
            longest = step["scale"] if isinstance(step["scale"], int) else max(step["scale"])
        elif step["type"] == "Pad":
            longest = _multiple(max(longest, *(step.get("size") or (0,))), step.get("size_divisor") or 1)
    if longest:
        preprocessor = config.model.data_preprocessor
        # A multiple of what no image exceeds is that size for all of them.
        preprocessor.pad_size_divisor = _multiple(longest, preprocessor.get("pad_size_divisor", 1))


def _multiple(size: int, divisor: int) -> int:
    return -(-size // divisor) * divisor


def postprocess(config: Config, deploy_config: Config, classes: Sequence[str]) -> DetectionOutput:
    """Whether boxes end at the image's edge, and how masks are made."""
    model = config.model
    test: Any = model.get("test_cfg") or {}
    if "roi_head" in model:
        head, test = _stages(model.roi_head.bbox_head)[-1], test.rcnn
        masks = Masks(over="box", threshold=test.mask_thr_binary) if model.roi_head.get("mask_head") else None
    elif "mask_head" in model or "panoptic_fusion_head" in model:
        # What is above zero belongs to the mask: see `deploy.unresized`.
        head = model.get("bbox_head") or model.get("mask_head") or model.panoptic_head
        masks = Masks(over="image", threshold=0.5)
    else:
        head = model.bbox_head
        drawn = "RTMDetIns" in head.type
        masks = Masks(over="image", threshold=test.mask_thr_binary) if drawn else None
    clip = head.type.split(".")[-1] not in _UNBOUND and (head.get("bbox_coder") or {}).get("clip_border", True)
    return DetectionOutput(clip=clip, masks=masks)


def outputs(postprocess: DetectionOutput) -> dict[str, dict[int, str]]:
    """Rows may depend on the image's size; masks over images do."""
    found: dict[str, dict[int, str]] = {"dets": {1: "detections"}, "labels": {1: "detections"}}
    if postprocess.masks:
        sizes = {2: "mask_height", 3: "mask_width"} if postprocess.masks.over == "image" else {}
        found["masks"] = {1: "detections", **sizes}
    return found


def trace(model: Any, images: Tensor, postprocess: DetectionOutput) -> Any:
    """mmdet's own way through the parts of a detector; what their rewrites return are tensors."""
    samples = _samples(images)
    features = model.extract_feat(images)
    if _is_transformer(model):
        states = model.forward_transformer(features, samples)
        return model.bbox_head.predict(**states, rescale=False, batch_data_samples=samples)
    if hasattr(model, "roi_head"):
        proposals = model.rpn_head.predict(features, samples, rescale=False)
        return model.roi_head.predict(features, proposals, samples, rescale=False)
    if hasattr(model, "panoptic_fusion_head"):
        return model.panoptic_fusion_head.predict(*model.panoptic_head.predict(features, samples), samples)
    if hasattr(model, "mask_head"):
        boxes = model.bbox_head.predict(features, samples, rescale=False) if model.bbox_head else None
        return model.mask_head.predict(features, samples, rescale=False, results_list=boxes)
    return model.bbox_head.predict(features, samples, rescale=False)


def forward(model: Any, images: Tensor, postprocess: DetectionOutput) -> dict[str, Tensor]:
    """Detections of the batch in as many rows as the graph has, masks as the graph gives them."""
    samples = _samples(images)
    metas = [sample.metainfo for sample in samples]
    features = model.extract_feat(images)
    if _is_transformer(model):
        states = model.forward_transformer(features, samples)
        found = model.bbox_head.predict(**states, rescale=False, batch_data_samples=samples)
        return _pack(found, model.bbox_head.test_cfg.get("max_per_img", model.num_queries))
    if hasattr(model, "roi_head"):
        proposals = model.rpn_head.predict(features, samples, rescale=False)
        with Unpasted(model.roi_head, bool(postprocess.masks)) as unpasted:
            found = model.roi_head.predict(features, proposals, samples, rescale=False)
        return _pack(found, model.roi_head.test_cfg.max_per_img, unpasted.masks(found))
    if hasattr(model, "panoptic_fusion_head"):
        found, drawn = unresized.panoptic(model, features, samples)
        return _pack(found, model.panoptic_fusion_head.test_cfg.get("max_per_image", 100), drawn)
    if hasattr(model, "mask_head"):
        found, drawn = unresized.single_stage(model, features, samples)
        return _pack(found, model.mask_head.test_cfg.max_per_img, drawn)
    maps = model.bbox_head(features)
    places = sum(level.shape[2] * level.shape[3] for level in maps[0])
    with _Logits(model.bbox_head, bool(postprocess.masks)) as logits:
        found = model.bbox_head.predict_by_feat(*maps, batch_img_metas=metas, rescale=False)
    masks = logits.by_image(found, maps) if postprocess.masks else None
    config = model.bbox_head.test_cfg
    return _pack(found, config.get("topk", config.get("max_per_img", places)), masks)


def predict(model: Any, images: Tensor, postprocess: DetectionOutput) -> dict[str, Tensor]:
    """The boxes of mmdet's own predictions. Masks are not in them, but what was made of masks: see `agreement`."""
    found = forward(model, images, postprocess)
    own = [sample.pred_instances for sample in model.predict(images, _samples(images), rescale=False)]
    return {**found, **_pack(own, found["dets"].shape[1])}


def compared(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Boxes, scores, labels and masks mean something together only."""
    return {"detections": outputs}


def policy(sample: Any) -> None:
    """To the graph, padding belongs to the image: mmdet may find something there, and must have the room to draw it."""
    size = tuple(sample.batch_input_shape)
    width, height = sample.scale_factor
    room = (math.ceil(size[0] / height), math.ceil(size[1] / width))
    sample.set_metainfo(dict(img_shape=size, ori_shape=room, image_shape=sample.ori_shape))


def sample(image: Any, postprocess: DetectionOutput) -> Any:
    """The image, 3×H×W, goes through the graph whole."""
    return image


def agreement(result: Any, sample: Any) -> tuple[int, int]:
    """Detections that have a counterpart, masks of IoU ≥ 0.98 included; of an image without any, one agreement."""
    height, width = _size(sample)
    wanted = native(sample)
    found = Detections(_inside(result.boxes, height, width), result.scores, result.labels)
    pairs = matching.pair(found, replace(wanted, boxes=_inside(wanted.boxes, height, width)))
    equal = len(pairs.found)
    if wanted.masks is not None and equal:
        ours = np.stack([result.masks[index] for index in pairs.found])
        equal = int((matching.mask_ious(ours, wanted.masks[pairs.wanted]) >= matching.MASK_IOU).sum())
    total = max(len(found), len(wanted))
    return (equal, total) if total else (1, 1)


def native(sample: Any) -> Detections:
    """A data sample's own predictions: boxes in pixels of the image, masks of its size."""
    found = sample.pred_instances.cpu().numpy()
    masks = None
    if "masks" in found:
        height, width = _size(sample)
        masks = np.zeros((len(found.scores), height, width), bool)
        # RTMDet-Ins takes one axis' scale for the other: its masks may end a row or a column early.
        drawn = found.masks[:, :height, :width]
        masks[:, : drawn.shape[1], : drawn.shape[2]] = drawn
    return Detections(found.bboxes, found.scores, found.labels, masks)


def _size(sample: Any) -> tuple[int, int]:
    """Height and width of the image itself."""
    size: tuple[int, int] = sample.get("image_shape", sample.ori_shape)
    return size


def _samples(images: Tensor) -> list[Any]:
    from mmdet.structures import DetDataSample

    size = tuple(images.shape[2:])
    samples = [DetDataSample() for _ in images]
    for each in samples:
        for name in ("img_shape", "pad_shape", "batch_input_shape", "ori_shape"):
            # Not `set_metainfo`: it copies, and a traced size cannot be copied.
            each.set_field(size, name, field_type="metainfo")
        each.set_field((1.0, 1.0), "scale_factor", field_type="metainfo")
        each.set_field((0.0, 0.0, 0.0, 0.0), "border", field_type="metainfo")  # what CenterNet's images are padded with
    return samples


def _is_transformer(model: Any) -> bool:
    return hasattr(model, "forward_transformer")


def _pack(found: Sequence[Any], rows: int, masks: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
    """mmdet's lists, an image each → `dets` N×K×5, `labels` N×K, `masks` N×K×h×w; −1 and zeros where a list is shorter."""
    example = found[0].bboxes
    dets = example.new_zeros(len(found), rows, 5)
    labels = torch.full((len(found), rows), -1, dtype=torch.int64, device=example.device)
    packed = {"dets": dets, "labels": labels}
    for image, instances in enumerate(found):
        count = len(instances)
        dets[image, :count, :4], dets[image, :count, 4] = instances.bboxes, instances.scores
        labels[image, :count] = instances.labels
    if masks is not None:
        packed["masks"] = example.new_zeros(len(found), rows, *masks[0].shape[1:])
        for image, own in enumerate(masks):
            packed["masks"][image, : len(own)] = own
    return packed


class _Logits:
    """Keeps the mask logits that RTMDet-Ins makes masks of and then throws away."""

    def __init__(self, head: Any, wanted: bool) -> None:
        self.head, self.wanted = head, wanted
        self.kept: list[Tensor] = []

    def __enter__(self) -> "_Logits":
        if self.wanted:
            draw = self.head._mask_predict_by_feat_single

            def keep(*arguments: Any) -> Tensor:
                self.kept.append(draw(*arguments))
                return self.kept[-1]

            self.head._mask_predict_by_feat_single = keep
        return self

    def __exit__(self, *_: object) -> None:
        if self.wanted:
            del self.head._mask_predict_by_feat_single

    def by_image(self, found: Sequence[Any], maps: Sequence[Any]) -> list[Tensor]:
        """Logits of each image, K×h×w; mmdet draws nothing for an image without candidates."""
        drawn = iter(self.kept)
        height, width = maps[3].shape[2:]
        return [next(drawn) if len(each) else each.bboxes.new_zeros(0, height, width) for each in found]


def _inside(boxes: Any, height: int, width: int) -> Any:
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
