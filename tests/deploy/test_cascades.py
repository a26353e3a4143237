"""RoI heads of several stages in standard operators: mmdet's boxes and masks, whatever proposals an image has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmdet
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn
from traced import one_graph, run

from deploy.matching import Matched
from deploy.tasks import detection
from deploy.unpasted import Unpasted
from train import compat
from train.errors import UsageError

CLASSES, CHANNELS, ROWS, STRIDES = 3, 4, 12, (8, 16)


def extractor(size: int, strides: Sequence[int] = STRIDES) -> dict[str, Any]:
    align = dict(type="RoIAlign", output_size=size, sampling_ratio=2)
    return dict(type="SingleRoIExtractor", roi_layer=align, out_channels=CHANNELS, featmap_strides=list(strides))


def coder(**options: Any) -> dict[str, Any]:
    return dict(type="DeltaXYWHBBoxCoder", target_stds=[0.1, 0.1, 0.2, 0.2], **options)


def boxes(*, agnostic: bool) -> dict[str, Any]:
    sizes = dict(in_channels=CHANNELS, fc_out_channels=8, roi_feat_size=3, num_classes=CLASSES)
    return dict(type="Shared2FCBBoxHead", bbox_coder=coder(), reg_class_agnostic=agnostic, **sizes)


def drawn(**options: Any) -> dict[str, Any]:
    masks = dict(num_convs=1, in_channels=CHANNELS, conv_out_channels=CHANNELS, num_classes=CLASSES)
    return {**masks, "roi_feat_size": 6, **options}


def dynamic(size: int, **options: Any) -> dict[str, Any]:
    sizes = dict(in_channels=CHANNELS, feat_channels=2, out_channels=CHANNELS, input_feat_shape=size)
    return dict(type="DynamicConv", **sizes, **options)


TEST = dict(score_thr=0.1, nms=dict(type="nms", iou_threshold=0.5), max_per_img=ROWS, mask_thr_binary=0.5)
SEMANTIC = dict(
    type="FusedSemanticHead",
    num_ins=2,
    fusion_level=1,
    num_convs=1,
    in_channels=CHANNELS,
    conv_out_channels=CHANNELS,
    num_classes=CLASSES,
)
HEADS: dict[str, dict[str, Any]] = {
    "cascade": dict(
        type="CascadeRoIHead",
        num_stages=2,
        bbox_head=[boxes(agnostic=False), boxes(agnostic=True)],
        mask_head=drawn(type="FCNMaskHead"),
    ),
    "htc": dict(
        type="HybridTaskCascadeRoIHead",
        num_stages=2,
        bbox_head=boxes(agnostic=True),
        mask_head=[drawn(type="HTCMaskHead", with_conv_res=False), drawn(type="HTCMaskHead")],
        semantic_roi_extractor=extractor(6, [16]),
        semantic_head=SEMANTIC,
    ),
    "queries": dict(
        type="SparseRoIHead",
        num_stages=2,
        proposal_feature_channel=CHANNELS,
        bbox_head=dict(
            type="DIIHead",
            num_classes=CLASSES,
            num_heads=2,
            feedforward_channels=8,
            in_channels=CHANNELS,
            dynamic_conv_cfg=dynamic(3),
            loss_cls=dict(type="FocalLoss", use_sigmoid=True),
            bbox_coder=coder(clip_border=False),
        ),
        mask_head=drawn(type="DynamicMaskHead", dynamic_conv_cfg=dynamic(6, with_proj=False)),
    ),
}


class Predicts(nn.Module):
    """A RoI head's detections of features and proposals: `dets`, `labels` and `masks`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        compat.use("mmdet")
        torch.manual_seed(0)
        settings = dict(
            bbox_roi_extractor=extractor(3),
            mask_roi_extractor=extractor(6),
            stage_loss_weights=[1, 1],
            test_cfg=TEST,
        )
        self.head = MODELS.build(ConfigDict(HEADS[name], **settings))
        self.queries = None
        if name == "queries":
            self.queries = MODELS.build(
                dict(type="EmbeddingRPNHead", num_proposals=ROWS, proposal_feature_channel=CHANNELS)
            )
            nn.init.uniform_(self.queries.init_proposal_bboxes.weight, 0.2, 0.8)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.mul_(3)
        self.eval()

    def forward(self, fine: Tensor, coarse: Tensor, dets: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Proposals as the graph has them: `dets` N×P×5 and `labels` N×P, −1 where there is none."""
        height, width = (edge * STRIDES[0] for edge in fine.shape[2:])
        samples = detection._samples(fine[:, :1, :1, :1].expand(-1, 1, height, width))
        proposals: Any = (dets, labels)
        traced = torch.onnx.is_in_onnx_export()
        if self.queries is not None:
            proposals = self.queries.predict((fine, coarse), samples)
        elif not traced:
            proposals = [InstanceData(bboxes=own[real, :4]) for own, real in zip(dets, labels >= 0, strict=True)]
        if traced:
            found: tuple[Tensor, ...] = self.head.predict((fine, coarse), proposals, samples)
            return found
        with Unpasted(self.head, True) as unpasted:
            listed = self.head.predict((fine, coarse), proposals, samples)
        return tuple(detection._pack(listed, ROWS, unpasted.masks(listed)).values())


def inputs(counts: Sequence[int], height: int, width: int) -> dict[str, Tensor]:
    """Two levels' features and proposals, as many as asked of each image."""
    generator = torch.Generator().manual_seed(height + len(counts))
    edges = [(len(counts), CHANNELS, height * 2 // step, width * 2 // step) for step in (1, 2)]
    fine, coarse = (torch.randn(*shape, generator=generator) for shape in edges)
    corners = torch.rand(len(counts), 9, 2, generator=generator) * 8 * min(height, width)
    boxes = torch.cat([corners, corners + 8 + torch.rand(corners.shape, generator=generator) * 60], 2)
    labels = torch.stack([torch.where(torch.arange(9) < count, 0, -1) for count in counts])
    dets = torch.cat([boxes, torch.rand(len(counts), 9, 1, generator=generator)], 2)
    return dict(fine=fine, coarse=coarse, dets=torch.where(labels[..., None] < 0, 0, dets), labels=labels)


@pytest.mark.parametrize("name", HEADS)
def test_a_cascade_is_mmdets(name: str, tmp_path: Path) -> None:
    model = Predicts(name)
    names = ("dets_", "labels_", "masks")
    axes: dict[str, dict[int, str]] = {
        "fine": {0: "n", 2: "h", 3: "w"},
        "coarse": {0: "n", 2: "h2", 3: "w2"},
        "dets": {0: "n"},
        "labels": {0: "n"},
        **{each: {0: "n"} for each in names},
    }
    session = one_graph(model, inputs((9, 4), 6, 8), names, axes, tmp_path / "head.onnx", scope="mmdet")
    matched, control = Matched(), Matched()
    for counts, height, width in (((9, 3), 6, 8), ((0, 5, 1), 9, 5), ((7,), 4, 4), ((0, 0), 6, 6)):
        given = inputs(counts, height, width)
        with torch.no_grad():
            wanted = dict(
                zip(("dets", "labels", "masks"), (each.numpy() for each in model(*given.values())), strict=True)
            )
        taken = [given[each.name] for each in session.get_inputs()]  # queries need no proposals
        found = {key.strip("_"): value.numpy() for key, value in run(session, *taken).items()}
        assert found["masks"].shape == wanted["masks"].shape == (len(counts), ROWS, 12, 12)
        matched.update(found, wanted)
        control.update({**found, "masks": np.flip(found["masks"], 2)}, wanted)
    assert matched.passed, matched
    assert not matched.excused
    assert matched.matched > 20
    assert not control.passed, "control: masks upside down"


def shipped(name: str) -> Config:
    """A config of mmdet's wheel."""
    compat.use("mmdet")
    return Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / name)


def test_boxes_of_queries_may_end_outside_the_image() -> None:
    for name, clip in (("queryinst/queryinst", False), ("cascade_rcnn/cascade-mask-rcnn", True)):
        config = shipped(f"{name}_r50_fpn_1x_coco.py")
        detection.check(config)
        postprocess = detection.postprocess(config, Config(), ())
        assert postprocess.clip is clip
        assert postprocess.masks is not None
        assert postprocess.masks.over == "box"


def test_masks_that_are_made_another_way_are_refused() -> None:
    with pytest.raises(UsageError, match="'PointRendRoIHead': no exact rewrite of its predict_mask"):
        detection.check(shipped("point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py"))
