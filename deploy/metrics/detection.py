"""COCO's average precision of boxes and masks, by pycocotools, as mmdet's `CocoMetric` asks it."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.metrics import Arrays, pack
from slipway_runtime.manifest import DetectionOutput, Manifest
from train.data import instances
from train.data.instances import Labelled
from train.errors import InputError

#: Detections of an image that count: mAP of the first, the others of the last. mmdet's `proposal_nums`.
MAX_DETECTIONS = (100, 300, 1000)
#: The first six of COCOeval's `stats`.
_STATS = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
_SHOWN = ("mAP", "mAP@50", "mAP@75", "mAP small", "mAP medium", "mAP large")
#: As pycocotools makes them.
_RECALLS = np.linspace(0, 1, 101)
_THRESHOLDS = 10
#: Detections × resamples that are looked at in one go.
_AT_ONCE = 1 << 22
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
        self._packed: str | None = None

    def update(self, results: Sequence[Detected], targets: Sequence[Labelled]) -> None:
        """Count predictions against objects.

        Raises:
            InputError: not one target a result; an object of a class that the bundle does not have.
        """
        if len(results) != len(targets):
            raise InputError(f"{len(results)} predictions for {len(targets)} labelled images; there must be one each")
        self._packed = None
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

    def packed(self) -> str:
        """What the headline, mAP of boxes, needs: how many objects of each class an image has, and by class its detections.

        They lie in the order of their scores, with image and, one bit an IoU threshold, whether they hit and whether they
        are ignored. Those that cannot change an average precision, behind the last hit or always ignored, are left out.

        Raises:
            InputError: as `compute`.
        """
        if self._packed is None:
            self.compute()
        assert self._packed is not None
        return self._packed

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
        if kind == "bbox":
            self._packed = pack(**_by_image(evaluation.evalImgs, len(self.classes), self.images))
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


def _by_image(evaluated: Sequence[dict[str, Any] | None], classes: int, images: int) -> Arrays:
    """What `AveragePrecision.packed` describes, of COCOeval's `evalImgs`: classes × areas × images."""
    whole = np.array(evaluated, dtype=object).reshape(classes, -1, images)[:, 0]  # objects of every area
    truth = np.zeros((images, classes), np.int32)
    kept = []
    for label, found in enumerate(whole):
        there = [(image, each) for image, each in enumerate(found) if each is not None]
        for image, each in there:
            truth[image, label] = np.count_nonzero(each["gtIgnore"] == 0)
        kept.append(_in_order(there))
    columns = [np.concatenate(column) for column in zip(*kept, strict=True)]
    names = ("image", "hit", "ignored")
    return {"truth": truth, "count": np.array([len(each[0]) for each in kept])} | dict(zip(names, columns, strict=True))


def _in_order(found: Sequence[tuple[int, dict[str, Any]]]) -> tuple[NDArray, NDArray, NDArray]:
    """Image, hit and ignored of one class's detections, best first; equal scores by image, as pycocotools sorts them."""
    if not found:
        return np.zeros(0, np.int32), np.zeros(0, np.uint16), np.zeros(0, np.uint16)
    most = MAX_DETECTIONS[0]
    scores = np.concatenate([each["dtScores"][:most] for _, each in found])
    order = np.argsort(-scores, kind="stable")
    image = np.concatenate([np.full(len(each["dtScores"][:most]), number, np.int32) for number, each in found])
    ignored = np.concatenate([each["dtIgnore"][:, :most] for _, each in found], 1).astype(bool)
    hit = np.concatenate([each["dtMatches"][:, :most] for _, each in found], 1).astype(bool) & ~ignored
    ever, always = np.any(hit, axis=0)[order], np.all(ignored, axis=0)[order]
    kept = order[np.logical_or.accumulate(ever[::-1])[::-1] & ~always]
    place = 1 << np.arange(_THRESHOLDS)
    hits, gone = ((place @ flags[:, kept]).astype(np.uint16) for flags in (hit, ignored))
    return image[kept], hits, gone


def resampled(arrays: Arrays, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """mAP of boxes in percent of each of B×N weights; a class without objects in a resample does not count in it."""
    objects = weights @ arrays["truth"].astype(np.int64)
    often = np.ascontiguousarray(weights.T, np.int32)
    ends = np.cumsum(arrays["count"])
    total, classes = np.zeros(len(weights)), np.zeros(len(weights))
    for label, (end, count) in enumerate(zip(ends, arrays["count"], strict=True)):
        image, hit, ignored = (arrays[name][end - count : end] for name in ("image", "hit", "ignored"))
        step = max(1, _AT_ONCE // max(1, count))
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            there = objects[part, label] > 0
            value = _average_precision(often[image, part], hit, ignored, np.maximum(objects[part, label], 1))
            total[part] += np.where(there, value, 0)
            classes[part] += there
    with np.errstate(invalid="ignore"):  # 0 / 0: no object
        means: NDArray[np.float64] = 100 * total / classes
    return means


def _average_precision(often: NDArray, hit: NDArray, ignored: NDArray, objects: NDArray) -> NDArray[np.float64]:
    """COCO's average precision of one class, averaged over the IoU thresholds.

    The interpolated precision at a recall is the highest from there on, so it is met at hits alone.

    Args:
        often: D×B, how often each detection's image counts.
        hit, ignored: D, one bit a threshold.
        objects: B, at least 1.

    Returns:
        B values from 0 to 1.
    """
    total = np.zeros(often.shape[1])
    counted: dict[bytes, NDArray] = {}  # mostly equal at every threshold
    for threshold in range(_THRESHOLDS):
        hits, count = (hit >> threshold) & 1 == 1, (ignored >> threshold) & 1 == 0
        if not hits.any():
            continue
        seen = count.tobytes()
        if seen not in counted:
            counted[seen] = np.cumsum(often * count[:, None], axis=0)
        right = np.cumsum(often[hits], axis=0)
        precision = right / (counted[seen][hits] + np.spacing(1))
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        reached = np.searchsorted(_RECALLS, right / objects, side="right")
        total += (best * np.diff(reached, axis=0, prepend=0)).sum(0)
    mean: NDArray[np.float64] = total / (_THRESHOLDS * len(_RECALLS))
    return mean


METRIC = AveragePrecision
