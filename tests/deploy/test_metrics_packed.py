"""What metrics keep of each image gives their own headline, of the set and of any resample of it."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy import metrics
from slipway_runtime.manifest import DetectionOutput
from train.data import label_maps
from train.data.instances import Instance, Labelled
from train.errors import InputError

IMAGES, CLASSES = 25, 4

Case = tuple[list[Any], list[Any]]


@dataclass
class Found:
    """A prediction, as the runtime gives it."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: None = None


def _classified(rng: np.random.Generator, folder: Path) -> Case:
    targets = rng.integers(CLASSES, size=IMAGES).tolist()
    results = [rng.permutation(CLASSES) if rng.random() < 0.6 else np.roll(range(CLASSES), -t) for t in targets]
    return [SimpleNamespace(labels=labels) for labels in results], targets


def _segmented(rng: np.random.Generator, folder: Path) -> Case:
    """Some classes are in few images only, so that resamples lack them."""
    results, targets = [], []
    for number in range(IMAGES):
        classes = range(CLASSES) if number in (3, 4) else range(2)
        predicted, labels = rng.choice(classes, size=(2, 13, 17)).astype(np.uint8)
        labels = np.where(rng.random(labels.shape) < 0.2, 255, labels).astype(np.uint8)
        targets.append(folder / f"{number}.png")
        label_maps.save(targets[-1], labels, label_maps.coloured(list("abcd")))
        results.append(SimpleNamespace(label_map=predicted))
    return results, targets


def _detected(rng: np.random.Generator, folder: Path) -> Case:
    """Crowds, images without objects or detections, more detections than count, and a class in few images."""
    results, targets = [], []
    for number in range(IMAGES):
        objects, boxes, labels = [], [], []
        for _ in range(0 if number == 2 else rng.integers(1, 5)):
            label = 3 if number in (5, 6) else int(rng.integers(2))
            x, y, width, height = np.concatenate([rng.uniform(0, 100, 2), rng.uniform(20, 90, 2)]).tolist()
            crowd = bool(rng.random() < 0.15)
            objects.append(
                Instance(label=label, bbox=(x, y, width, height), area=width * height, iscrowd=crowd, segmentation=None)
            )
            for _ in range(rng.integers(4)):
                boxes.append(np.array([x, y, x + width, y + height]) + rng.normal(0, 6, 4))
                labels.append(label)
        for _ in range(130 if number == 7 else rng.integers(6)):
            corner = rng.uniform(0, 100, 2)
            boxes.append(np.concatenate([corner, corner + rng.uniform(5, 60, 2)]))
            labels.append(int(rng.integers(CLASSES - 1)))
        if number == 9:
            boxes, labels = [], []
        # No score twice within an image: copies of an image then have one order of detections.
        scores = rng.permutation(300)[: len(boxes)].astype(np.float32) / np.float32(300)
        found = Found(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int64))
        results.append(found)
        targets.append(Labelled(height=200, width=200, instances=tuple(objects)))
    return results, targets


CASES: dict[str, Callable[[np.random.Generator, Path], Case]] = {
    "classification": _classified,
    "segmentation": _segmented,
    "detection": _detected,
}


def _count(task: str, results: Sequence[Any], targets: Sequence[Any]) -> metrics.Metric:
    names = tuple("abcd")
    output = DetectionOutput(clip=True, masks=None) if task == "detection" else None
    manifest: Any = SimpleNamespace(task=task, classes=names, postprocess=output)
    metric = metrics.for_task(manifest)
    for start in range(0, len(results), 4):
        metric.update(results[start : start + 4], targets[start : start + 4])
    return metric


def _headline(metric: metrics.Metric) -> float:
    return next(iter(metric.compute().values()))


@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_ones_give_the_headline(task: str, seed: int, tmp_path: Path) -> None:
    metric = _count(task, *CASES[task](np.random.default_rng(seed), tmp_path))
    packed = metric.packed()
    assert 5 < _headline(metric) < 95
    assert metric.packed() == packed, "compute() changes nothing"
    (value,) = metrics.resampled(task, packed, np.ones((1, IMAGES), np.int64))
    assert value == pytest.approx(_headline(metric), rel=1e-12)


