"""Bilinear resizing of float planes against torch's own."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from slipway_runtime.resize import Resize, Taps, rows

Size = tuple[int, int]
#: Source and target: by whole factors and not, up, down and both, odd, of one row or pixel, wide.
SIZES = [
    ((16, 32), (128, 256)),
    ((33, 47), (201, 355)),
    ((65, 129), (270, 1920)),
    ((128, 255), (61, 33)),
    ((40, 90), (90, 40)),
    ((1, 7), (5, 5)),
    ((7, 1), (1, 13)),
    ((1, 1), (3, 2)),
    ((9, 9), (9, 9)),
    ((9, 9), (9, 20)),
    ((9, 9), (20, 9)),
]
BOTH = pytest.mark.parametrize("align_corners", [False, True])


def plane(size: Size) -> NDArray[np.float32]:
    return np.random.default_rng(size[0] * 1000 + size[1]).normal(scale=5, size=size).astype(np.float32)


def reference(values: NDArray[np.float32], target: Size, align_corners: bool) -> NDArray[np.float32]:
    tensor = torch.from_numpy(values)[None, None]
    return functional.interpolate(tensor, target, mode="bilinear", align_corners=align_corners)[0, 0].numpy()


def assert_same(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    assert found.dtype == wanted.dtype == np.float32
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()


@BOTH
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_it_computes_what_torch_computes(source: Size, target: Size, align_corners: bool) -> None:
    values = plane(source)
    assert_same(Resize(source, target, align_corners)(values), reference(values, target, align_corners))


def test_another_arithmetic_would_be_noticed() -> None:
    source, target = (33, 1000), (50, 1499)
    values = plane(source)
    wanted = reference(values, target, False)
    assert_same(Resize(source, target, False)(values), wanted)
    twice_rounded = Resize(source, target, False)
    scale, at = np.float32(1000) / np.float32(1499), np.arange(1499, dtype=np.float32)
    x = np.maximum(scale * (at + np.float32(0.5)) - np.float32(0.5), 0)
    taps = twice_rounded._columns
    twice_rounded._columns = Taps(taps.lower, taps.upper, (x - taps.lower).astype(np.float32))
    for other in (
        twice_rounded(values),
        Resize(source, target, True)(values),
        cv2.resize(values, target[::-1], interpolation=cv2.INTER_AREA),
    ):
        with pytest.raises(AssertionError):
            assert_same(other, wanted)


@BOTH
def test_any_rows_are_the_rows_of_the_whole(align_corners: bool) -> None:
    for source, target in SIZES:
        values = plane(source)
        resize = Resize(source, target, align_corners)
        whole = resize(values)
        for start in range(target[0]):
            for stop in {start + 1, (start + target[0] + 1) // 2, target[0]} - {start}:
                np.testing.assert_array_equal(rows(values, [resize], start, stop), whole[start:stop])


@BOTH
def test_steps_one_after_the_other_with_a_cut_between(align_corners: bool) -> None:
    values = plane((24, 17))
    between, content, target = (96, 70), (90, 61), (143, 50)
    steps = [Resize((24, 17), between, align_corners), Resize(content, target, align_corners)]
    cut = reference(values, between, align_corners)[: content[0], : content[1]].copy()
    wanted = reference(cut, target, align_corners)
    assert_same(rows(values, steps, 0, target[0]), wanted)
    for start in range(0, target[0], 20):
        assert_same(rows(values, steps, start, start + 3), wanted[start : start + 3])


def test_no_steps_are_the_rows_themselves() -> None:
    values = plane((5, 6))
    np.testing.assert_array_equal(rows(values, [], 1, 4), values[1:4])
