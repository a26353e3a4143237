"""COCO's average precision equals mmdet's `CocoMetric`, of boxes and of masks, before that rounds to three digits."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from deploy import metrics
from deploy.metrics.detection import AveragePrecision
from slipway_runtime.manifest import DetectionOutput, Masks
from train import compat
from train.data import instances
from train.data.instances import Labelled
from train.errors import InputError

#: The ids have gaps, as COCO's own have.
CATEGORIES = {3: "apple", 7: "pear", 12: "plum", 13: "nothing is one"}
STATS = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
SIZES = (14, 60, 130)  # of an object, in pixels: COCO's small, medium and large
ANNOTATIONS = "annotations/instances_val.json"


@dataclass
class Found:
    """A prediction, as the runtime gives it."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]


def _manifest(masks: bool = True) -> Any:
    output = DetectionOutput(clip=True, masks=Masks(over="box", threshold=0.5) if masks else None)
    return SimpleNamespace(task="detection", classes=tuple(CATEGORIES.values()), postprocess=output)


def _ellipse(height: int, width: int, box: Sequence[float]) -> NDArray[np.bool_]:
    """What an ellipse in a box, x1, y1, x2, y2, covers of an image."""
    x1, y1, x2, y2 = box
    y, x = np.mgrid[:height, :width] + 0.5
    inside: NDArray[np.bool_] = ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1
    return inside


def _annotation(rng: np.random.Generator, height: int, width: int, sizes: Sequence[int]) -> dict[str, Any]:
    """An object as COCO describes it: polygons, run lengths, or a crowd with uncompressed run lengths."""
    edge = rng.choice(sizes) * rng.uniform(0.8, 1.2, 2)
    x, y = rng.uniform(0, width - edge[0]), rng.uniform(0, height - edge[1])
    mask = _ellipse(height, width, (x, y, x + edge[0], y + edge[1]))
    crowd = int(rng.random() < 0.1)
    segmentation: Any
    if crowd:
        changes = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel("F")]))).tolist()
        segmentation = {"size": [height, width], "counts": np.diff([0, *changes, mask.size]).tolist()}
    elif rng.random() < 0.5:
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        corners = np.stack([x + edge[0] * (1 + np.cos(angles)) / 2, y + edge[1] * (1 + np.sin(angles)) / 2], 1)
        segmentation = [corners.ravel().tolist()]
    else:
        rle = instances.encode(mask)
        segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    return {
        "category_id": int(rng.choice([3, 7, 12])),
        "bbox": [x, y, *edge.tolist()],
        "area": float(mask.sum()),
        "iscrowd": crowd,
        "segmentation": segmentation,
    }


def _scenes(folder: Path, rng: np.random.Generator, count: int = 16, sizes: Sequence[int] = SIZES) -> list[Labelled]:
    """A set of images, some without objects, as the file that both metrics read."""
    images, annotations = [], []
    for image in range(count):
        height, width = rng.integers(170, 240, 2).tolist()
        images.append({"id": 10 + 3 * image, "height": height, "width": width, "file_name": f"{image}.png"})
        for _ in range(0 if image in (2, 5) else rng.integers(1, 7)):
            about = {"id": len(annotations) + 1, "image_id": images[-1]["id"]}
            annotations.append({**_annotation(rng, height, width, sizes), **about})
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    # In no order, as in COCO's own files: pycocotools goes by the ids.
    rng.shuffle(images)
    (folder / ANNOTATIONS).parent.mkdir(exist_ok=True)
    (folder / ANNOTATIONS).write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return [labelled for _, labelled in instances.read_split(folder, "val")]


def _predictions(rng: np.random.Generator, scenes: Sequence[Labelled]) -> list[Found]:
    """Objects found more or less, twice or not at all, and some where nothing is; scores with many ties."""
    found = []
    for number, scene in enumerate(scenes):
        boxes, labels = [], []
        for each in scene.instances:
            for _ in range(rng.integers(3)):
                x, y, width, height = each.bbox
                moved = np.array([x, y, x + width, y + height]) + rng.normal(0, 0.06, 4) * ([width, height] * 2)
                boxes.append(moved)
                labels.append(each.label if rng.random() < 0.9 else rng.integers(4))
        # More than the hundred that mAP counts, and of one class; nothing at all in the fourth.
        for _ in range(120 if number == 7 else rng.integers(4)):
            corner = rng.uniform(0, 100, 2)
            boxes.append(np.concatenate([corner, corner + rng.uniform(5, 60, 2)]))
            labels.append(0 if number == 7 else rng.integers(4))
        if number == 3:
            boxes, labels = [], []
        corners = np.array(boxes, np.float32).reshape(-1, 4)
        scores = rng.integers(1, 20, len(corners)).astype(np.float32) / np.float32(20)
        masks = [_ellipse(scene.height, scene.width, box) for box in corners]
        found.append(
            Found(
                corners,
                scores,
                np.array(labels, np.int64),
                np.array(masks, bool).reshape(-1, scene.height, scene.width),
            )
        )
    return found