@pytest.mark.parametrize("task", CASES)
def test_weights_give_the_headline_of_the_set_with_these_copies(task: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    results, targets = CASES[task](rng, tmp_path)
    weights = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=12)
    found = metrics.resampled(task, _count(task, results, targets).packed(), weights)
    for value, often in zip(found, weights, strict=True):
        copies = np.repeat(np.arange(IMAGES), often)
        real = _headline(_count(task, [results[i] for i in copies], [targets[i] for i in copies]))
        assert value == pytest.approx(real, rel=1e-12)
    assert len(set(found.tolist())) > 3, "resamples differ"


@pytest.mark.parametrize("task", CASES)
def test_other_predictions_of_one_image_are_another_value(task: str, tmp_path: Path) -> None:
    """The control: what is kept of an image counts."""
    results, targets = CASES[task](np.random.default_rng(1), tmp_path)
    before = _count(task, results, targets).packed()
    # Of the first image whose exchange the metric itself sees.
    for number in range(1, IMAGES):
        changed = [*results[:number], results[0], *results[number + 1 :]]
        metric = _count(task, changed, targets)
        if _headline(metric) != _headline(_count(task, results, targets)):
            break
    ones = np.ones((1, IMAGES), np.int64)
    assert metrics.resampled(task, metric.packed(), ones) != metrics.resampled(task, before, ones)
    without = ones.copy()
    without[0, number] = 0
    assert metrics.resampled(task, metric.packed(), without) == metrics.resampled(task, before, without)
    assert np.array_equal(metrics.truth(metric.packed()), metrics.truth(before))


@pytest.mark.parametrize("task", CASES)
def test_nothing_to_count_is_no_number(task: str, tmp_path: Path) -> None:
    packed = _count(task, *CASES[task](np.random.default_rng(1), tmp_path)).packed()
    assert np.isnan(metrics.resampled(task, packed, np.zeros((1, IMAGES), np.int64))).all()


def test_only_a_share_of_images_has_right_ones(tmp_path: Path) -> None:
    results, targets = _classified(np.random.default_rng(0), tmp_path)
    metric = _count("classification", results, targets)
    right = metrics.right("classification", metric.packed())
    assert right is not None
    assert right.tolist() == [result.labels[0] == target for result, target in zip(results, targets, strict=True)]
    for task in ("segmentation", "detection"):
        assert metrics.right(task, _count(task, *CASES[task](np.random.default_rng(1), tmp_path)).packed()) is None


@pytest.mark.parametrize("task", CASES)
def test_what_is_forgotten_is_not_packed(task: str, tmp_path: Path) -> None:
    results, targets = CASES[task](np.random.default_rng(1), tmp_path)
    metric = _count(task, results, targets)
    alone = metric.packed()
    metric.reset()
    with pytest.raises(InputError, match="over no images"):
        metric.packed()
    metric.update(results, targets)
    assert metric.packed() == alone
    metric.update(results[:1], targets[:1])
    assert len(metrics.truth(metric.packed())) == IMAGES + 1


def test_another_truth_is_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    results, targets = _detected(rng, tmp_path)
    fewer = [replace(targets[0], instances=targets[0].instances[:-1]), *targets[1:]]
    before, after = (metrics.truth(_count("detection", results, each).packed()) for each in (targets, fewer))
    assert not np.array_equal(before, after)


def test_damaged_texts_are_refused(tmp_path: Path) -> None:
    packed = _count("classification", *_classified(np.random.default_rng(0), tmp_path)).packed()
    ones = np.ones((1, IMAGES), np.int64)
    for bad in (
        "",
        "no base64!",
        packed[: len(packed) // 8 * 4],
        base64.b64encode(b"PK").decode(),
        metrics.pack(a=ones),
    ):
        with pytest.raises(InputError, match=r"per-image data: .*measure again"):
            metrics.resampled("classification", bad, ones)
    with pytest.raises(InputError, match="expected those of segmentation"):
        metrics.resampled("segmentation", packed, ones)
    with pytest.raises(ValueError, match="B×25 images"):
        metrics.resampled("classification", packed, ones[:, 1:])
