"""The metrics, against naive counts and the mm* packages' own."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy import metrics
from deploy.metrics.classification import TopK
from deploy.metrics.segmentation import IoU
from slipway_runtime.errors import BundleError
from train.data import label_maps
from train.errors import InputError


def _manifest(classes: int = 10, task: str = "classification") -> Any:
    return SimpleNamespace(classes=tuple(map(str, range(classes))), task=task)


def _results(scores: NDArray, k: int = 5) -> list[Any]:
    return [SimpleNamespace(labels=row) for row in np.argsort(-scores, axis=1, kind="stable")[:, :k]]


@pytest.fixture
def case() -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(0)
    return rng.random((203, 10)).astype(np.float32), rng.integers(10, size=203)


def _measure(scores: NDArray, targets: NDArray, batch: int = 32) -> dict[str, float]:
    metric = metrics.for_task(_manifest())
    for start in range(0, len(scores), batch):
        metric.update(_results(scores[start : start + batch]), targets[start : start + batch].tolist())
    assert metric.images == len(scores)
    return metric.compute()


def test_topk_equals_a_naive_count(case: tuple[NDArray, NDArray]) -> None:
    scores, targets = case
    better = (scores > scores[np.arange(len(scores)), targets][:, None]).sum(axis=1)
    expected = {f"top{k}_percent": 100 * np.mean(better < k) for k in (1, 5)}
    found = _measure(scores, targets)
    assert found == pytest.approx(expected)
    assert next(iter(found)) == "top1_percent", "the headline comes first"
    assert _measure(scores, (targets + 1) % 10) != pytest.approx(expected), "other labels, other accuracy"


def test_topk_equals_mmpretrains(case: tuple[NDArray, NDArray]) -> None:
    evaluation = pytest.importorskip("mmpretrain.evaluation")
    torch = pytest.importorskip("torch")
    scores, targets = case
    top1, top5 = evaluation.Accuracy.calculate(torch.from_numpy(scores), torch.from_numpy(targets), topk=(1, 5))
    expected = {"top1_percent": float(top1[0]), "top5_percent": float(top5[0])}
    assert _measure(scores, targets) == pytest.approx(expected)


def test_fewer_classes_than_k() -> None:
    metric = TopK(_manifest(classes=3))
    metric.update([SimpleNamespace(labels=[2, 0, 1])], [0])
    assert metric.compute() == {"top1_percent": 0, "top5_percent": 100}


def test_an_empty_set_is_refused_also_after_reset() -> None:
    metric = TopK(_manifest())
    metric.update([SimpleNamespace(labels=range(5))], [0])
    metric.reset()
    with pytest.raises(InputError, match="over no images"):
        metric.compute()


@pytest.mark.parametrize(
    ("labels", "targets", "message"),
    [
        (range(5), [0, 1], "1 predictions for 2 labels"),
        (range(4), [0], r"top-5 needs 5 ranked labels an image, the bundle gives 4"),
        (range(5), [10], "label 10 is none of the bundle's 10 classes"),
        (range(5), [-1], "label -1"),
    ],
)
def test_what_cannot_be_counted_is_refused(labels: Any, targets: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TopK(_manifest()).update([SimpleNamespace(labels=labels)], targets)


def test_a_task_without_a_metric() -> None:
    with pytest.raises(BundleError, match="task 'juggling'; expected one of classification, detection, segmentation"):
        metrics.for_task(_manifest(task="juggling"))


def _maps(rng: np.random.Generator, classes: Sequence[int], ignore: float) -> tuple[NDArray, NDArray]:
    """A prediction and a label map, both uint8 37×53, of the given classes; a share of the labels is 255."""
    predicted, labels = rng.choice(classes, size=(2, 37, 53)).astype(np.uint8)
    predicted = np.where(rng.random(labels.shape) < 0.6, labels, predicted)
    return predicted, np.where(rng.random(labels.shape) < ignore, 255, labels).astype(np.uint8)


def _segmented(folder: Path, pairs: Sequence[tuple[NDArray, NDArray]], classes: int = 7) -> dict[str, float]:
    """What our metric says of predictions and label maps, which it reads from files."""
    metric = metrics.for_task(_manifest(classes, "segmentation"))
    paths = [folder / f"{i}.png" for i in range(len(pairs))]
    for path, (_, labels) in zip(paths, pairs, strict=True):
        label_maps.save(path, labels, label_maps.coloured(list(map(str, range(classes)))))
    results = [SimpleNamespace(label_map=predicted) for predicted, _ in pairs]
    for start in range(0, len(pairs), 4):
        metric.update(results[start : start + 4], paths[start : start + 4])
    assert metric.images == len(pairs)
    return metric.compute()


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (range(7), range(7)),
        ([0, 1, 4], [0, 4, 6]),  # 2, 3 and 5 occur nowhere
        ([3], [3]),
    ],
)
def test_segmentation_equals_mmsegs(tmp_path: Path, here: Sequence[int], there: Sequence[int]) -> None:
    evaluation = pytest.importorskip("mmseg.evaluation")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    pairs = [_maps(rng, here if i % 2 else there, ignore=0.2) for i in range(9)]
    pairs[0][0][:5] = 2  # predicted where it never is true
    found = _segmented(tmp_path, pairs)

    reference = evaluation.IoUMetric(iou_metrics=["mIoU", "mDice"])
    reference.dataset_meta = {"classes": tuple(map(str, range(7)))}
    for predicted, labels in pairs:
        data = {"pred_sem_seg": {"data": torch.from_numpy(predicted)}, "gt_sem_seg": {"data": torch.from_numpy(labels)}}
        reference.process({}, [data])
    areas = [sum(column) for column in zip(*reference.results, strict=True)]
    exact = reference.total_area_to_metrics(*areas, metrics=["mIoU", "mDice"])
    for name, theirs in (("iou", exact["IoU"]), ("acc", exact["Acc"]), ("dice", exact["Dice"])):
        ours = [found.get(f"{name}_percent/{label}", np.nan) for label in range(7)]
        assert np.array(ours) / 100 == pytest.approx(theirs, abs=1e-6, nan_ok=True)
        assert found[f"m{name}_percent"] / 100 == pytest.approx(np.nanmean(theirs), abs=1e-6)
    assert found["aacc_percent"] / 100 == pytest.approx(float(exact["aAcc"]), abs=1e-6)
    # What it logs, rounded to two digits.
    logged = reference.compute_metrics(reference.results)
    names = {"miou_percent": "mIoU", "macc_percent": "mAcc", "aacc_percent": "aAcc", "mdice_percent": "mDice"}
    assert {theirs: found[ours] for ours, theirs in names.items()} == pytest.approx(logged, abs=0.00501)
    assert next(iter(found)) == "miou_percent", "the headline comes first"


def test_segmentation_equals_a_naive_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pairs = [_maps(rng, range(7), ignore=0.3) for _ in range(3)]
    predicted, labels = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in range(2))
    predicted, labels = predicted[labels != 255], labels[labels != 255]
    ratios = []
    for label in range(7):
        union = np.sum((predicted == label) | (labels == label))
        ratios.append(np.sum((predicted == label) & (labels == label)) / union)
    found = _segmented(tmp_path, pairs)
    assert found["miou_percent"] == pytest.approx(100 * np.mean(ratios))
    assert found["aacc_percent"] == pytest.approx(100 * np.mean(predicted == labels))
    turned = [(predicted[::-1], labels) for predicted, labels in pairs]
    assert _segmented(tmp_path, turned)["miou_percent"] < found["miou_percent"] - 10, "other predictions, other mIoU"


def test_classes_that_are_nowhere_have_no_value(tmp_path: Path) -> None:
    found = _segmented(tmp_path, [(np.uint8([[0, 0, 1]]), np.uint8([[0, 0, 0]]))])
    assert found["iou_percent/0"] == pytest.approx(200 / 3)
    assert (found["iou_percent/1"], found["dice_percent/1"]) == (0, 0)
    assert "acc_percent/1" not in found
    assert not any(name.endswith("/2") for name in found)
    assert found["miou_percent"] == pytest.approx(100 / 3)
    assert not np.isnan(list(found.values())).any()


def test_label_maps_that_cannot_be_counted_are_refused(tmp_path: Path) -> None:
    fits = np.zeros((4, 5), np.uint8)
    with pytest.raises(InputError, match=r"0\.png: the label map is 4×5, its image 5×4"):
        _segmented(tmp_path, [(fits, fits.T.copy())])
    with pytest.raises(InputError, match=r"0\.png: label 7 is none of the bundle's 7 classes"):
        _segmented(tmp_path, [(fits, fits + 7)])
    with pytest.raises(InputError, match=r"0\.png: label 254 is none"):
        _segmented(tmp_path, [(fits, fits + 254)])
    with pytest.raises(InputError, match="every pixel of 1 label maps is 255"):
        _segmented(tmp_path, [(fits, fits + 255)])
    with pytest.raises(InputError, match="over no images"):
        _segmented(tmp_path, [])
    with pytest.raises(InputError, match="1 predictions for 0 label maps"):
        IoU(_manifest(7)).update([SimpleNamespace(label_map=fits)], [])


def test_every_metric_has_a_title(tmp_path: Path, case: tuple[NDArray, NDArray]) -> None:
    fits = np.zeros((4, 5), np.uint8)
    for task, found in (("classification", _measure(*case)), ("segmentation", _segmented(tmp_path, [(fits, fits)]))):
        titles = metrics.titles(task)
        assert list(titles) == list(dict.fromkeys(name.split("/")[0] for name in found)), "the headline comes first"
