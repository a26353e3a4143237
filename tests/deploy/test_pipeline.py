"""A test pipeline becomes preprocessing steps, or is refused by name."""

from typing import Any

import pytest
from mmengine.config import Config

from deploy import pipeline
from slipway_runtime.manifest import CenterCrop, Decode, Normalize, Pad, Resize, ResizeEdge
from train.errors import UsageError


def config(*transforms: dict[str, Any], **preprocessor: Any) -> Config:
    steps = [dict(type="LoadImageFromFile"), *transforms, dict(type="PackInputs")]
    return Config(
        dict(
            model=dict(data_preprocessor=preprocessor),
            test_dataloader=dict(dataset=dict(type="Wrapper", dataset=dict(type="CustomDataset", pipeline=steps))),
        )
    )


def test_every_number_is_carried_over() -> None:
    found = pipeline.steps(
        config(
            dict(type="mmpretrain.ResizeEdge", scale=256, edge="short", interpolation="bicubic"),
            dict(type="CenterCrop", crop_size=(224, 192)),
            dict(type="Resize", scale=(64, 48), keep_ratio=True),
            dict(type="Pad", size=(100, 90), pad_val=dict(img=(1, 2, 3))),
            mean=[1.0, 2.0, 3.0],
            std=[4.0, 5.0, 6.0],
            to_rgb=True,
        )
    )
    assert found == (
        Decode(),
        ResizeEdge(size=256, edge="short", interpolation="bicubic"),
        CenterCrop(width=224, height=192),
        Resize(width=64, height=48, keep_ratio=True),
        Pad(width=100, height=90, value=(1.0, 2.0, 3.0)),
        Normalize(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), reverse_channels=True),
    )


def test_without_a_mean_pixels_stay_as_they_are() -> None:
    assert pipeline.steps(config())[-1] == Normalize(mean=(0.0,) * 3, std=(1.0,) * 3, reverse_channels=False)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (dict(type="ColorJitter", brightness=0.4), "'ColorJitter' has no counterpart"),
        (dict(type="ResizeEdge", scale=256, backend="pillow"), "backend='pillow'"),
        (dict(type="Resize", scale_factor=0.5), "Resize has no scale"),
        (dict(type="CenterCrop", crop_size=224, auto_pad=True), "auto_pad=True"),
        (dict(type="Pad", size_divisor=32, padding_mode="reflect"), "padding_mode='reflect'"),
        (dict(type="LoadImageFromFile", color_type="grayscale"), "color_type='grayscale'"),
    ],
)
def test_what_cannot_be_repeated_is_refused(transform: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pipeline.steps(config(transform))


def test_a_preprocessor_that_pads_does_so_after_normalising() -> None:
    found = pipeline.steps(config(pad_size_divisor=32, pad_value=7))
    assert found[-1] == Pad(divisor=32, value=(7.0,))
    assert isinstance(found[-2], Normalize)
