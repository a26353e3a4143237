"""Suppression in standard operators: what mmcv computes image by image, for a batch of any size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from mmcv.ops import batched_nms
from torch import Tensor, nn
from traced import one_graph, run

from deploy import detections
from deploy.detections import NONE

#: What a test config says of suppression, and how many rows the result has.
NMS: dict[str, tuple[dict[str, Any], int | None]] = {
    "all": (dict(type="nms", iou_threshold=0.5), None),
    "hundred": (dict(type="nms", iou_threshold=0.6), 100),
    "five hundred": (dict(type="nms", iou_threshold=0.7), 500),
    "agnostic": (dict(type="nms", iou_threshold=0.5, class_agnostic=True), 100),
}
Rows = tuple[Tensor, Tensor, Tensor]


class Suppress(nn.Module):
    """Indices and scores of what each suppression keeps."""

    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> tuple[Tensor, ...]:
        kept = [detections.suppress(boxes, scores, groups, nms, count) for nms, count in NMS.values()]
        return tuple(each for pair in kept for each in pair)


def rows(batch: int, count: int, classes: int = 80, seed: int = 0, spread: float = 1300) -> Rows:
    """Clusters of boxes, a fifth of the rows empty; many scores are equal, in an image and between images."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(batch, 1 + count // 5, 2, generator=generator) * spread
    own = torch.randint(centres.shape[1], (batch, count, 1), generator=generator).expand(-1, -1, 2)
    corners = centres.gather(1, own) + torch.randn(batch, count, 2, generator=generator) * 4
    boxes = torch.cat([corners, corners + 40 + torch.rand(batch, count, 2, generator=generator) * 20], 2)
    scores = torch.randint(1, 200, (batch, count), generator=generator) / 200
    scores[torch.rand(batch, count, generator=generator) < 0.2] = NONE
    groups = torch.randint(classes, (batch, count), generator=generator)
    return boxes.clamp(min=0), scores, groups


def kept(image: tuple[Tensor, ...], nms: dict[str, Any], count: int | None) -> tuple[Tensor, Tensor]:
    """What mmcv keeps of an image: indices of its rows, best first, and scores."""
    boxes, scores, groups = image
    present = torch.nonzero(scores > NONE)[:, 0]
    if not len(present):
        return present, scores[present]
    dets, index = batched_nms(boxes[present], scores[present], groups[present], nms)
    return present[index][:count], dets[:count, 4]


def differences(found: dict[str, Tensor], inputs: Rows, expected: str | None = None) -> Iterator[str]:
    """Where a graph's suppressions are not mmcv's, or with `expected` not those of another one."""
    for name in NMS:
        index, scores = found[f"{name} index"], found[f"{name} scores"]
        nms, count = NMS[expected or name]
        if index.shape != (len(index), count or inputs[0].shape[1]):
            yield f"{name}: {tuple(index.shape)}"
        for image, each in enumerate(zip(*inputs, strict=True)):
            wanted, ranks = kept(each, nms, count)
            total = len(wanted)
            if not (
                torch.equal(index[image, :total], wanted)
                and torch.equal(scores[image, :total], ranks)
                and (scores[image, total:] == NONE).all()
                and (index[image] < inputs[0].shape[1]).all()
            ):
                yield f"{name}: image {image}"


