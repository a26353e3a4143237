"""Sparse R-CNN and QueryInst: a fixed set of queries, each with a box and features that six stages refine; nothing suppressed.

Rewritten are `EmbeddingRPNHead.predict`, which lists the queries, and `SparseRoIHead.predict_bbox` and `predict_mask`. For a
batch of any size. Sources: mmdet/models/dense_heads/embedding_rpn_head.py; mmdet/models/roi_heads/sparse_roi_head.py;
P. Sun et al., "Sparse R-CNN", 2021 (arXiv:2011.12450); Y. Fang et al., "Instances as Queries", 2021 (arXiv:2105.01928).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import EmbeddingRPNHead
from mmdet.models.roi_heads import SparseRoIHead
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from deploy.detections import gather, outputs
from deploy.rewrites import ran
from deploy.rewrites.mmdet.dense_head import decode
from deploy.rewrites.mmdet.roi_head import regions

REPLACES = (EmbeddingRPNHead.predict, SparseRoIHead.predict_bbox, SparseRoIHead.predict_mask)


class _Chosen(NamedTuple):
    """What `predict_mask` gets of `predict_bbox`.

    Attributes:
        dets: N×K×5.
        labels: N×K.
        query: N×K, which of the queries each is.
        boxes: N×P×4, of all queries.
        features: N×P×C, of all queries, out of the last stage's attention.
    """

    dets: Tensor
    labels: Tensor
    query: Tensor
    boxes: Tensor
    features: Tensor


@FUNCTION_REWRITER.register_rewriter("mmdet.models.dense_heads.EmbeddingRPNHead.predict", backend="onnxruntime")
def embedding_rpn_head__predict(
    self: EmbeddingRPNHead, x: Sequence[Tensor], batch_data_samples: Sequence[Any], **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Boxes N×P×4 in pixels and features N×P×C of the queries."""
    ran(__name__)
    batch = x[0].shape[0]
    height, width = (torch.as_tensor(edge) for edge in batch_data_samples[0].img_shape)
    boxes = bbox_cxcywh_to_xyxy(self.init_proposal_bboxes.weight) * torch.stack([width, height, width, height]).to(x[0])
    return boxes.expand(batch, -1, -1), self.init_proposal_features.weight.expand(batch, -1, -1)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.roi_heads.sparse_roi_head.SparseRoIHead.predict_bbox", backend="onnxruntime"
)
def sparse_roi_head__predict_bbox(
    self: SparseRoIHead,
    x: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]],
    rpn_results_list: tuple[Tensor, Tensor],
    rcnn_test_cfg: Any,
    rescale: bool = False,
) -> tuple[Tensor, Tensor] | _Chosen:
    """The best pairs of a query and a class: `dets` N×K×5 and `labels` N×K, with what their masks need if there are masks."""
    ran(__name__)
    boxes, features = rpn_results_list
    for extractor, head in zip(self.bbox_roi_extractor, self.bbox_head, strict=True):
        bins = extractor(x[: extractor.num_inputs], regions(boxes))
        logits, deltas, features, attended = head(bins, features)
        boxes = decode(head.bbox_coder, boxes, deltas, batch_img_metas[0]["img_shape"])
    scores = logits.sigmoid() if head.loss_cls.use_sigmoid else logits.softmax(-1)[..., :-1]
    best, index = scores.flatten(1).topk(self.test_cfg.max_per_img, dim=1)
    query = torch.div(index, head.num_classes, rounding_mode="floor")
    dets, labels = outputs(gather(boxes, query), best, index % head.num_classes)
    return _Chosen(dets, labels, query, boxes, attended) if self.with_mask else (dets, labels)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.roi_heads.sparse_roi_head.SparseRoIHead.predict_mask", backend="onnxruntime"
)
def sparse_roi_head__predict_mask(
    self: SparseRoIHead,
    x: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]],
    results_list: _Chosen,
    rescale: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """`dets`, `labels` and `masks` N×K×h×w, probabilities over each box by the last stage."""
    ran(__name__)
    dets, labels, query, boxes, features = results_list
    rois = regions(boxes)
    logits = self._mask_forward(self.num_stages - 1, x, rois, features)["mask_preds"]  # (N·P)×C×h×w
    images = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
    place = ((images * boxes.shape[1] + query) * logits.shape[1] + labels).flatten()
    masks = logits.flatten(0, 1)[place].sigmoid()
    return dets, labels, masks.reshape(*labels.shape, *masks.shape[1:])
