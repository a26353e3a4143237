"""`predict_by_feat` of CenterNet's head: local maxima of the heat map, nothing suppressed.

Where there are fewer of them than rows, places of score 0 fill the rest; which ones is nobody's promise.
Source: mmdet/models/dense_heads/centernet_head.py.
"""

from collections.abc import Sequence
from typing import Any

from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.dense_heads import CenterNetHead
from torch import Tensor

from deploy.detections import outputs
from deploy.rewrites import ran

REPLACES = (CenterNetHead.predict_by_feat,)
RELIES_ON = (CenterNetHead._predict_by_feat_single,)


@FUNCTION_REWRITER.register_rewriter(
    "mmdet.models.dense_heads.centernet_head.CenterNetHead.predict_by_feat", backend="onnxruntime"
)
def centernet_head__predict_by_feat(
    self: CenterNetHead,
    center_heatmap_preds: Sequence[Tensor],
    wh_preds: Sequence[Tensor],
    offset_preds: Sequence[Tensor],
    batch_img_metas: Sequence[dict[str, Any]] = (),
    rescale: bool = True,
    with_nms: bool = False,
) -> tuple[Tensor, Tensor]:
    """The head's maps, N×…×h×w → `dets` N×K×5 and `labels` N×K; the image begins at the graph's first pixel."""
    ran(__name__)
    dets, labels = self._decode_heatmap(
        center_heatmap_preds[0],
        wh_preds[0],
        offset_preds[0],
        batch_img_metas[0]["batch_input_shape"],
        k=self.test_cfg.topk,
        kernel=self.test_cfg.local_maximum_kernel,
    )
    return outputs(dets[..., :4], dets[..., 4], labels)
