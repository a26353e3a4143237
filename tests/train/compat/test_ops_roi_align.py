"""RoIAlign against a naive loop over samples."""

import math
from types import ModuleType

import pytest
import torch
from torch import Tensor

from train.compat.ops import UnsupportedOpError

ROIS = [
    [0, 1.0, 2.0, 13.0, 9.5],
    [1, 0.0, 0.0, 19.0, 15.0],
    [1, -6.0, -4.0, 5.0, 30.0],  # reaches over the border
    [0, 7.2, 3.1, 7.6, 3.3],  # smaller than a pixel
]


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """Between pixels; 0 from one pixel outside on, the border's value within that pixel."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - (x - left)) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - (x - left)) + plane[bottom, right] * (x - left)
    return float(upper * (1 - (y - top)) + lower * (y - top))


def naive_roi_align(
    features: Tensor, rois: Tensor, size: tuple[int, int], scale: float, samples: int, aligned: bool
) -> Tensor:
    output = torch.zeros(len(rois), features.shape[1], *size, dtype=features.dtype)
    for r, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in corners)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1), max(width, 1)
        bin_h, bin_w = height / size[0], width / size[1]
        rows, columns = samples or math.ceil(bin_h), samples or math.ceil(bin_w)
        for c, plane in enumerate(features[int(image)]):
            for i in range(size[0]):
                for j in range(size[1]):
                    output[r, c, i, j] = sum(
                        bilinear(plane, y1 + (i + (m + 0.5) / rows) * bin_h, x1 + (j + (n + 0.5) / columns) * bin_w)
                        for m in range(rows)
                        for n in range(columns)
                    ) / (rows * columns)
    return output


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 2])
def test_forward(ops: ModuleType, rng: torch.Generator, device: str, samples: int, aligned: bool) -> None:
    features = torch.rand(2, 3, 8, 10, generator=rng, dtype=torch.float64)
    rois, size, scale = torch.tensor(ROIS, dtype=torch.float64), (3, 2), 0.5
    output = ops.roi_align(features.to(device), rois.to(device), size, scale, samples, "avg", aligned).cpu()
    torch.testing.assert_close(output, naive_roi_align(features, rois, size, scale, samples, aligned))
    for wrong in ((scale, samples, not aligned), (scale, samples + 1, aligned), (0.55, samples, aligned)):
        assert not torch.allclose(output, naive_roi_align(features, rois, size, *wrong), atol=1e-4)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 2])
def test_gradient(ops: ModuleType, rng: torch.Generator, samples: int, aligned: bool) -> None:
    features = torch.rand(2, 2, 8, 10, generator=rng, dtype=torch.float64).requires_grad_()
    rois = torch.tensor(ROIS, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: ops.roi_align(x, rois, (3, 2), 0.5, samples, "avg", aligned), features, fast_mode=True
    )
    ops.roi_align(features, rois, (3, 2), 0.5, samples, "avg", aligned).sum().backward()
    wrong = torch.autograd.grad(
        ops.roi_align(features, rois, (3, 2), 0.5, samples, "avg", not aligned).sum(), features
    )[0]
    assert features.grad is not None
    assert not torch.allclose(features.grad, wrong, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(ops: ModuleType, rng: torch.Generator, device: str, dtype: torch.dtype) -> None:
    features = torch.rand(2, 3, 8, 10, generator=rng).to(device).requires_grad_()
    rois = torch.tensor(ROIS).to(device)
    exact = ops.roi_align(features, rois, 2, 0.5)
    rounded = ops.roi_align(features.to(dtype), rois.to(dtype), 2, 0.5)
    assert rounded.dtype == dtype
    torch.testing.assert_close(rounded.float(), exact, atol=0.02, rtol=0)
    by_exact = torch.autograd.grad(exact.sum(), features)
    torch.testing.assert_close(torch.autograd.grad(rounded.sum(), features), by_exact, atol=0.02, rtol=0.02)


def test_no_regions(ops: ModuleType) -> None:
    features = torch.rand(1, 2, 4, 4).requires_grad_()
    output = ops.RoIAlign(2)(features, torch.zeros(0, 5))
    assert output.shape == (0, 2, 2, 2)
    output.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() == 0


def test_max_pooling_is_refused(ops: ModuleType) -> None:
    with pytest.raises(UnsupportedOpError, match=r"roi_align with pool_mode='max'"):
        ops.RoIAlign(2, pool_mode="max")(torch.rand(1, 1, 4, 4), torch.zeros(1, 5))