def _moved(found: Found, pixels: float) -> Found:
    return replace(found, boxes=found.boxes + np.float32(pixels))


def _changed(scenes: Sequence[Labelled], change: Callable[[instances.Instance], instances.Instance]) -> list[Labelled]:
    return [replace(scene, instances=tuple(map(change, scene.instances))) for scene in scenes]


def _ours(
    found: Sequence[Found], scenes: Sequence[Labelled], *, masks: bool = True, batch: int = 5
) -> dict[str, float]:
    metric = metrics.for_task(_manifest(masks))
    for start in range(0, len(found), batch):
        metric.update(found[start : start + batch], scenes[start : start + batch])
    assert metric.images == len(found)
    return metric.compute()


class Observed(COCOeval):
    """pycocotools' evaluation, remembered."""

    seen: "list[Observed]"

    def summarize(self) -> None:
        super().summarize()
        self.seen.append(self)


def _theirs(
    found: Sequence[Found], folder: Path, monkeypatch: pytest.MonkeyPatch, kinds: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """mmdet's values by our names, a part of 1, without those that have no ground truth; and what it logs."""
    compat.use("mmdet")
    from mmdet.evaluation.metrics import coco_metric

    monkeypatch.setattr(coco_metric, "COCOeval", Observed)
    Observed.seen = []
    metric = coco_metric.CocoMetric(ann_file=str(folder / ANNOTATIONS), metric=list(kinds))
    metric.dataset_meta = {"classes": tuple(CATEGORIES.values())}
    images = json.loads((folder / ANNOTATIONS).read_text())["images"]
    for image, each in zip(sorted(images, key=lambda image: image["id"]), found, strict=True):
        tensors = {"bboxes": each.boxes, "scores": each.scores, "labels": each.labels, "masks": each.masks}
        if "segm" not in kinds:
            del tensors["masks"]
        sample = {"img_id": image["id"], "ori_shape": (image["height"], image["width"])}
        metric.process({}, [{**sample, "pred_instances": {name: torch.from_numpy(a) for name, a in tensors.items()}}])
    logged = metric.compute_metrics(metric.results)
    values: dict[str, float] = {}
    for kind, evaluation in zip(kinds, Observed.seen, strict=True):
        values |= {f"{kind}_{stat}_percent": value for stat, value in zip(STATS, evaluation.stats, strict=False)}
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        for name, own in zip(CATEGORIES.values(), precision.transpose(2, 0, 1), strict=True):
            values[f"{kind}_ap_percent/{name}"] = own[own > -1].mean() if (own > -1).any() else -1
    return {name: value for name, value in values.items() if value >= 0}, logged


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_mmdets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = _scenes(tmp_path, rng)
    crowds = sum(each.iscrowd for scene in scenes for each in scene.instances)
    found = _predictions(rng, scenes)
    assert crowds
    wanted, logged = _theirs(found, tmp_path, monkeypatch, ("bbox", "segm"))
    ours = _ours(found, scenes)
    assert {name: value / 100 for name, value in ours.items()} == pytest.approx(wanted, abs=1e-6)
    assert next(iter(ours)) == "bbox_map_percent", "the headline comes first"
    assert ours["bbox_map_percent"] / 100 == pytest.approx(logged["bbox_mAP"], abs=0.000501)
    assert 5 < ours["segm_map_percent"] < 95
    assert not any(name.endswith("nothing is one") for name in ours), "it has no ground truth"
    moved = _ours([_moved(each, 2) for each in found], scenes)
    assert abs(moved["bbox_map_percent"] - ours["bbox_map_percent"]) > 0.1, "two pixels are another value"


Case = tuple[list[Found], list[Labelled]]
#: What the comparison would see if we evaluated otherwise than mmdet.
FAULTS: dict[str, Callable[[list[Found], list[Labelled]], Case]] = {
    "two pixels": lambda found, scenes: ([_moved(each, 2) for each in found], scenes),
    "turned masks": lambda found, scenes: ([replace(each, masks=each.masks[:, ::-1]) for each in found], scenes),
    "other scores": lambda found, scenes: ([replace(each, scores=each.scores[::-1]) for each in found], scenes),
    "no crowds": lambda found, scenes: (found, _changed(scenes, lambda each: replace(each, iscrowd=False))),
    "other areas": lambda found, scenes: (found, _changed(scenes, lambda each: replace(each, area=4 * each.area))),
    # Of equal scores, the first image's comes first.
    "another order": lambda found, scenes: (found[::-1], scenes[::-1]),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_control_a_fault_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[list[Found], list[Labelled]], Case]
) -> None:
    rng = np.random.default_rng(0)
    scenes = _scenes(tmp_path, rng)
    found = _predictions(rng, scenes)
    wanted, _ = _theirs(found, tmp_path, monkeypatch, ("bbox", "segm"))
    faulty = _ours(*fault(found, scenes))
    assert {name: value / 100 for name, value in faulty.items()} != pytest.approx(wanted, abs=1e-6)


