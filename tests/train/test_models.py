"""Modules of ours, registered with OpenMMLab."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from train.models.l1_loss import ClassDistributionL1Loss


def naive(logits: np.ndarray, target: np.ndarray) -> float:
    """The mean over the rows of Σ |softmax − target|, written out."""
    total = 0.0
    for row, wanted in zip(logits, target, strict=True):
        exponent = np.exp(row - row.max())
        total += sum(abs(p - t) for p, t in zip(exponent / exponent.sum(), wanted, strict=True))
    return total / len(logits)


def test_it_is_registered() -> None:
    loss = MODELS.build(dict(type="ClassDistributionL1Loss", loss_weight=2.0))
    assert isinstance(loss, ClassDistributionL1Loss)
    assert loss.loss_weight == 2.0


@pytest.mark.parametrize("soft", [False, True])
def test_it_equals_the_formula(soft: bool) -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 3])
    one_hot = torch.eye(4, dtype=torch.float64)[labels]
    target = 0.7 * one_hot + 0.3 * one_hot.roll(1, 0) if soft else labels
    loss = ClassDistributionL1Loss()
    wanted = naive(logits.numpy(), (target if soft else one_hot).numpy())
    assert loss(logits, target).item() == pytest.approx(wanted, abs=1e-12)
    assert loss(logits + torch.tensor([1.0, 0, 0, 0]), target).item() != pytest.approx(wanted, abs=1e-3)


def test_its_ends_and_its_gradient() -> None:
    loss = ClassDistributionL1Loss()
    sure = torch.tensor([[100.0, 0.0]])
    assert loss(sure, torch.tensor([0])).item() == pytest.approx(0)
    assert loss(sure, torch.tensor([1])).item() == pytest.approx(2)
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor([0, 1, 2]), avg_factor=2.0), logits)


def test_weights_and_divisor() -> None:
    logits, labels = torch.zeros(2, 2), torch.tensor([0, 1])
    loss = ClassDistributionL1Loss(loss_weight=3.0)
    assert loss(logits, labels, weight=torch.tensor([1.0, 0.0]), avg_factor=4.0).item() == pytest.approx(3 * 1 / 4)
