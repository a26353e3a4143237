"""Multi-scale deformable attention and PSANet's masks against naive loops."""

import math
from types import ModuleType

import pytest
import torch
from torch import Tensor

SHAPES = torch.tensor([[4, 5], [2, 3]])


def attention_example(rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Value, locations (some outside the image) and weights: 2 images, 3 queries, 2 heads, 2 points, 4 channels."""
    value = torch.randn(2, 26, 2, 4, generator=rng, dtype=torch.float64)
    locations = torch.rand(2, 3, 2, 2, 2, 2, generator=rng, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, 3, 2, 2, 2, generator=rng, dtype=torch.float64)
    return value, locations, weights


def sample(plane: Tensor, x: float, y: float) -> Tensor:
    """Bilinear sample of (H, W, D) at pixel coordinates; what lies outside is 0."""
    height, width, channels = plane.shape
    total = plane.new_zeros(channels)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def naive_attention(value: Tensor, locations: Tensor, weights: Tensor, shift: float = 0.5) -> Tensor:
    images, queries, heads, _, points = weights.shape
    output = value.new_zeros(images, queries, heads, value.shape[-1])
    for n in range(images):
        for h in range(heads):
            start = 0
            for level, (height, width) in enumerate(SHAPES.tolist()):
                plane = value[n, start : start + height * width, h].reshape(height, width, -1)
                start += height * width
                for q in range(queries):
                    for p in range(points):
                        x, y = locations[n, q, h, level, p].tolist()
                        sampled = sample(plane, x * width - shift, y * height - shift)
                        output[n, q, h] += weights[n, q, h, level, p] * sampled
    return output.flatten(2)


def attend(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """What `MultiScaleDeformableAttention` runs for tensors on a GPU."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    shapes = SHAPES.to(value.device)
    starts = torch.tensor([0, 20], device=value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


@pytest.mark.usefixtures("ops")
def test_attention_value(rng: torch.Generator, device: str) -> None:
    tensors = attention_example(rng)
    output = attend(*(tensor.to(device) for tensor in tensors)).cpu()
    torch.testing.assert_close(output, naive_attention(*tensors))
    assert not torch.allclose(output, naive_attention(*tensors, shift=0.4))


@pytest.mark.usefixtures("ops")
def test_attention_gradient(rng: torch.Generator) -> None:
    tensors = [tensor.requires_grad_() for tensor in attention_example(rng)]
    assert torch.autograd.gradcheck(attend, tensors, fast_mode=True)


def test_attention_module_equals_the_function_of_the_gpu(
    ops: ModuleType, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmcv has its own sum for the CPU; the one that it would run on a GPU gives the same output and gradients."""
    from mmcv.ops import multi_scale_deform_attn

    layer = ops.MultiScaleDeformableAttention(embed_dims=8, num_heads=2, num_levels=2, num_points=2, dropout=0.0)
    query, value = torch.rand(3, 1, 8, generator=rng), torch.rand(26, 1, 8, generator=rng)
    reference = torch.rand(1, 3, 2, 2, generator=rng)
    starts = torch.tensor([0, 20])

    def run() -> tuple[Tensor, ...]:
        output = layer(query, None, value, reference_points=reference, spatial_shapes=SHAPES, level_start_index=starts)
        return output, *torch.autograd.grad(output.square().sum(), list(layer.parameters()))

    expected = run()

    def as_on_gpu(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        monkeypatch.undo()  # the stand-in itself uses the function replaced here
        return attend(value, locations, weights)

    monkeypatch.setattr(multi_scale_deform_attn, "multi_scale_deformable_attn_pytorch", as_on_gpu)
    torch.testing.assert_close(run(), expected)


def naive_psa_mask(windows: Tensor, kind: str, size: tuple[int, int]) -> Tensor:
    images, _, height, width = windows.shape
    output = windows.new_zeros(images, height * width, height, width)
    for y in range(height):
        for x in range(width):
            for i in range(size[0]):
                for j in range(size[1]):
                    other_y, other_x = y + i - (size[0] - 1) // 2, x + j - (size[1] - 1) // 2
                    if 0 <= other_y < height and 0 <= other_x < width:
                        attention = windows[:, i * size[1] + j, y, x]
                        if kind == "collect":
                            output[:, other_y * width + other_x, y, x] = attention
                        else:
                            output[:, y * width + x, other_y, other_x] = attention
    return output


@pytest.mark.parametrize("size", [(3, 5), (9, 7), (4, 2)])
@pytest.mark.parametrize("kind", ["collect", "distribute"])
def test_psa_mask(ops: ModuleType, rng: torch.Generator, device: str, kind: str, size: tuple[int, int]) -> None:
    windows = torch.randn(2, size[0] * size[1], 5, 4, generator=rng, dtype=torch.float64)
    mask = ops.PSAMask(kind, size)
    output = mask(windows.to(device)).cpu()
    assert torch.equal(output, naive_psa_mask(windows, kind, size))
    other = "distribute" if kind == "collect" else "collect"
    assert not torch.allclose(output, naive_psa_mask(windows, other, size))
    assert torch.autograd.gradcheck(mask, windows.to(device).requires_grad_(), fast_mode=True)
