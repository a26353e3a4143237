"""MaskFormer, K-Net and PointRend: one graph for every size and batch, equal to mmseg's own heads."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmseg
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from pyramid import Pyramid, shrunk
from torch import Tensor, nn
from traced import apart, one_graph, run

from deploy.tasks import segmentation
from deploy.trace import Traced
from deploy.zoo.seeding import images
from slipway_runtime.manifest import SegmentationOutput
from train import compat
from train.errors import UsageError

WHEEL = Path(mmseg.__file__).parent / ".mim" / "configs"
CHANNELS, CLASSES = 8, 4
OUTPUT = SegmentationOutput(align_corners=False)
#: Batch, height, width; the first one is traced. Of the smallest, every pixel is among PointRend's uncertain ones.
SIZES = ((2, 64, 96), (1, 64, 32), (3, 76, 57))


class Segmenter(Pyramid):
    """What mmseg's segmenters do with features: heads one after the other, the last one to the image's size."""

    test_cfg = ConfigDict(subdivision_steps=2, subdivision_num_points=2500, scale_factor=2)

    def encode_decode(self, images: Tensor, metas: list[dict[str, Any]]) -> Tensor:
        features = self.extract_feat(images)
        before = [] if self.first is None else [self.first(features)]
        logits: Tensor = self.last.predict(features, *before, metas, self.test_cfg)
        return logits


def _head(options: dict[str, Any]) -> Any:
    compat.use("mmseg")
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(options))


def _maskformer() -> Segmenter:
    parts = Config.fromfile(WHEEL / "maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py").model
    small = shrunk(parts.decode_head, {256: 32, 2048: 64, 128: 16, 150: CLASSES, 6: 2, 100: 9})
    small["in_channels"], small["loss_cls"]["class_weight"] = [CHANNELS] * 4, [1.0] * (CLASSES + 1)
    return Segmenter((4, 8, 16, 32), CHANNELS, first=None, last=_head(small))


def _knet(size: int = 3, stride: int = 2) -> Segmenter:
    parts = Config.fromfile(WHEEL / "knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py").model
    small = shrunk(parts.decode_head, {512: 16, 256: 16, 2048: 32, 150: CLASSES, 8: 2, 3: 2})
    small["kernel_generate_head"] |= dict(in_channels=CHANNELS, in_index=0, norm_cfg=dict(type="BN"))
    updates = [dict(each, conv_kernel_size=size, mask_transform_stride=stride) for each in small["kernel_update_head"]]
    head = _head({**small, "kernel_update_head": updates[:2]})
    weight = head.kernel_generate_head.conv_seg.weight
    head.kernel_generate_head.conv_seg = nn.Conv2d(16, CLASSES, size, padding=size // 2)
    assert weight.shape[1] == 16
    return Segmenter((8,), CHANNELS, first=None, last=head)


def _pointrend() -> Segmenter:
    parts = Config.fromfile(WHEEL / "point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py").model
    first, last = (shrunk(each, {256: CHANNELS, 128: CHANNELS, 19: CLASSES}) for each in parts.decode_head)
    first["norm_cfg"] = dict(type="BN")
    return Segmenter((4, 8, 16, 32), CHANNELS, first=_head(first), last=_head(last))


@pytest.mark.parametrize("make", [_maskformer, _knet, _pointrend])
def test_the_graph_is_mmsegs_head_at_every_size(make: Callable[[], Segmenter], tmp_path: Path) -> None:
    model = make()
    axes = {"input": {0: "n", 2: "h", 3: "w"}, "output": {0: "n", 2: "H", 3: "W"}}
    traced = Traced(copy.deepcopy(model), segmentation, OUTPUT)
    session = one_graph(traced, {"input": images((2, 3, 64, 96))}, ["output"], axes, tmp_path / "g.onnx", scope="mmseg")
    for batch, height, width in SIZES:
        x = images((batch, 3, height, width))
        found, wanted = run(session, x)["output"], segmentation.forward(model, x, OUTPUT)["output"]
        assert apart(found, wanted) < 1e-5
        assert wanted.std() > 0.01
        assert apart(found.flip(0) if batch > 1 else found.flip(2), wanted) > 1e-2, "control: another image's"


def test_a_mask_shape_is_refused() -> None:
    from deploy.rewrites.mmseg import kernel_update_head

    with pytest.raises(UsageError, match="mask_shape"):
        kernel_update_head.kernel_update_head__forward(
            _knet().last.kernel_update_head[0], *[torch.zeros(1)] * 3, mask_shape=(4, 4)
        )
