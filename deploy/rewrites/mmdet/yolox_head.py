"""`predict_by_feat` of YOLOX's head: one class a place, no limit to the places.

Source: mmdet/models/dense_heads/yolox_head.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads.yolox_head import YOLOXHead
from torch import Tensor

from deploy.detections import NONE, gather, outputs, suppress
from deploy.rewrites import ran

REPLACES = (YOLOXHead.predict_by_feat,)
RELIES_ON = (YOLOXHead._bbox_post_process,)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.yolox_head.YOLOXHead.predict_by_feat", backend="onnxruntime"
)
def yolox_head__predict_by_feat(
    self: YOLOXHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    objectnesses: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]] = (),
    cfg: Any = None,
    rescale: bool = False,
    with_nms: bool = True,
) -> tuple[Tensor, Tensor]:
    """The head's maps, N×…×h×w a level → `dets` N×K×5 and `labels` N×K; K is the number of places."""
    ran(__name__)
    config = cfg or self.test_cfg
    sizes = [maps.shape[-2:] for maps in cls_scores]
    priors = self.prior_generator.grid_priors(sizes, device=cls_scores[0].device, with_stride=True)

    def rows(levels: Sequence[Tensor]) -> Tensor:
        return torch.cat([maps.flatten(2).transpose(1, 2) for maps in levels], 1)

    best, labels = rows(cls_scores).sigmoid().max(-1)
    scores = best * rows(objectnesses)[..., 0].sigmoid()
    boxes = self._bbox_decode(torch.cat(priors), rows(bbox_preds))
    scores = torch.where(scores >= config["score_thr"], scores, NONE)
    index, scores = suppress(boxes, scores, labels, config["nms"], config.get("max_per_img"))
    return outputs(gather(boxes, index), scores, labels.gather(1, index))
