"""`predict_by_feat` of RTMDet-Ins: each detection draws its mask with a small network of its own.

The network's weights are predicted; mmdet runs them as one grouped convolution, whose number of groups tracing freezes.
Here every layer is a matrix product for all detections of a batch. Source: mmdet/models/dense_heads/rtmdet_ins_head.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads.rtmdet_ins_head import RTMDetInsHead
from torch import Tensor

from deploy.detections import gather, outputs, suppress
from deploy.rewrites import ran
from deploy.rewrites.mmdet.dense_head import candidates

REPLACES = (RTMDetInsHead.predict_by_feat,)
RELIES_ON = (RTMDetInsHead._predict_by_feat_single,)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.rtmdet_ins_head.RTMDetInsHead.predict_by_feat", backend="onnxruntime"
)
def rtmdet_ins_head__predict_by_feat(
    self: RTMDetInsHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    kernel_preds: Sequence[Tensor],
    mask_feat: Tensor,
    score_factors: Sequence[Tensor] | None = None,
    batch_img_metas: Sequence[dict[str, Any]] = (),
    cfg: Any = None,
    rescale: bool = False,
    with_nms: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The head's maps → `dets` N×K×5, `labels` N×K, and `masks` N×K×h×w, logits at the stride of `mask_feat`."""
    ran(__name__)
    config = cfg or self.test_cfg
    found = candidates(self, cls_scores, bbox_preds, score_factors, batch_img_metas[0]["img_shape"], config)
    index, scores = suppress(found.boxes, found.scores, found.groups, config["nms"], config["max_per_img"])
    dets, labels = outputs(gather(found.boxes, index), scores, found.groups.gather(1, index))
    places = found.places.gather(1, index)
    kernels = gather(torch.cat([maps.flatten(2).transpose(1, 2) for maps in kernel_preds], 1), places)
    sizes = [maps.shape[-2:] for maps in cls_scores]
    priors = self.prior_generator.grid_priors(sizes, device=mask_feat.device, with_stride=True)
    return dets, labels, _masks(self, mask_feat, kernels, torch.cat(priors)[places])


def _masks(head: RTMDetInsHead, features: Tensor, kernels: Tensor, priors: Tensor) -> Tensor:
    """Features N×D×h×w, kernels N×K×G and priors N×K×4 (x, y, strides) → logits N×K×h×w."""
    batch, rows = kernels.shape[:2]
    height, width = features.shape[-2:]
    grid = head.prior_generator.single_level_grid_priors((height, width), level_idx=0, device=features.device)
    away = (priors[..., None, :2] - grid) / (priors[..., None, 2:3] * 8)  # N×K×(h·w)×2
    weights = list(kernels.split(list(head.weight_nums) + list(head.bias_nums), dim=-1))
    layers = len(head.weight_nums)
    hidden, shared = (
        away.transpose(2, 3),
        features.flatten(2)[:, None],
    )  # coordinates differ by detection, features do not
    for layer in range(layers):
        weight = weights[layer].reshape(batch, rows, head.bias_nums[layer], -1)
        hidden = weight @ hidden if layer else weight[..., :2] @ hidden + weight[..., 2:] @ shared
        hidden = hidden + weights[layers + layer][..., None]
        if layer < layers - 1:
            hidden = hidden.relu()
    return hidden.reshape(batch, rows, height, width)
