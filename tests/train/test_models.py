"""Modules of ours, registered with OpenMMLab."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from mmseg.models.backbones import MobileNetV2

from train import checkpoint, compat, runner
from train import config as configs
from train.data import label_maps
from train.errors import InputError
from train.models.dilated_mobilenet_v2 import DilatedMobileNetV2
from train.models.focal_loss import PixelFocalLoss
from train.models.l1_loss import ClassDistributionL1Loss
from train.models.label_map_dataset import LabelMapDataset
from train.models.region_loss import RegionCrossEntropyLoss

DEEPLAB = dict(strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4))


def naive(logits: np.ndarray, target: np.ndarray) -> float:
    """The mean over the rows of Σ |softmax − target|, written out."""
    total = 0.0
    for row, wanted in zip(logits, target, strict=True):
        exponent = np.exp(row - row.max())
        total += sum(abs(p - t) for p, t in zip(exponent / exponent.sum(), wanted, strict=True))
    return total / len(logits)


def test_it_is_registered() -> None:
    compat.use("mmpretrain")  # whatever a test before used
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


def test_the_region_loss_is_the_cross_entropy_of_mean_logits() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    labels[0, 0] = 255
    labels[1][labels[1] == 2] = 1  # the second image has no region of class 2
    terms = []
    for image, label in zip(logits, labels, strict=True):
        for region in range(3):
            if (label == region).any():
                mean = image[:, label == region].mean(1)
                terms.append(mean.logsumexp(0) - mean[region])
    assert len(terms) == 5
    loss = RegionCrossEntropyLoss(loss_weight=2.0)
    assert loss(logits, labels).item() == pytest.approx(2 * torch.stack(terms).mean().item())
    # Which of the pixels counts is for losses of pixels.
    assert loss(logits, labels, weight=torch.zeros(2, 4, 5)) == loss(logits, labels)
    assert loss(logits, labels, ignore_index=0) != loss(logits, labels)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)


def test_the_region_loss_of_nothing_is_zero() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = RegionCrossEntropyLoss()(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_focal_loss_is_mmsegs() -> None:
    """mmseg's formula, given the one-hot targets that its own caller loses on a CPU."""
    from mmseg.models.losses.focal_loss import FocalLoss, py_sigmoid_focal_loss

    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    labels[0, :2] = 255
    valid = (labels != 255).view(-1, 1)
    one_hot = torch.eye(3, dtype=torch.float64)[labels.masked_fill(labels == 255, 0).view(-1)]
    rows = logits.movedim(1, -1).reshape(-1, 3)
    wanted = py_sigmoid_focal_loss(rows, one_hot, gamma=1.5, alpha=0.3, valid_mask=valid)
    assert PixelFocalLoss(gamma=1.5, alpha=0.3)(logits, labels).item() == pytest.approx(wanted.item())
    nothing = PixelFocalLoss()(logits, labels, weight=torch.zeros(2, 4, 5, dtype=torch.float64))
    assert nothing.item() == 0
    with pytest.raises(RuntimeError, match="must match the size"):  # the reason for ours; gone, it can go too
        FocalLoss(use_sigmoid=True)(logits, labels)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A prepared set of label maps: a list of two splits, whose files nobody opens here."""
    label_maps.write_lists(
        tmp_path, label_maps.coloured(("sky", "sea")), {"train": ["b.jpg", "a.png"], "val": ["c.png"]}
    )
    return tmp_path


def test_a_data_set_follows_its_splits_list(labelled: Path) -> None:
    dataset = LabelMapDataset("train", data_root=str(labelled), max_refetch=0)
    assert [dataset.get_data_info(i)["img_path"] for i in range(len(dataset))] == [
        str(labelled / "train" / "b.jpg"),
        str(labelled / "train" / "a.png"),
    ]
    assert dataset.get_data_info(0)["seg_map_path"] == str(labelled / "labels" / "train" / "b.png")
    assert dataset.get_data_info(0)["reduce_zero_label"] is False
    assert len(LabelMapDataset("val", data_root=str(labelled))) == 1
    assert len(LabelMapDataset("train", data_root=str(labelled), indices=1)) == 1


def test_a_split_that_is_not_there_is_named(labelled: Path) -> None:
    with pytest.raises(InputError, match=r"test\.txt: missing.*found splits: train, val"):
        LabelMapDataset("test", data_root=str(labelled))


def dilations(backbone: MobileNetV2) -> list[int]:
    """The dilation of each block's depthwise convolution, in order."""
    convolutions = [block.conv[-2].conv for name in backbone.layers for block in getattr(backbone, name)]
    assert all(conv.padding == conv.dilation for conv in convolutions)
    return [conv.dilation[0] for conv in convolutions]


def test_dilation_holds_for_every_block_after_the_removed_stride() -> None:
    wanted = [1] * 7 + [2] * 7 + [4] * 3
    ours, theirs = DilatedMobileNetV2(**DEEPLAB), MobileNetV2(**DEEPLAB)
    assert dilations(ours) == wanted
    assert dilations(theirs) != wanted, "the control: mmseg dilates a layer's first block alone"
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.eval()  # mmseg's returns nothing
    with torch.no_grad():
        assert ours(torch.zeros(1, 3, 65, 49))[-1].shape == (1, 320, 9, 7)


@pytest.mark.parametrize(
    ("experiment", "weights", "classes"),
    [("deeplabv3-mnv2_voc21", "deeplabv3_mnv2_voc21_mmseg", 21), ("cgnet_camvid", "cgnet_camvid11_mmseg", 11)],
)
def test_real_weights_fit_their_config(real_data: Path, experiment: str, weights: str, classes: int) -> None:
    path = configs.CONFIGS / "seg" / f"{experiment}.py"
    for count in (classes, classes + 1):
        config = configs.read(path)
        configs.activate(config, path)
        configs.bind(config, Path("root"), [str(i) for i in range(count)])
        model = runner.build_model(config)
        if count == classes:
            checkpoint.load_into(model, real_data / "weights" / f"{weights}.pth")
        else:
            with pytest.raises(InputError, match="does not fit the model"):
                checkpoint.load_into(model, real_data / "weights" / f"{weights}.pth")
