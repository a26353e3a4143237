"""Squares around objects, and mosaics of them."""

import numpy as np
import pytest

from train.models.mosaic import IGNORE, CropObject, Mosaic


def scene(height: int, width: int) -> dict[str, np.ndarray]:
    """An image that says where each of its pixels lies, and its empty label map."""
    rows, columns = np.mgrid[:height, :width]
    return {
        "img": np.stack([rows, columns, rows * 0], 2).astype(np.uint8),
        "gt_seg_map": np.zeros((height, width), np.uint8),
    }


@pytest.fixture(autouse=True)
def _seeded() -> None:
    np.random.seed(0)


def test_the_square_holds_the_object_anywhere_in_it() -> None:
    corners = set()
    for _ in range(100):
        results = scene(60, 90)
        results["gt_seg_map"][25:33, 40:52] = 3
        results["gt_seg_map"][0, 0] = IGNORE
        found = CropObject(size=24).transform(results)
        assert found["img"].shape == (24, 24, 3)
        assert found["img_shape"] == found["gt_seg_map"].shape == (24, 24)
        assert (found["gt_seg_map"] == 3).sum() == 8 * 12
        # Image and labels were cut at the same place.
        top, left, _ = found["img"][0, 0]
        corners.add((int(top), int(left)))
        assert (found["gt_seg_map"][25 - top : 33 - top, 40 - left : 52 - left] == 3).all()
    assert len(corners) > 50
    assert all(0 <= top <= 36 and 0 <= left <= 66 for top, left in corners)


def test_objects_are_found_one_by_one() -> None:
    """Two regions of a class are two objects; each is chosen about as often as it has pixels."""
    seen = []
    for _ in range(60):
        results = scene(40, 120)
        results["gt_seg_map"][10:20, 5:15] = 2
        results["gt_seg_map"][10:20, 100:110] = 2
        found = CropObject(size=30).transform(results)
        assert (found["gt_seg_map"] == 2).sum() == 100
        seen.append(found["img"][0, 0, 1] > 40)
    assert 15 < sum(seen) < 45


def test_an_object_larger_than_the_square_is_seen_about_its_middle() -> None:
    for _ in range(20):
        results = scene(80, 80)
        results["gt_seg_map"][10:70, 10:70] = 1
        top, left, _ = CropObject(size=20, jitter=4).transform(results)["img"][0, 0]
        assert 25 <= top <= 35
        assert 25 <= left <= 35


def test_some_squares_are_cut_anywhere() -> None:
    empty = 0
    for _ in range(200):
        results = scene(100, 100)
        results["gt_seg_map"][:10, :10] = 1
        empty += not CropObject(size=20, anywhere=0.5).transform(results)["gt_seg_map"].any()
    assert 60 < empty < 140


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (5, 5)])
def test_a_small_image_is_filled_up_with_what_is_ignored(height: int, width: int) -> None:
    results = scene(height, width)
    results["img"][:] = 7
    results["gt_seg_map"][2:4, 2:4] = 1
    found = CropObject(size=20).transform(results)
    assert found["gt_seg_map"].shape == (20, 20)
    inside = found["img"][..., 0] == 7
    assert inside.sum() == min(height, 20) * min(width, 20)
    assert (found["gt_seg_map"][~inside] == IGNORE).all()
    assert not (found["gt_seg_map"][inside] == IGNORE).any()


def test_an_image_without_objects_gives_any_square() -> None:
    assert not CropObject(size=20).transform(scene(50, 50))["gt_seg_map"].any()


def test_a_mosaic_is_laid_out_row_by_row() -> None:
    mosaic = Mosaic(grid=2)
    others = mosaic.get_indices(range(50))
    assert len(others) == 3
    assert all(0 <= index < 50 for index in others)
    tiles = [
        {"img": np.full((4, 4, 3), value, np.uint8), "gt_seg_map": np.full((4, 4), value, np.uint8)}
        for value in range(4)
    ]
    made = mosaic.transform({**tiles[0], "mix_results": tiles[1:]})
    assert made["img"].shape == (8, 8, 3)
    assert made["img_shape"] == (8, 8)
    assert "mix_results" not in made
    for key in ("img", "gt_seg_map"):
        assert [int(made[key][y, x].max()) for y in (0, 7) for x in (0, 7)] == [0, 1, 2, 3]
