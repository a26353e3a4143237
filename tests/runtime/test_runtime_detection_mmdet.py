"""From a decoded image to boxes and masks: the runtime around mmdet's own Mask R-CNN, against the model's own `test_step`."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_bundles import detector_manifest

import slipway_runtime
from slipway_runtime import Session
from slipway_runtime import manifest as m
from slipway_runtime.sessions import Bound, Feeds
from slipway_runtime.tasks.detection import Result
from train import compat

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CLASSES = 4
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid", "ignore:To copy construct from a tensor")


def network() -> Any:
    """A thin random Mask R-CNN on a ResNet-18, as mmdet builds it."""
    import mmdet
    from mmdet.registry import MODELS
    from mmengine.config import Config

    config = Config.fromfile(f"{mmdet.__path__[0]}/.mim/configs/_base_/models/mask-rcnn_r50_fpn.py").model
    config.data_preprocessor = dict(
        type="DetDataPreprocessor", mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=32
    )
    config.backbone.update(depth=18, base_channels=8, init_cfg=None)
    config.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    config.rpn_head.update(in_channels=16, feat_channels=16)
    head = config.roi_head
    head.bbox_roi_extractor.out_channels = head.mask_roi_extractor.out_channels = 16
    head.bbox_head.update(in_channels=16, fc_out_channels=32, num_classes=CLASSES)
    head.mask_head.update(in_channels=16, conv_out_channels=16, num_classes=CLASSES)
    config.test_cfg.rcnn.update(score_thr=0.2, max_per_img=20)
    torch.manual_seed(0)
    model = MODELS.build(config).eval()
    with torch.no_grad():  # far from zero, so that classes and pixels differ
        model.roi_head.bbox_head.fc_cls.weight.normal_(0, 1)
        model.roi_head.bbox_head.fc_reg.weight.normal_(0, 0.3)
        model.roi_head.mask_head.conv_logits.weight.normal_(0, 8)
    return model


class TorchSession(Session):
    """mmdet's model up to boxes in its input and mask probabilities, as a graph would give them."""

    name = "torch"
    device = "cpu"

    def __init__(self, model: Any, manifest: m.Manifest) -> None:
        super().__init__(list(manifest.inputs), list(manifest.outputs))
        self.model = model
        self.content: tuple[int, int] | None = None

    @torch.inference_mode()
    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        from mmdet.structures import DetDataSample
        from mmdet.structures.bbox import bbox2roi

        images, roi_head = torch.from_numpy(feeds["image"]), self.model.roi_head
        meta = dict(img_shape=self.content, scale_factor=(1.0, 1.0), ori_shape=self.content)
        features = self.model.extract_feat(images)
        proposals = self.model.rpn_head.predict(features, [DetDataSample(metainfo=meta)], rescale=False)
        (found,) = roi_head.predict_bbox(features, [meta], proposals, roi_head.test_cfg, rescale=False)
        masks = roi_head._mask_forward(features, bbox2roi([found.bboxes]))["mask_preds"].sigmoid()
        return {
            "dets": torch.cat([found.bboxes, found.scores[:, None]], dim=1)[None].numpy(),
            "labels": found.labels[None].numpy(),
            "masks": masks[range(len(masks)), found.labels][None].numpy(),
        }

    def _bind(self, feeds: Feeds) -> Bound:
        raise NotImplementedError


@pytest.fixture(scope="module")
def model() -> Any:
    compat.use("mmdet")
    return network()


def picture(height: int, width: int) -> NDArray[np.uint8]:
    small = np.random.default_rng(0).integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


@pytest.mark.parametrize("size", [(301, 437), (500, 220), (97, 161)])
def test_an_image_becomes_what_mask_rcnn_makes_of_it(model: Any, size: tuple[int, int]) -> None:
    from mmengine.dataset import Compose, pseudo_collate

    image = picture(*size)
    resize = dict(type="Resize", scale=(320, 200), keep_ratio=True)
    pack = dict(type="PackDetInputs", meta_keys=("ori_shape", "img_shape", "scale_factor"))
    pipeline = Compose([dict(type="LoadImageFromNDArray"), resize, pack])
    with torch.inference_mode():
        (sample,) = model.test_step(pseudo_collate([pipeline(dict(img=image))]))
    wanted = sample.pred_instances.cpu().numpy()
    assert len(wanted.bboxes) >= 5

    manifest = detector_manifest(
        (28, 28),
        preprocess=(
            m.Decode(),
            m.Resize(width=320, height=200, keep_ratio=True),
            m.Normalize(mean=MEAN, std=STD, reverse_channels=True),
            m.Pad(divisor=32),
        ),
    )
    session = TorchSession(model, manifest)
    runtime = slipway_runtime.Model(manifest, session)
    prepared = runtime.preprocess(image)
    session.content = prepared.content
    (result,) = runtime.predict([prepared])
    assert isinstance(result, Result)
    np.testing.assert_array_equal(result.boxes, wanted.bboxes)
    np.testing.assert_array_equal(result.scores, wanted.scores)
    np.testing.assert_array_equal(result.labels, wanted.labels)
    assert result.masks is not None
    assert 0.001 < wanted.masks.mean() < 0.999
    np.testing.assert_array_equal(np.stack(result.masks), wanted.masks)
