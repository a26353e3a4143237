"""The shapes of an engine: asked for, impossible, and taken from the test pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles

from deploy.engines.building import profiles
from slipway_runtime import manifest as m
from train.errors import UsageError

KEEP = (
    m.Decode(),
    m.Resize(width=112, height=112, keep_ratio=True),
    m.Normalize(mean=(0.0,), std=(1.0,), reverse_channels=True),
    m.Pad(divisor=8),
)
AS_THEY_COME = (m.Decode(), m.Normalize(mean=(0.0,), std=(1.0,), reverse_channels=True))


def choose(batch: str | None = None, *sizes: str, images: Any = lambda: [], **fields: Any) -> tuple:
    described = tiny_bundles.build_manifest(**fields)
    return tuple(
        (each.minimum, each.optimum, each.maximum) for each in profiles.choose(described, batch, sizes, images)
    )


def never() -> list[Path]:
    raise AssertionError("the data set is not needed")


def photos(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    return [
        tiny_bundles.save(folder / f"{index}.png", np.zeros((*size, 3), np.uint8)) for index, size in enumerate(sizes)
    ]


def test_a_pipeline_that_fixes_the_size_needs_no_data() -> None:
    assert choose(images=never) == (((1, 3, 16, 16), (1, 3, 16, 16), (8, 3, 16, 16)),)


def test_a_fixed_graph_is_as_it_is() -> None:
    assert choose(shape=(4, 3, 20, 30), images=never) == (((4, 3, 20, 30),) * 3,)


@pytest.mark.parametrize(
    "step",
    [
        (m.ResizeEdge(size=36, edge="short"), m.CenterCrop(width=32, height=32)),
        (m.Resize(width=32, height=32, keep_ratio=True), m.Pad(width=32, height=32)),
        (m.Resize(width=32, height=32, keep_ratio=True), m.Pad(square=True)),
    ],
)
def test_steps_that_fix_the_size_together(step: tuple) -> None:
    assert choose(images=never, preprocess=(m.Decode(), *step)) == (((1, 3, 32, 32), (1, 3, 32, 32), (8, 3, 32, 32)),)


def test_a_ratio_that_is_kept_gives_a_range_around_what_photos_are() -> None:
    ((low, best, high),) = choose(preprocess=KEEP)
    assert (low, best, high) == ((1, 3, 56, 56), (1, 3, 88, 112), (8, 3, 112, 112))


def test_the_optimum_is_the_most_frequent_size_and_the_range_holds_all(tmp_path: Path) -> None:
    paths = photos(tmp_path, (100, 50), (100, 50), (100, 30), (60, 80))
    ((low, best, high),) = choose(preprocess=KEEP, images=lambda: paths)
    assert best == (1, 3, 112, 56)
    assert low == (1, 3, 56, 40)
    assert high == (8, 3, 112, 112)


def test_images_as_they_come_need_data_or_a_size(tmp_path: Path) -> None:
    paths = photos(tmp_path, (20, 30), (40, 30), (40, 30))
    assert choose(preprocess=AS_THEY_COME, images=lambda: paths) == (((1, 3, 20, 30), (1, 3, 40, 30), (8, 3, 40, 30)),)
    with pytest.raises(UsageError, match="its data set is gone: say which with --size"):
        choose(preprocess=AS_THEY_COME)
    assert choose(None, "40x30", images=never, preprocess=AS_THEY_COME)[0][0] == (1, 3, 40, 30)


def test_a_window_is_what_the_graph_sees() -> None:
    window = m.Window(height=64, width=48, stride_height=32, stride_width=32)
    described = tiny_bundles.segmenter_manifest(
        preprocess=(m.Decode(), m.Resize(width=128, height=96), *AS_THEY_COME[1:]),
        postprocess=m.SegmentationOutput(align_corners=False, window=window),
    )
    (profile,) = profiles.choose(described, "2", (), never)
    assert profile.minimum == profile.maximum == (2, 3, 64, 48)


def test_what_is_asked_for_is_taken() -> None:
    found = choose("1:4:16", "32x64", "16x16:32x32:64x80", "32x64")
    assert found == (
        ((1, 3, 32, 64), (4, 3, 32, 64), (16, 3, 32, 64)),
        ((1, 3, 16, 16), (4, 3, 32, 32), (16, 3, 64, 80)),
    )


@pytest.mark.parametrize(
    ("batch", "size", "reason"),
    [
        ("4:2:8", None, "--batch 4:2:8: batch: minimum ≤ optimum ≤ maximum"),
        ("0", None, "--batch 0: batch: expected numbers from 1 to 65536"),
        ("1:2", None, "--batch 1:2: expected N or MIN:OPT:MAX"),
        ("-1", None, "--batch -1: expected N or MIN:OPT:MAX"),
        (None, "64", "--size 64: expected HxW"),
        (None, "0x64", "height: expected numbers from 1 to 65536"),
        (None, "64x99999", "width: expected numbers from 1 to 65536"),
        (None, "64x64:32x64:64x64", "height: minimum ≤ optimum ≤ maximum"),
        (None, "60x64", "height 60 is no multiple of 8, which this model's images are padded to"),
    ],
)
def test_impossible_profiles(batch: str | None, size: str | None, reason: str) -> None:
    with pytest.raises(UsageError) as raised:
        choose(batch, *([size] if size else []), preprocess=KEEP)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("batch", "size", "reason"),
    [
        ("8", None, "batch is fixed at 1"),
        ("1:1:2", None, "batch is fixed at 1"),
        (None, "16x32", "width is fixed at 16"),
    ],
)
def test_an_axis_that_the_graph_has_fixed(batch: str | None, size: str | None, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        choose(batch, *([size] if size else []), shape=(1, 3, 16, 16))
    assert choose("1", "16x16", shape=(1, 3, 16, 16)) == (((1, 3, 16, 16),) * 3,)
