"""Deformable convolution against torchvision's public function, and against an ordinary convolution."""

from types import ModuleType

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import Tensor

# groups, deformable groups, stride, padding, dilation, kernel; height and width differ wherever they can
SETTINGS = [
    (1, 1, (1, 1), (0, 0), (1, 1), (3, 3)),
    (2, 1, (2, 1), (1, 2), (1, 2), (3, 2)),
    (1, 2, (1, 2), (2, 0), (2, 1), (2, 3)),
    (2, 2, (2, 2), (2, 2), (2, 2), (3, 3)),
]


def example(rng: torch.Generator, settings: tuple, device: str) -> list[Tensor]:
    """Input, offset, mask, weight and bias, each with a gradient."""
    groups, deform_groups, stride, padding, dilation, kernel = settings
    height, width = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip((9, 11), padding, dilation, kernel, stride, strict=True)
    )
    taps = deform_groups * kernel[0] * kernel[1]
    shapes = [
        (2, 4, 9, 11),
        (2, 2 * taps, height, width),
        (2, taps, height, width),
        (6, 4 // groups, *kernel),
        (6,),
    ]
    tensors = [torch.randn(shape, generator=rng, dtype=torch.float64).to(device) for shape in shapes]
    return [tensor.requires_grad_() for tensor in tensors]


def gradients(output: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a sum that no two elements of the output enter alike."""
    factors = torch.linspace(-1, 1, output.numel(), dtype=output.dtype, device=output.device)
    return torch.autograd.grad((output.flatten() * factors).sum(), inputs)


@pytest.mark.parametrize("settings", SETTINGS)
def test_v1(ops: ModuleType, rng: torch.Generator, device: str, settings: tuple) -> None:
    groups, deform_groups, stride, padding, dilation, _ = settings
    x, offset, _, weight, _ = example(rng, settings, device)
    output = ops.deform_conv2d(x, offset, weight, stride, padding, dilation, groups, deform_groups)
    expected = torchvision.ops.deform_conv2d(x, offset, weight, None, stride, padding, dilation)
    torch.testing.assert_close(output, expected)
    inputs = [x, offset, weight]
    torch.testing.assert_close(gradients(output, inputs), gradients(expected, inputs))
    swapped = offset.unflatten(1, (-1, 2)).flip(2).flatten(1, 2)  # x before y
    assert not torch.allclose(
        output, torchvision.ops.deform_conv2d(x, swapped, weight, None, stride, padding, dilation)
    )


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
def test_v2(ops: ModuleType, rng: torch.Generator, device: str, settings: tuple, with_bias: bool) -> None:
    groups, deform_groups, stride, padding, dilation, _ = settings
    x, offset, mask, weight, bias = example(rng, settings, device)
    bias_or_none = bias if with_bias else None
    output = ops.modulated_deform_conv2d(
        x, offset, mask, weight, bias_or_none, stride, padding, dilation, groups, deform_groups
    )
    expected = torchvision.ops.deform_conv2d(x, offset, weight, bias_or_none, stride, padding, dilation, mask)
    torch.testing.assert_close(output, expected)
    inputs = [x, offset, mask, weight, *([bias] if with_bias else [])]
    torch.testing.assert_close(gradients(output, inputs), gradients(expected, inputs))
    unmasked = torchvision.ops.deform_conv2d(x, offset, weight, bias_or_none, stride, padding, dilation)
    assert not torch.allclose(output, unmasked)


@pytest.mark.parametrize("settings", SETTINGS)
def test_without_offsets_it_is_a_convolution(ops: ModuleType, rng: torch.Generator, settings: tuple) -> None:
    groups, deform_groups, stride, padding, dilation, _ = settings
    x, offset, mask, weight, bias = example(rng, settings, "cpu")
    still, ones = torch.zeros_like(offset), torch.ones_like(mask)
    expected = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    v1 = ops.deform_conv2d(x, still, weight, stride, padding, dilation, groups, deform_groups)
    v2 = ops.modulated_deform_conv2d(x, still, ones, weight, bias, stride, padding, dilation, groups, deform_groups)
    torch.testing.assert_close(v1, expected)
    torch.testing.assert_close(v2, expected + bias[:, None, None])
    assert not torch.allclose(
        ops.deform_conv2d(x, offset, weight, stride, padding, dilation, groups, deform_groups), expected
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(ops: ModuleType, rng: torch.Generator, device: str, dtype: torch.dtype) -> None:
    x, offset, mask, weight, bias = (t.detach().to(dtype).requires_grad_() for t in example(rng, SETTINGS[0], device))
    for function, inputs in (
        (ops.deform_conv2d, [x, offset, weight]),
        (ops.modulated_deform_conv2d, [x, offset, mask, weight, bias]),
    ):
        exact = function(*(t.float() for t in inputs))
        rounded = function(*inputs)
        assert rounded.dtype == dtype
        torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.02)
        for by_rounded, by_exact in zip(gradients(rounded, inputs), gradients(exact, inputs), strict=True):
            error = (by_rounded.float() - by_exact.float()).norm() / by_exact.float().norm()
            assert error < 0.03


def test_offsets_are_y_before_x(ops: ModuleType, rng: torch.Generator) -> None:
    x, weight = torch.rand(1, 1, 6, 6, generator=rng), torch.ones(1, 1, 1, 1)
    down = torch.zeros(1, 2, 6, 6)
    down[:, 0] = 1
    output = ops.deform_conv2d(x, down, weight)
    assert torch.equal(output[:, :, :-1], x[:, :, 1:])
    assert output[:, :, -1].abs().max() == 0


def test_parameter_gradient_is_scaled_and_added() -> None:
    from train.compat.ops.deform_conv import deform_conv_backward_parameters

    x, offset, total = torch.rand(1, 1, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 1, 1)
    geometry = {"dH": 1, "dW": 1, "padH": 0, "padW": 0, "dilationH": 1, "dilationW": 1}
    deform_conv_backward_parameters(
        x, offset, torch.ones_like(x), total, x, x, scale=0.5, group=1, deformable_group=1, **geometry
    )
    assert total.item() == pytest.approx(1 + 0.5 * x.sum().item())


def test_modules_train(ops: ModuleType) -> None:
    """As a backbone uses them: the offsets come from a convolution of their own."""
    x = torch.rand(1, 4, 8, 8)
    for layer in (ops.DeformConv2dPack(4, 4, 3, padding=1), ops.ModulatedDeformConv2dPack(4, 4, 3, padding=1)):
        layer(x).square().sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
