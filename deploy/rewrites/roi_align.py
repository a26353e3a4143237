"""`RoIAlign` as ONNX's `RoiAlign`, of opset 16 with half-pixel centres. Source: mmcv/ops/roi_align.py."""

from mmcv.ops.roi_align import RoIAlign
from mmdeploy.core import FUNCTION_REWRITER
from torch import Tensor

from deploy.operators import RoiAlign
from deploy.rewrites import ran
from train.errors import UsageError

REPLACES = (RoIAlign.forward,)
AT_LEAST = True  # mmdet passes over levels without a region, and over masks without a detection


@FUNCTION_REWRITER.register_rewriter("mmcv.ops.RoIAlign.forward", backend="onnxruntime")
def roi_align__forward(self: RoIAlign, input: Tensor, rois: Tensor) -> Tensor:
    """N×C×H×W features and R×5 regions (image, x1, y1, x2, y2) → R×C×height×width bins.

    Raises:
        UsageError: max pooling: ONNX takes the largest sample, mmcv the largest interpolated neighbour.
    """
    ran(__name__)
    if self.pool_mode != "avg":
        raise UsageError(f"RoIAlign with pool_mode='{self.pool_mode}': only 'avg' can be exported exactly")
    images = rois[:, 0].long()
    return RoiAlign.apply(
        input, rois[:, 1:], images, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
    )