@pytest.fixture(scope="module")
def suppression(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    """One graph for any batch and any number of rows."""
    axes = {name: {0: "n", 1: "m"} for name in ("boxes", "scores", "groups")}
    inputs = dict(zip(axes, rows(2, 300), strict=True))
    names = [f"{name} {what}" for name in NMS for what in ("index", "scores")]
    sizes = {name: {0: "n", 1: "k"} for name in names}
    return one_graph(Suppress(), inputs, names, axes | sizes, tmp_path_factory.mktemp("nms") / "nms.onnx")


@pytest.mark.parametrize("count", [1, 30, 400, 1500])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_suppression_is_mmcvs(suppression: onnxruntime.InferenceSession, batch: int, count: int) -> None:
    inputs = rows(batch, count, seed=count)
    assert not list(differences(run(suppression, *inputs), inputs))


def test_more_than_three_hundred_are_kept(suppression: onnxruntime.InferenceSession) -> None:
    inputs = rows(2, 900, seed=1, spread=20000)
    found = run(suppression, *inputs)
    assert not list(differences(found, inputs))
    assert (found["five hundred scores"] > NONE).sum(1).min() == 500
    assert (found["all scores"] > NONE).sum(1).min() > 500


def test_images_without_candidates_and_with_one(suppression: onnxruntime.InferenceSession) -> None:
    inputs = rows(4, 50, seed=2)
    inputs[1][1], inputs[1][2, 1:] = NONE, NONE
    inputs[1][2, 0] = 0.5
    found = run(suppression, *inputs)
    assert not list(differences(found, inputs))
    assert (found["all scores"] > NONE).sum(1)[1:3].tolist() == [0, 1]
    inputs[1][:] = NONE
    found = run(suppression, *inputs)
    assert not list(differences(found, inputs))
    assert (found["hundred scores"] == NONE).all()


def test_equal_scores_keep_their_order(suppression: onnxruntime.InferenceSession) -> None:
    boxes, scores, groups = rows(3, 200, seed=3)
    inputs = boxes, torch.where(scores > NONE, 0.25, NONE), groups
    assert not list(differences(run(suppression, *inputs), inputs))


def test_an_overlap_at_the_threshold_is_none_above_it(suppression: onnxruntime.InferenceSession) -> None:
    """Of IoU 1/2, where the threshold is that too, and a little more."""
    boxes = torch.tensor([[[0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 8, 4.25], [4, 4, 4, 4], [4, 4, 4, 4]]])
    inputs = boxes, torch.tensor([[0.9, 0.8, 0.1, 0.5, 0.4]]), torch.zeros(1, 5, dtype=torch.int64)
    found = run(suppression, *inputs)
    assert not list(differences(found, inputs))
    assert found["all index"][0, : (found["all scores"][0] > NONE).sum()].tolist() == [0, 1, 3, 4]


def test_what_empty_rows_hold_does_not_matter(suppression: onnxruntime.InferenceSession) -> None:
    """Far from the origin, float32 is coarse: groups moved further apart than mmcv moves them are suppressed otherwise."""
    boxes, scores, groups = rows(2, 400, seed=6)
    inputs = torch.where((scores > NONE)[..., None], boxes, boxes * 1e4), scores, groups
    assert not list(differences(run(suppression, *inputs), inputs))


def test_boxes_left_of_and_above_the_image(suppression: onnxruntime.InferenceSession) -> None:
    """mmcv moves groups apart by the largest coordinate, also where that is negative."""
    boxes, scores, groups = rows(2, 200, classes=3, seed=4, spread=300)
    inputs = boxes - 500, scores, groups
    assert not list(differences(run(suppression, *inputs), inputs))


def test_control_another_suppression_is_noticed(suppression: onnxruntime.InferenceSession) -> None:
    """Groups that were not moved apart, and another threshold."""
    inputs = rows(1, 400, seed=5, spread=200)
    found = run(suppression, *inputs)
    assert list(differences(found, inputs, "all")) == ["hundred: (1, 100)", "hundred: image 0"] + [
        message
        for name in ("five hundred", "agnostic")
        for message in (f"{name}: (1, {NMS[name][1]})", f"{name}: image 0")
    ]
    moved = dict(found)
    moved["all index"] = found["all index"].roll(1, 1)
    assert list(differences(moved, inputs)) == ["all: image 0"]


def test_outputs_of_rows_without_a_detection() -> None:
    boxes, scores, labels = torch.ones(1, 3, 4), torch.tensor([[0.5, 0.0, NONE]]), torch.tensor([[2, 0, 1]])
    dets, found = detections.outputs(boxes, scores, labels)
    assert found.tolist() == [[2, 0, -1]]
    assert dets.tolist() == [[[1, 1, 1, 1, 0.5], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]]]


def test_boxes_are_cut_to_height_and_width() -> None:
    boxes = torch.tensor([[-3.0, -4, 200, 300], [10, 20, 30, 40]])
    assert detections.clip(boxes, (50, 100)).tolist() == [[0, 0, 100, 50], [10, 20, 30, 40]]


def test_boxes_that_are_large_enough() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 0], [3, 0, 1, 2]])
    assert detections.large_enough(boxes, 0).tolist() == [True, False, False]
    assert detections.large_enough(boxes, 2).tolist() == [False, False, False]


def test_only_standard_operators(tmp_path: Path) -> None:
    """`one_graph` checks each graph; here is one that it must refuse."""
    from train.errors import VerificationError

    class Foreign(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x + 1

        @staticmethod
        def symbolic(g: Any, x: Any) -> Any:
            return g.op("mmdeploy::Foreign", x)

    class Model(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (Foreign.apply(x),)

    path = tmp_path / "foreign.onnx"
    with pytest.raises(VerificationError, match=r"outside ai\.onnx: mmdeploy::Foreign"):
        one_graph(Model(), {"x": torch.zeros(2)}, ["y"], {}, path)
    assert onnx.load(path).graph.node[0].domain == "mmdeploy"
