"""Operators that ONNX has and torch's exporter does not reach: each computes in torch and is traced as one standard node."""

from typing import Any

import torch
import torchvision
from torch import Tensor


class NonMaxSuppression(torch.autograd.Function):
    """ONNX `NonMaxSuppression` (opset 11) over one group of boxes an image.

    https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html
    """

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, limit: int, iou: float, above: float) -> Tensor:
        """Greedy suppression, image by image.

        Args:
            ctx: unused.
            boxes: N×M×4, x1, y1, x2, y2.
            scores: N×1×M.
            limit: boxes kept of an image at the most.
            iou: a box goes when its IoU with a kept, better one is above.
            above: boxes with a score not above are left out.

        Returns:
            S×3 int64: image, 0, box; an image's boxes best first.
        """
        found = []
        for image, (own, rank) in enumerate(zip(boxes, scores[:, 0], strict=True)):
            candidates = torch.nonzero(rank > above)[:, 0]
            kept = candidates[torchvision.ops.nms(own[candidates], rank[candidates], iou)][:limit]
            found.append(torch.stack([torch.full_like(kept, image), torch.zeros_like(kept), kept], 1))
        return torch.cat(found)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, limit: int, iou: float, above: float) -> Any:
        """The node."""
        constants = (torch.tensor([limit]), torch.tensor([iou]), torch.tensor([above]))
        return g.op("NonMaxSuppression", boxes, scores, *(g.op("Constant", value_t=value) for value in constants))


class RoiAlign(torch.autograd.Function):
    """ONNX `RoiAlign` (opset 16), averaging. https://onnx.ai/onnx/operators/onnx__RoiAlign.html"""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        boxes: Tensor,
        images: Tensor,
        size: tuple[int, int],
        scale: float,
        samples: int,
        aligned: bool,
    ) -> Tensor:
        """Bins of each region.

        Args:
            ctx: unused.
            features: N×C×H×W.
            boxes: R×4, x1, y1, x2, y2 in pixels of the image.
            images: R int64, the index of each box's image.
            size: height and width of the result, in bins.
            scale: feature pixels per image pixel.
            samples: a bin's samples per axis; 0: as many as it has feature pixels.
            aligned: whether pixel centres lie at half-integers.

        Returns:
            R×C×height×width.
        """
        regions = torch.cat([images[:, None].to(boxes), boxes], 1)
        return torchvision.ops.roi_align(features, regions, size, scale, samples, aligned)

    @staticmethod
    def symbolic(
        g: Any,
        features: Any,
        boxes: Any,
        images: Any,
        size: tuple[int, int],
        scale: float,
        samples: int,
        aligned: bool,
    ) -> Any:
        """The node."""
        return g.op(
            "RoiAlign",
            features,
            boxes,
            images,
            output_height_i=size[0],
            output_width_i=size[1],
            spatial_scale_f=scale,
            sampling_ratio_i=samples,
            mode_s="avg",
            coordinate_transformation_mode_s="half_pixel" if aligned else "output_half_pixel",
        )


class GridSample(torch.autograd.Function):
    """ONNX `GridSample` (opset 16). https://onnx.ai/onnx/operators/onnx__GridSample.html"""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, grid: Tensor, mode: str, padding: str, align_corners: bool) -> Tensor:
        """Samples of maps, N×C×h×w, at places N×H×W×2 → N×C×H×W; torch's own names for the options."""
        modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
        # Not `F.grid_sample`, which is rewritten to this.
        return torch.grid_sampler(maps, grid, modes.index(mode), paddings.index(padding), align_corners)

    @staticmethod
    def symbolic(g: Any, maps: Any, grid: Any, mode: str, padding: str, align_corners: bool) -> Any:
        """The node."""
        return g.op("GridSample", maps, grid, mode_s=mode, padding_mode_s=padding, align_corners_i=int(align_corners))
