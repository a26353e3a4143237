"""COCO's average precision of boxes and masks, by pycocotools, as mmdet's `CocoMetric` asks it."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway_runtime.manifest import DetectionOutput, Manifest
from train.data import instances
from train.data.instances import Labelled
from train.errors import InputError

#: Detections of an image that count: mAP of the first, the others of the last. mmdet's `proposal_nums`.
MAX_DETECTIONS = (100, 300, 1000)
#: The first six of COCOeval's `stats`.
_STATS = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
_SHOWN = ("mAP", "mAP@50", "mAP@75", "mAP small", "mAP medium", "mAP large")
_KINDS = {"bbox": "", "segm": "mask "}
TITLES = {
    f"{kind}_{stat}_percent": f"{prefix}{shown} %"
    for kind, prefix in _KINDS.items()
    for stat, shown in zip((*_STATS, "ap", "map_native"), (*_SHOWN, "AP", "mAP native"), strict=True)
}


class Detected(Protocol):
    """A prediction: N boxes (x1, y1, x2, y2 in pixels), scores and labels, and N masks of the image's size, or None."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: Sequence[NDArray[np.bool_]] | None


class AveragePrecision:
    """COCO's mAP over the whole data set; masks too where the model gives them and the data has them.

    A value without ground truth, such as mAP of small objects where there are none, is left out; pycocotools says −1.
    Sources: pycocotools/cocoeval.py; mmdet/evaluation/metrics/coco_metric.py, without its rounding to three digits.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.classes = manifest.classes
        output = manifest.postprocess
        self.with_masks = isinstance(output, DetectionOutput) and output.masks is not None
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self.images = 0
        self._sizes: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def update(self, results: Sequence[Detected], targets: Sequence[Labelled]) -> None:
        """Count predictions against objects.

        Raises:
            InputError: not one target a result; an object of a class that the bundle does not have.
        """
        if len(results) != len(targets):
            raise InputError(f"{len(results)} predictions for {len(targets)} labelled images; there must be one each")
        for result, target in zip(results, targets, strict=True):
            self.images += 1
            self._sizes.append({"id": self.images, "height": target.height, "width": target.width})
            self._truth += [self._object(each, target) for each in target.instances]
            self._found += self._detections(result)

    def _object(self, each: instances.Instance, target: Labelled) -> dict[str, Any]:
        if not 0 <= each.label < len(self.classes):
            raise InputError(f"label {each.label} is none of the bundle's {len(self.classes)} classes")
        if each.segmentation is None:
            self.with_masks = False
        entry = {"image_id": self.images, "category_id": each.label, "bbox": list(each.bbox), "area": each.area}
        if self.with_masks:
            entry["segmentation"] = instances.run_lengths(each.segmentation, target.height, target.width)
        return {**entry, "iscrowd": int(each.iscrowd)}

    def _detections(self, result: Detected) -> list[dict[str, Any]]:
        boxes = result.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        found = [
            {"image_id": self.images, "category_id": int(label), "score": float(score), "bbox": box.tolist()}
            for label, score, box in zip(result.labels, result.scores, boxes, strict=True)
        ]
        if self.with_masks and result.masks is not None:
            for entry, mask in zip(found, result.masks, strict=True):
                entry["segmentation"] = instances.encode(mask)
        return found

    def compute(self) -> dict[str, float]:
        """`{"bbox_map_percent": …, "bbox_map50_percent": …, …, "bbox_ap_percent/<class>": …, "segm_map_percent": …, …}`.

        Raises:
            InputError: nothing was counted, or there is no object in all images.
        """
        if not self.images:
            raise InputError("accuracy over no images: the validation set is empty")
        if not any(not each["iscrowd"] for each in self._truth):
            raise InputError(f"no object in {self.images} validation images: there is nothing to find; label some")
        values: dict[str, float] = {}
        for kind in ("bbox", "segm") if self.with_masks else ("bbox",):
            values |= self._evaluate(kind)
        return values

    def _evaluate(self, kind: str) -> dict[str, float]:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        categories = [{"id": label, "name": name} for label, name in enumerate(self.classes)]
        truth, found = COCO(), COCO()
        with contextlib.redirect_stdout(io.StringIO()):
            for coco, annotations in ((truth, self._truth), (found, self._scored(kind))):
                # From 1 on: pycocotools takes 0 for "no match".
                numbered = [{**each, "id": number} for number, each in enumerate(annotations, start=1)]
                coco.dataset = {"images": self._sizes, "categories": categories, "annotations": numbered}
                coco.createIndex()
            evaluation = COCOeval(truth, found, kind)
            evaluation.params.maxDets = list(MAX_DETECTIONS)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats = {
            f"{kind}_{name}_percent": 100 * float(value)
            for name, value in zip(_STATS, evaluation.stats, strict=False)
            if value >= 0
        }
        # IoU thresholds × recalls × classes × areas × detections; every area, the most detections.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        each = {
            f"{kind}_ap_percent/{name}": 100 * float(own[own > -1].mean())
            for name, own in zip(self.classes, precision.transpose(2, 0, 1), strict=True)
            if (own > -1).any()
        }
        return {**stats, **each}

    def _scored(self, kind: str) -> list[dict[str, Any]]:
        """Detections as `COCO.loadRes` completes them: of masks, the area is the mask's."""
        from pycocotools import mask as coco_mask

        if kind == "bbox":
            return [{**each, "area": each["bbox"][2] * each["bbox"][3], "iscrowd": 0} for each in self._found]
        return [
            {**each, "area": float(coco_mask.area(each["segmentation"])), "iscrowd": 0}
            for each in self._found
            if "segmentation" in each
        ]


METRIC = AveragePrecision
