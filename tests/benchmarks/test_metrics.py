"""Top-1 and top-5, against a naive count and mmpretrain's own metric."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import metrics
from benchmarks.metrics.classification import TopK
from slipway_runtime.errors import BundleError
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
    with pytest.raises(BundleError, match="no accuracy metric for task 'juggling'; expected one of classification"):
        metrics.for_task(_manifest(task="juggling"))
