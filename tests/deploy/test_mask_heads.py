"""Mask heads of one stage and of queries: the graph's detections and masks are mmdet's, at every size, for a batch."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from pyramid import Pyramid, shrunk
from torch import nn
from traced import one_graph, run

from deploy.matching import Matched
from deploy.tasks import detection
from deploy.trace import Traced
from deploy.zoo.seeding import images
from slipway_runtime.manifest import DetectionOutput, Masks
from train import compat
from train.errors import UsageError

WHEEL = Path(mmdet.__file__).parent / ".mim" / "configs"
CHANNELS, CLASSES = 8, 3
NORM = dict(type="GN", num_groups=4)
OUTPUT = DetectionOutput(clip=True, masks=Masks(over="image", threshold=0.5))
#: Batch, height, width; the first one is traced.
SIZES = ((2, 96, 128), (1, 64, 64), (3, 128, 96))
SOLO_TEST = dict(nms_pre=40, score_thr=0.1, mask_thr=0.5, filter_thr=0.05, kernel="gaussian", sigma=2.0, max_per_img=20)


def _head(options: dict[str, Any], test: dict[str, Any]) -> Any:
    compat.use("mmdet")
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(**options, test_cfg=ConfigDict(test)))


def _solo(kind: str = "SOLOHead", **options: Any) -> Pyramid:
    grids = dict(num_grids=[7, 5, 4, 3, 2], strides=[8, 8, 16, 32, 32], stacked_convs=1, feat_channels=CHANNELS)
    head = _head(
        dict(type=kind, num_classes=CLASSES, in_channels=CHANNELS, norm_cfg=NORM, **grids, **options), SOLO_TEST
    )
    return Pyramid((4, 8, 16, 32, 64), CHANNELS, mask_head=head, bbox_head=None)


def _solov2() -> Pyramid:
    features = dict(feat_channels=CHANNELS, start_level=0, end_level=3, out_channels=4, mask_stride=4, norm_cfg=NORM)
    model = _solo("SOLOV2Head", mask_feature_head=features)
    model.mask_head.conv_kernel.weight.mul_(2)
    return model


def _yolact() -> Pyramid:
    parts = Config.fromfile(WHEEL / "yolact/yolact_r50_1xb8-55e_coco.py").model
    small = dict(num_classes=CLASSES, in_channels=CHANNELS, num_protos=4)
    test = dict(parts.test_cfg, nms_pre=60, top_k=30, max_per_img=20)
    boxes = _head({**parts.bbox_head, **small, "feat_channels": CHANNELS}, test)
    masks = _head({**parts.mask_head, **small, "proto_channels": (8, None, 4), "proto_kernel_sizes": (3, -2, 1)}, test)
    return Pyramid((8, 16, 32, 64, 128), CHANNELS, bbox_head=boxes, mask_head=masks)


def _mask2former() -> Pyramid:
    parts = Config.fromfile(WHEEL / "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py").model
    small = shrunk(parts.panoptic_head, {256: 32, 1024: 64, 2048: 64, 128: 16, 512: 32, 6: 1, 9: 2, 100: 12})
    small |= dict(in_channels=[CHANNELS] * 4, num_things_classes=2, num_stuff_classes=1, num_queries=12)
    small["loss_cls"]["class_weight"] = [1.0] * 4
    test = dict(panoptic_on=False, instance_on=True, max_per_image=20)
    fusion = _head(dict(type="MaskFormerFusionHead", num_things_classes=2, num_stuff_classes=1), test)
    model = Pyramid((4, 8, 16, 32), CHANNELS, panoptic_head=_head(small, test), panoptic_fusion_head=fusion)
    for name, parameter in model.named_parameters():
        if name.endswith("sampling_offsets.bias") or "embed.weight" in name:
            nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("make", [_solo, _solov2, _yolact, _mask2former])
def test_detections_and_masks_are_mmdets_at_every_size(make: Callable[[], Pyramid], tmp_path: Path) -> None:
    model = make()
    names = ("dets", "labels", "masks")
    axes = {"input": {0: "n", 2: "h", 3: "w"}}
    axes |= {name: {0: "n", **by_size} for name, by_size in detection.outputs(OUTPUT).items()}
    traced = Traced(copy.deepcopy(model), detection, OUTPUT)
    session = one_graph(traced, {"input": images((2, 3, 96, 128))}, names, axes, tmp_path / "g.onnx", scope="mmdet")
    matched, control = Matched(), Matched()
    for batch, height, width in SIZES:
        x = images((batch, 3, height, width))
        found = {name: value.numpy() for name, value in run(session, x).items()}
        wanted = {name: value.numpy() for name, value in detection.forward(model, x, OUTPUT).items()}
        assert found["masks"].shape == wanted["masks"].shape
        assert (found["dets"][..., :-1, 4] >= found["dets"][..., 1:, 4]).all()
        matched.update(found, wanted)
        control.update({**found, "masks": found["masks"][:, :, ::-1]}, wanted)
    assert matched.passed, matched
    assert matched.matched > 30
    assert not control.passed, "control: masks upside down"


def test_other_suppression_and_kernels_are_refused() -> None:
    from deploy.rewrites.mmdet import solo_head

    head = _solo().mask_head
    empty = torch.zeros(1, 2, 3)
    with pytest.raises(UsageError, match="only 'gaussian'"):
        solo_head._sink(empty, empty[..., 0], empty[..., 0], empty[..., 0], ConfigDict(kernel="linear"))
    head.dynamic_conv_size = 3
    with pytest.raises(UsageError, match="dynamic_conv_size=3"):
        solo_head.solov2_head__predict_by_feat(head, [], [], empty)
