"""`StandardRoIHead.predict`: boxes, and masks where there are some, of region proposals. For a batch of any size.

Sources: mmdet/models/roi_heads/base_roi_head.py, standard_roi_head.py; mmdet/models/roi_heads/bbox_heads/bbox_head.py;
mmdet/models/layers/bbox_nms.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.standard_roi_head import StandardRoIHead
from torch import Tensor

from deploy.detections import NONE, gather, outputs, suppress
from deploy.rewrites import ran
from deploy.rewrites.mmdet.dense_head import decode

REPLACES = (StandardRoIHead.predict_bbox,)
RELIES_ON = (BBoxHead.predict_by_feat, BBoxHead._predict_by_feat_single)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.roi_heads.standard_roi_head.StandardRoIHead.predict", backend="onnxruntime"
)
def standard_roi_head__predict(
    self: StandardRoIHead,
    x: Sequence[Tensor],
    rpn_results_list: tuple[Tensor, Tensor],
    batch_data_samples: Sequence[Any],
    rescale: bool = False,
) -> tuple[Tensor, ...]:
    """Features and proposals (`dets` N×P×5, `labels` N×P) → `dets` N×K×5, `labels` N×K, and `masks` N×K×h×w."""
    ran(__name__)
    proposals, present = rpn_results_list
    dets, labels = _boxes(self, x, proposals[..., :4], present >= 0, batch_data_samples[0].img_shape)
    if not self.with_mask:
        return dets, labels
    return dets, labels, _masks(self, x, dets[..., :4], labels)


def _boxes(
    head: StandardRoIHead, features: Sequence[Tensor], proposals: Tensor, present: Tensor, size: Sequence[Any]
) -> tuple[Tensor, Tensor]:
    batch, rows = proposals.shape[:2]
    found = head._bbox_forward(features, regions(proposals))
    classes, config = head.bbox_head.num_classes, head.test_cfg
    scores = found["cls_score"].softmax(-1)[:, :-1].reshape(batch, rows, classes)
    scores = torch.where((scores > config["score_thr"]) & present[..., None], scores, NONE).flatten(1)
    boxes = decode(head.bbox_head.bbox_coder, proposals, found["bbox_pred"].reshape(batch, rows, -1), size)
    boxes = boxes.reshape(batch, rows, -1, 4).expand(-1, -1, classes, -1).reshape(batch, -1, 4)
    labels = torch.arange(classes, device=scores.device).repeat(rows).expand(batch, -1)
    index, scores = suppress(boxes, scores, labels, config["nms"], config["max_per_img"])
    return outputs(gather(boxes, index), scores, labels.gather(1, index))


def _masks(head: StandardRoIHead, features: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
    """Probabilities of each detection's own class over its box, N×K×h×w; zeros where there is no detection."""
    # Only where there is a detection: a mask costs more than a box.
    real = torch.nonzero(labels.flatten() >= 0)[:, 0]
    logits = head._mask_forward(features, regions(boxes)[real])["mask_preds"]
    if not head.mask_head.class_agnostic:
        own = labels.flatten()[real][:, None, None, None].expand(-1, 1, *logits.shape[2:])
        logits = logits.gather(1, own)
    masks = logits[:, 0].sigmoid()
    height, width = masks.shape[1:]
    empty = masks.new_zeros(1).expand(labels.numel(), height * width)
    place = real[:, None].expand(-1, height * width)
    return empty.scatter(0, place, masks.flatten(1)).reshape(*labels.shape, height, width)


def regions(boxes: Tensor) -> Tensor:
    """N×P×4 boxes → (N·P)×5, the index of the image first."""
    images = torch.arange(boxes.shape[0], device=boxes.device).to(boxes)
    return torch.cat([images[:, None, None].expand(-1, boxes.shape[1], 1), boxes], -1).reshape(-1, 5)