def test_values_without_ground_truth_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    scenes = _scenes(tmp_path, rng, count=4, sizes=SIZES[1:2])
    found = _predictions(rng, scenes)
    wanted, _ = _theirs(found, tmp_path, monkeypatch, ("bbox",))
    ours = _ours(found, scenes, masks=False)
    assert {name: value / 100 for name, value in ours.items()} == pytest.approx(wanted, abs=1e-6)
    stats = [name for name in ours if "/" not in name]
    assert stats == [f"bbox_{stat}_percent" for stat in (*STATS[:3], "map_medium")]


def test_masks_need_ground_truth_of_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    scenes = _scenes(tmp_path, rng)
    found = _predictions(rng, scenes)
    ours = _ours(found, _changed(scenes, lambda each: replace(each, segmentation=None)))
    assert ours == _ours(found, scenes, masks=False)
    assert ours == {name: value for name, value in _ours(found, scenes).items() if name.startswith("bbox")}


def test_nothing_found_is_zero_where_there_was_something_to_find(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path, np.random.default_rng(0))
    nothing = [
        Found(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
            np.zeros((0, scene.height, scene.width), bool),
        )
        for scene in scenes
    ]
    ours = _ours(nothing, scenes)
    assert set(ours.values()) == {0.0}
    assert len(ours) == 2 * (len(STATS) + 3)


def test_all_found_is_a_hundred(tmp_path: Path) -> None:
    """Of boxes in float32; a crowd is not asked for."""
    scenes = _scenes(tmp_path, np.random.default_rng(0))
    perfect = []
    for scene in scenes:
        sought = [each for each in scene.instances if not each.iscrowd]
        boxes = np.array([each.bbox for each in sought], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        runs = [instances.run_lengths(each.segmentation, scene.height, scene.width) for each in sought]
        masks = np.array([coco_mask.decode(each) for each in runs], bool).reshape(-1, scene.height, scene.width)
        labels = np.array([each.label for each in sought], np.int64)
        perfect.append(Found(boxes, np.ones(len(boxes), np.float32), labels, masks))
    assert _ours(perfect, scenes) == pytest.approx(dict.fromkeys(_ours(perfect, scenes), 100.0))


def test_a_set_without_images_is_refused_also_after_reset(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = _scenes(tmp_path, rng, count=4)
    found = _predictions(rng, scenes)
    metric = AveragePrecision(_manifest())
    with pytest.raises(InputError, match="over no images"):
        metric.compute()
    metric.update(found[::-1], scenes[::-1])
    metric.reset()
    assert metric.images == 0
    with pytest.raises(InputError, match="over no images"):
        metric.compute()
    metric.update(found, scenes)
    assert metric.compute() == _ours(found, scenes), "nothing is left of what was counted before"


def test_a_set_without_objects_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = _scenes(tmp_path, rng)
    found = _predictions(rng, scenes)
    with pytest.raises(InputError, match="no object in 16 validation images"):
        _ours(found, [replace(scene, instances=()) for scene in scenes])
    with pytest.raises(InputError, match="no object in 16 validation images"):
        _ours(found, _changed(scenes, lambda each: replace(each, iscrowd=True)))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = _scenes(tmp_path, rng, count=4)
    found = _predictions(rng, scenes)
    metric = AveragePrecision(_manifest())
    with pytest.raises(InputError, match="4 predictions for 3 labelled images"):
        metric.update(found, scenes[:3])
    for label in (-1, 4):
        strange = replace(scenes[0], instances=(replace(scenes[0].instances[0], label=label),))
        with pytest.raises(InputError, match=f"label {label} is none of the bundle's 4 classes"):
            AveragePrecision(_manifest()).update(found[:1], [strange])


def test_every_value_has_a_title(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = _scenes(tmp_path, rng)
    named = [name.split("/")[0] for name in _ours(_predictions(rng, scenes), scenes)]
    titles = [name for name in metrics.titles("detection") if "native" not in name]
    assert list(dict.fromkeys(named)) == titles, "the headline comes first"
