"""Whole detectors of mmdet train a step and predict on the stand-in."""

from typing import Any

import pytest
import torch

R18 = {
    "backbone": {"depth": 18, "init_cfg": None},
    "neck": {"in_channels": [64, 128, 256, 512], "out_channels": 32},
}
HEADS = {
    "retinanet_r50_fpn": {
        "bbox_head": {"num_classes": 3, "in_channels": 32, "feat_channels": 32},
        "test_cfg": {"score_thr": 0.0},
    },
    "faster-rcnn_r50_fpn": {
        "rpn_head": {"in_channels": 32, "feat_channels": 32},
        "roi_head": {
            "bbox_roi_extractor": {"out_channels": 32},
            "bbox_head": {"num_classes": 3, "in_channels": 32, "fc_out_channels": 64},
        },
    },
}
DEFORMABLE = {  # mmdet puts them into bottleneck blocks only: a thin ResNet-50
    "backbone": {
        "depth": 50,
        "stem_channels": 8,
        "base_channels": 8,
        "dcn": {"type": "DCNv2", "deform_groups": 1},
        "stage_with_dcn": [False, False, True, True],
    },
    "neck": {"in_channels": [32, 64, 128, 256]},
}


def build(base: str, changes: dict) -> Any:
    """An mmdet base model with a ResNet-18 and thin heads, randomly initialised."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.hub import get_config

    register_all_modules(init_default_scope=False)
    config = Config({"model": get_config(f"mmdet::_base_/models/{base}.py").model})
    for change in ({"_scope_": "mmdet"}, R18, HEADS[base], changes):
        config.merge_from_dict({"model": change})
    torch.manual_seed(0)
    return MODELS.build(config.model)


def batch() -> dict:
    """Two images of one object each."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    samples = []
    for label in (0, 2):
        sample = DetDataSample(
            metainfo={
                "img_shape": (96, 128),
                "ori_shape": (96, 128),
                "pad_shape": (96, 128),
                "scale_factor": (1.0, 1.0),
            }
        )
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[16.0, 12, 80, 70]]), labels=torch.tensor([label]))
        samples.append(sample)
    inputs = [torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8) for _ in samples]
    return {"inputs": inputs, "data_samples": samples}


@pytest.mark.usefixtures("ops")
@pytest.mark.parametrize(
    ("base", "changes"),
    [("retinanet_r50_fpn", {}), ("faster-rcnn_r50_fpn", {}), ("retinanet_r50_fpn", DEFORMABLE)],
    ids=["retinanet", "faster-rcnn", "retinanet-dcn"],
)
def test_detector_trains_and_predicts(base: str, changes: dict, device: str) -> None:
    model = build(base, changes).to(device).train()
    losses, logged = model.parse_losses(model(**model.data_preprocessor(batch(), True), mode="loss"))
    losses.backward()
    assert losses > 0.1
    assert all(value.isfinite() for value in logged.values())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
    assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0

    model.eval()
    with torch.no_grad():
        results = model(**model.data_preprocessor(batch(), False), mode="predict")
    assert len(results) == 2
    for result in results:
        assert len(result.pred_instances) > 0
        assert result.pred_instances.bboxes.isfinite().all()


@pytest.mark.usefixtures("ops")
def test_compiled_focal_loss_path_equals_the_cpu_path(rng: torch.Generator) -> None:
    """On a GPU mmdet's FocalLoss takes the loss from mmcv, on a CPU it has its own."""
    from mmdet.models.losses import FocalLoss
    from mmdet.models.losses.focal_loss import sigmoid_focal_loss

    logits = torch.randn(20, 3, generator=rng).requires_grad_()
    target, weight = torch.randint(0, 4, (20,), generator=rng), torch.rand(20, generator=rng)
    from_mmcv = sigmoid_focal_loss(logits, target, weight, avg_factor=5)
    own = FocalLoss()(logits, target, weight, avg_factor=5)
    torch.testing.assert_close(from_mmcv, own)
    torch.testing.assert_close(torch.autograd.grad(from_mmcv, logits), torch.autograd.grad(own, logits))
    assert not torch.allclose(own, FocalLoss(gamma=2.1)(logits, target, weight, avg_factor=5))
