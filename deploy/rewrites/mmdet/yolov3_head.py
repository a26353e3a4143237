"""`predict_by_feat` of YOLOv3's head: the best pairs of all levels together. Source: mmdet/models/dense_heads/yolo_head.py."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import YOLOV3Head
from torch import Tensor

from deploy.detections import NONE, gather, outputs, suppress
from deploy.rewrites import ran
from deploy.rewrites.mmdet.dense_head import best_pairs, large, rows

REPLACES = (YOLOV3Head.predict_by_feat,)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.yolo_head.YOLOV3Head.predict_by_feat", backend="onnxruntime"
)
def yolov3_head__predict_by_feat(
    self: YOLOV3Head,
    pred_maps: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]] = (),
    cfg: Any = None,
    rescale: bool = False,
    with_nms: bool = True,
) -> tuple[Tensor, Tensor]:
    """The head's maps, N×…×h×w a level → `dets` N×K×5 and `labels` N×K."""
    ran(__name__)
    config = cfg or self.test_cfg
    priors = self.prior_generator.grid_priors([maps.shape[-2:] for maps in pred_maps], device=pred_maps[0].device)
    levels = [rows(maps, self.num_attrib) for maps in pred_maps]
    found = torch.cat(levels, 1)
    strides = torch.cat(
        [own.new_full(own.shape[1:2], stride) for own, stride in zip(levels, self.featmap_strides, strict=True)]
    )
    shifts = torch.cat([found[..., :2].sigmoid(), found[..., 2:4]], -1)
    boxes = self.bbox_coder.decode(torch.cat(list(priors)), shifts, strides[:, None])
    certain, scores = found[..., 4].sigmoid(), found[..., 5:].sigmoid()
    if config.get("conf_thr", -1) > 0:
        scores = torch.where(certain[..., None] >= config["conf_thr"], scores, NONE)
    best, labels, places = best_pairs(scores, certain, config)
    boxes = gather(boxes, places)
    index, best = suppress(boxes, large(boxes, best, config), labels, config["nms"], config["max_per_img"])
    return outputs(gather(boxes, index), best, labels.gather(1, index))
