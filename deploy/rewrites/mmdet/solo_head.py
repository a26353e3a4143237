"""`predict_by_feat` of SOLO and SOLOv2: masks of grid places, whose scores sink where better masks cover them.

mmdet takes image by image the pairs of a place and a class above the score threshold, however many. Here each image has as
many places as the one with the most of them. Sources: mmdet/models/dense_heads/solo_head.py, solov2_head.py;
mmdet/models/layers/matrix_nms.py; X. Wang et al., "SOLOv2", 2020 (arXiv:2003.10152), section 3.3.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import SOLOHead, SOLOV2Head
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.detections import NONE, best, gather, outputs
from deploy.rewrites import ran
from deploy.rewrites.mmdet.dense_head import rows
from train.errors import UsageError

REPLACES = (SOLOHead.predict_by_feat, SOLOV2Head.predict_by_feat)
RELIES_ON = (SOLOHead._predict_by_feat_single, SOLOV2Head._predict_by_feat_single)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.solo_head.SOLOHead.predict_by_feat", backend="onnxruntime"
)
def solo_head__predict_by_feat(
    self: SOLOHead,
    mlvl_mask_preds: Sequence[Tensor],
    mlvl_cls_scores: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]] = (),
    **_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Masks N×G²×h×w and scores N×C×G×G a level → `dets` N×K×5, `labels` N×K, `masks` N×K×h×w.

    mmdet gives no boxes: they are zeros. Masks are probabilities less the threshold.
    """
    ran(__name__)
    scores = torch.cat([rows(maps, self.cls_out_channels) for maps in mlvl_cls_scores], 1)
    masks = torch.cat(list(mlvl_mask_preds), 1)
    place = _places(scores, self.test_cfg.score_thr)
    return _detect(self, scores, place, _pick(masks, place))


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.solov2_head.SOLOV2Head.predict_by_feat", backend="onnxruntime"
)
def solov2_head__predict_by_feat(
    self: SOLOV2Head,
    mlvl_kernel_preds: Sequence[Tensor],
    mlvl_cls_scores: Sequence[Tensor],
    mask_feats: Tensor,
    batch_img_metas: Sequence[dict[str, Any]] = (),
    **_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Kernels N×D×G×G and logits N×C×G×G a level, and features N×…×h×w → what `solo_head__predict_by_feat` gives.

    Raises:
        UsageError: kernels of more than a pixel.
    """
    ran(__name__)
    if self.dynamic_conv_size != 1:
        raise UsageError(f"SOLOV2Head with dynamic_conv_size={self.dynamic_conv_size} cannot be exported; only 1 can")
    scores = torch.cat([rows(_peaks(maps.sigmoid()), self.cls_out_channels) for maps in mlvl_cls_scores], 1)
    place = _places(scores, self.test_cfg.score_thr)
    kernels = torch.cat([rows(maps, self.kernel_out_channels) for maps in mlvl_kernel_preds], 1)
    logits = gather(kernels, place) @ mask_feats.flatten(2)
    return _detect(self, scores, place, logits.reshape(*place.shape, *mask_feats.shape[2:]).sigmoid())


def _peaks(scores: Tensor) -> Tensor:
    """Scores N×C×G×G, zero where one to the left or above is larger."""
    largest = F.max_pool2d(scores, 2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores * (largest == scores)


def _places(scores: Tensor, threshold: float) -> Tensor:
    """The places that have a score N×M×C above the threshold, and for a batch's sake others: indices into M, N×P."""
    highest = scores.amax(2)
    count = (highest > threshold).sum(1).max().clamp(min=1)
    return highest.topk(count, dim=1)[1]  # type: ignore[arg-type]


def _pick(masks: Tensor, index: Tensor) -> Tensor:
    """Masks N×M×h×w at N×K indices."""
    return gather(masks.flatten(2), index).reshape(*index.shape, *masks.shape[2:])


def _detect(head: SOLOHead, scores: Tensor, place: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores N×M×C of all places, and the masks N×P×h×w of some."""
    config, classes = head.test_cfg, head.cls_out_channels
    inside = (masks > config.mask_thr).to(masks)
    areas = inside.sum((2, 3))
    strides = [torch.full((grid**2,), stride) for grid, stride in zip(head.num_grids, head.strides, strict=True)]
    large = areas > torch.cat(strides).to(masks)[place]
    mean = (masks * inside).sum((2, 3)) / areas.clamp(min=1)
    own = gather(scores, place)
    pairs = torch.where((own > config.score_thr) & large[..., None], own * mean[..., None], NONE).flatten(1)
    # mmdet takes all of them where nms_pre is not positive.
    limit = config.nms_pre if config.nms_pre > 0 else pairs.shape[1]
    ranked, pair = pairs.topk(limit, dim=1)  # MMDeploy's topk takes what there is
    row, labels = torch.div(pair, classes, rounding_mode="floor"), pair % classes
    sunk = _sink(_pick(inside, row).flatten(2), areas.gather(1, row), labels, ranked, config)
    if config.filter_thr > 0:
        sunk = torch.where(sunk >= config.filter_thr, sunk, NONE)
    index, kept = best(sunk, config.max_per_img)
    none = torch.zeros_like(kept)[..., None].expand(-1, -1, 4)
    dets, labels = outputs(none, kept, labels.gather(1, index))
    return dets, labels, _pick(masks, row.gather(1, index)) - config.mask_thr


def _sink(masks: Tensor, areas: Tensor, labels: Tensor, scores: Tensor, config: Any) -> Tensor:
    """Matrix suppression: scores N×K, best first, less the more a better mask of the class covers each mask N×K×(h·w).

    Raises:
        UsageError: another kernel than the Gaussian: the linear one divides by zero where masks are equal.
    """
    if config.kernel != "gaussian":
        raise UsageError(f"test_cfg.kernel '{config.kernel}': only 'gaussian' can be exported exactly")
    both = masks @ masks.transpose(1, 2)
    either = areas[:, None] + areas[..., None] - both
    real = scores > NONE
    same = (labels[:, None] == labels[..., None]) & real[:, None] & real[..., None]
    overlaps = torch.where(same, both / either.clamp(min=1), 0.0).triu(diagonal=1)
    covered = overlaps.amax(1)[..., None]  # of the better mask itself
    decay = torch.exp(-config.sigma * overlaps**2) / torch.exp(-config.sigma * covered**2)
    return torch.where(real, scores * decay.amin(1), NONE)
