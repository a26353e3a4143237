"""Heads that select or decode in a way of their own: of random maps the same detections as mmdet's, for batches of any size."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import Tensor, nn
from traced import apart, one_graph, run

from deploy.tasks import detection
from train import compat

CLASSES, ROWS = 5, 30
STRIDES = (8, 16)
ANCHORS = dict(type="AnchorGenerator", ratios=[1.0], octave_base_scale=4, scales_per_octave=1, strides=STRIDES)
SMALL = dict(num_classes=CLASSES, in_channels=8, feat_channels=32)
LOGITS = (CLASSES, -2.0, 1.0)


@dataclass(frozen=True)
class Case:
    """A head.

    Attributes:
        head: its config.
        maps: of each kind of map, how many channels an anchor has, and the mean and the deviation of what is in them.
        control: an attribute of the head, and another value that must be seen.
        test: what its test config says besides.
        strides: of its levels.
    """

    head: dict[str, Any]
    maps: tuple[tuple[int, float | tuple[float, ...], float], ...]
    control: tuple[str, Any]
    test: dict[str, Any] = field(default_factory=dict)
    strides: tuple[int, ...] = STRIDES


CASES = {
    "gfl": Case(
        dict(type="GFLHead", reg_max=6, anchor_generator=ANCHORS, **SMALL),
        (LOGITS, (4 * 7, 0.0, 2.0)),
        ("bbox_coder.clip_border", False),
    ),
    "foveabox": Case(
        dict(type="FoveaHead", strides=STRIDES, base_edge_list=(16, 32), **SMALL),
        (LOGITS, (4, 0.0, 0.5)),
        ("base_edge_list", (16, 16)),
    ),
    "reppoints": Case(
        dict(type="RepPointsHead", point_feat_channels=8, point_strides=STRIDES, **SMALL),
        (LOGITS, (4, (-1.5, -1.5, 1.5, 1.5), 0.4)),  # torchvision knows no box whose corners are swapped, ONNX does
        ("point_strides", (8, 8)),
    ),
    "paa": Case(
        dict(type="PAAHead", score_voting=True, anchor_generator=ANCHORS, **SMALL),
        (LOGITS, (4, 0.0, 0.2), (1, 0.0, 1.0)),  # no box out of the image: its mean would be 0 / 0, mmdet's too
        ("with_score_voting", False),
    ),
    "fsaf": Case(
        dict(
            type="FSAFHead",
            anchor_generator=ANCHORS,
            bbox_coder=dict(type="TBLRBBoxCoder", normalizer=4.0),
            **SMALL,
        ),
        (LOGITS, (4, 0.1, 0.1)),
        ("bbox_coder.normalizer", 2.0),
        dict(min_bbox_size=0),
    ),
    "ssd": Case(
        dict(
            type="SSDHead",
            num_classes=CLASSES,
            in_channels=(8, 8, 8),
            anchor_generator=dict(
                type="SSDAnchorGenerator",
                input_size=300,
                strides=(8, 16, 32),
                ratios=([2], [2, 3], [2]),
                basesize_ratio_range=(0.15, 0.9),
            ),
        ),
        ((CLASSES + 1, 0.0, 1.0), (4, 0.0, 1.0)),
        ("bbox_coder.clip_border", False),
        strides=(8, 16, 32),
    ),
    "yolov3": Case(
        dict(
            type="YOLOV3Head",
            num_classes=CLASSES,
            in_channels=(8, 8),
            out_channels=(8, 8),
            featmap_strides=STRIDES[::-1],
            anchor_generator=dict(
                type="YOLOAnchorGenerator",
                base_sizes=[[(60, 40), (30, 80)], [(20, 30), (16, 10)]],
                strides=STRIDES[::-1],
            ),
        ),
        ((5 + CLASSES, 0.0, 1.0),),
        ("test_cfg.conf_thr", 0.1),
        dict(conf_thr=0.5, min_bbox_size=0),
        STRIDES[::-1],
    ),
    "centernet": Case(
        dict(type="CenterNetHead", **SMALL),
        ((CLASSES, 0.5, 0.1), (2, 5.0, 2.0), (2, 0.5, 0.2)),
        ("test_cfg.local_maximum_kernel", 1),
        dict(topk=ROWS, local_maximum_kernel=3),
        (4,),
    ),
}


class Predict(nn.Module):
    """A head's maps, kind by kind and level by level → what it predicts."""

    def __init__(self, head: Any, strides: Sequence[int]) -> None:
        super().__init__()
        self.head: Any = head
        self.strides = strides

    def forward(self, *maps: Tensor) -> Any:
        levels = len(self.strides)
        size = tuple(edge * self.strides[0] for edge in maps[0].shape[-2:])
        metas = [dict(img_shape=size, batch_input_shape=size, border=(0, 0, 0, 0))] * len(maps[0])
        kinds = [maps[first : first + levels] for first in range(0, len(maps), levels)]
        return self.head.predict_by_feat(*kinds, batch_img_metas=metas, rescale=False)


def example(case: Case, head: Any, batch: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Random maps of images of a height and width, by name."""
    generator = torch.Generator().manual_seed(sum(size))
    anchors = head.prior_generator.num_base_priors if hasattr(head, "prior_generator") else [1]
    return {
        f"map{kind}_{level}": torch.tensor(mean).reshape(-1, 1, 1)
        + deviation * torch.randn(batch, channels * each, size[0] // stride, size[1] // stride, generator=generator)
        for kind, (channels, mean, deviation) in enumerate(case.maps)
        for level, (each, stride) in enumerate(zip(anchors, case.strides, strict=True))
    }


def best_first(dets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as the graph has them; PAA's voting leaves mmdet's in the order of their classes."""
    order = dets[..., 4].sort(dim=1, descending=True, stable=True)[1]
    return dets.gather(1, order[..., None].expand_as(dets)), labels.gather(1, order)


@pytest.mark.parametrize("name", CASES)
def test_detections_are_mmdets(name: str, tmp_path: Path) -> None:
    compat.use("mmdet")
    case = CASES[name]
    test = dict(score_thr=0.2, nms_pre=100, nms=dict(type="nms", iou_threshold=0.5), max_per_img=ROWS, **case.test)
    head = MODELS.build(dict(**case.head, test_cfg=ConfigDict(test))).eval()
    model = Predict(head, case.strides)
    inputs = example(case, head, 2, (64, 96))
    outputs = {each: {0: "n", 1: "k"} for each in ("dets", "labels")}
    axes = {each: {0: "n", 2: f"{each}_h", 3: f"{each}_w"} for each in inputs} | outputs
    session = one_graph(model, inputs, list(outputs), axes, tmp_path / "head.onnx", scope="mmdet")
    for batch, size in ((2, (64, 96)), (3, (96, 128)), (1, (64, 64))):
        maps = example(case, head, batch, size).values()
        found = run(session, *maps)
        wanted = best_first(*detection._pack(model(*maps), ROWS).values())
        assert (wanted[1] >= 0).sum() > 5 * batch
        assert torch.equal(found["labels"], wanted[1])
        assert apart(found["dets"], wanted[0]) < 1e-5
        attribute, value = case.control
        place, _, last = attribute.rpartition(".")
        owner = attrgetter(place)(head) if place else head
        kept = getattr(owner, last)
        setattr(owner, last, value)
        control = best_first(*detection._pack(model(*maps), ROWS).values())
        setattr(owner, last, kept)
        assert apart(found["dets"], control[0]) > 1e-3
