"""Focal losses against the paper's formula, written out per element."""

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor


def focal(p: float, gamma: float, alpha: float) -> float:
    return -alpha * (1 - p) ** gamma * math.log(p)


def naive_sigmoid(logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None) -> Tensor:
    losses = torch.zeros_like(logits)
    for i, label in enumerate(target.tolist()):
        for c in range(logits.shape[1]):
            p = 1 / (1 + math.exp(-logits[i, c]))
            loss = focal(p, gamma, alpha) if c == label else focal(1 - p, gamma, 1 - alpha)
            losses[i, c] = loss * (weight[label] if weight is not None and label < len(weight) else 1)
    return losses


def naive_softmax(logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None) -> Tensor:
    losses = logits.new_zeros(len(logits))
    for i, label in enumerate(target.tolist()):
        if label >= 0:
            p = math.exp(logits[i, label]) / sum(math.exp(x) for x in logits[i])
            losses[i] = focal(p, gamma, alpha) * (weight[label] if weight is not None else 1)
    return losses


CASES = {"sigmoid": (naive_sigmoid, 4), "softmax": (naive_softmax, -1)}  # and the label that means background
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)


@pytest.fixture(params=CASES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def example(kind: str, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Logits of 6 rows and 4 classes, and targets of which one is background."""
    logits = torch.randn(6, 4, generator=rng, dtype=torch.float64) * 3
    return logits, torch.tensor([0, 1, 2, 3, 1, CASES[kind][1]])


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, 0.7), (0.0, 0.5)])
def test_value(
    ops: ModuleType,
    rng: torch.Generator,
    device: str,
    kind: str,
    gamma: float,
    alpha: float,
    weight: Tensor | None,
) -> None:
    logits, target = example(kind, rng)
    naive = CASES[kind][0]
    on_device = None if weight is None else weight.to(device)
    losses = getattr(ops, f"{kind}_focal_loss")(
        logits.to(device), target.to(device), gamma, alpha, on_device, "none"
    ).cpu()
    torch.testing.assert_close(losses, naive(logits, target, gamma, alpha, weight))
    assert not torch.allclose(losses, naive(logits, target, gamma + 0.1, alpha, weight))
    assert not torch.allclose(losses, naive(logits, target, gamma, alpha + 0.1, weight))
    assert not torch.allclose(losses, naive(logits, target, gamma, alpha, WEIGHT + 0.1))


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient(
    ops: ModuleType, rng: torch.Generator, kind: str, gamma: float, weight: Tensor | None, reduction: str
) -> None:
    logits, target = example(kind, rng)
    loss = getattr(ops, f"{kind}_focal_loss")
    assert torch.autograd.gradcheck(lambda x: loss(x, target, gamma, 0.3, weight, reduction), logits.requires_grad_())


def test_gradcheck_sees_a_wrong_gradient(rng: torch.Generator) -> None:
    """The control: the backward of another gamma does not pass."""
    from mmcv.ops.focal_loss import SigmoidFocalLossFunction

    class Wrong(SigmoidFocalLossFunction):
        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> tuple:
            ctx.gamma += 0.01
            return SigmoidFocalLossFunction.backward(ctx, grad_output)

    logits, target = example("sigmoid", rng)
    assert not torch.autograd.gradcheck(
        lambda x: Wrong.apply(x, target, 2.0, 0.25, None, "sum"), logits.requires_grad_(), raise_exception=False
    )


@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.0])
def test_saturated_logits_stay_exact(ops: ModuleType, kind: str, gamma: float) -> None:
    """A wrong answer 20 logits away costs 20 in single precision, a right one 0, and neither gives a NaN."""
    logits = torch.tensor([[0.0, 20.0], [-200.0, 200.0]]).requires_grad_()
    losses = getattr(ops, f"{kind}_focal_loss")(logits, torch.tensor([0, 1]), gamma, 0.5, None, "none")
    losses.sum().backward()
    wrong = losses[0, 1] if kind == "sigmoid" else losses[0]
    assert wrong.item() == pytest.approx(10, rel=1e-4)
    assert losses[1].abs().max() < 1e-6
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1].item() == pytest.approx(0.5, rel=1e-4)
