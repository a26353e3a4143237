"""What a segmentation result holds, shows and writes."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil
from tiny_bundles import CLASSES, PALETTE

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.errors import UsageError
from slipway_runtime.tasks.segmentation import Result

BundleMaker = Callable[..., Path]


def predict(bundle: Path, image: NDArray[np.uint8]) -> Result:
    (result,) = slipway_runtime.load(bundle)(image)
    assert isinstance(result, Result)
    return result


def test_of_equal_logits_the_lowest_label_wins(make_segmenter: BundleMaker) -> None:
    bundle = make_segmenter(weight=np.array([[1, 5, 1, 5]] * 3, np.float32))
    assert (predict(bundle, np.full((4, 5, 3), 255, np.uint8)).label_map == 1).all()
    assert (predict(bundle, np.zeros((4, 5, 3), np.uint8)).label_map == 0).all()


def quarters(height: int = 12, width: int = 16) -> NDArray[np.uint8]:
    """Blue, green, red and grey quarters: the classes 0, 1, 2 and 3."""
    image = np.empty((height, width, 3), np.uint8)
    for index, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]):
        down, across = divmod(index, 2)
        image[down * height // 2 :, across * width // 2 :] = colour
        if across == 0:
            image[down * height // 2 :, width // 2 :] = colour
    return image


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_bundle_labels_an_image(make_segmenter: BundleMaker, stride: int) -> None:
    output = m.SegmentationOutput(align_corners=False, logits="stride")
    found = predict(make_segmenter(stride=stride, postprocess=output), quarters(24, 32)).label_map
    assert found.shape == (24, 32)
    assert found.dtype == np.uint8
    # A pixel of the stride's width along the borders is a mixture.
    assert [found[y, x] for y in (0, -1) for x in (0, -1)] == [0, 1, 2, 3]
    assert (found[:8, :12] == 0).all()


@pytest.fixture
def result(segmenter: Path) -> Result:
    image = quarters()
    image[:, 0] = 255
    return predict(segmenter, image)


def test_a_result_counts_its_classes(result: Result) -> None:
    assert result.names == CLASSES
    assert result.palette == PALETTE
    found = json.loads(json.dumps(result.to_dict()))
    assert {key: found[key] for key in ("task", "width", "height")} == dict(task="segmentation", width=16, height=12)
    # The most pixels first; of equal ones the lower label.
    assert [(row["label"], row["name"], row["pixels"]) for row in found["classes"]] == [
        (3, "grey", 60),
        (1, "green", 48),
        (0, "blue", 42),
        (2, "red", 42),
    ]
    assert sum(row["share"] for row in found["classes"]) == pytest.approx(1)
    assert result.line() == "grey 31.2 %  green 25.0 %  blue 21.9 %  red 21.9 %"


def test_of_many_classes_the_line_names_five() -> None:
    label_map = np.repeat(np.arange(8, dtype=np.uint8), np.arange(8, 0, -1) * 5)[None]
    names = tuple(f"{index}%" for index in range(9))
    found = Result(label_map, names, ((0, 0, 0),) * 9)
    assert found.line() == "0% 22.2 %  1% 19.4 %  2% 16.7 %  3% 13.9 %  4% 11.1 %  +3 more"
    assert len(found.to_dict()["classes"]) == 8


def test_the_index_png_holds_labels_and_colours(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path / "deeper" / "labels.png")
    content = (tmp_path / "deeper" / "labels.png").read_bytes()
    assert content == result.to_png() == result.beside()[".labels.png"]
    with Pil.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.array(picture), result.label_map)
        assert picture.getpalette() == [value for colour in PALETTE for value in colour]
        rgb = np.array(picture.convert("RGB"))
    np.testing.assert_array_equal(rgb, np.array(PALETTE, np.uint8)[result.label_map])
    np.testing.assert_array_equal(cv2.imread(tmp_path / "deeper" / "labels.png")[..., ::-1], rgb)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        result.save(tmp_path / "file" / "labels.png")


def test_one_row_and_255_classes_make_a_png() -> None:
    label_map = np.arange(255, dtype=np.uint8)[None]
    palette = tuple((index, 255 - index, 7) for index in range(255))
    with Pil.open(io.BytesIO(Result(label_map, ("x",) * 255, palette).to_png())) as picture:
        np.testing.assert_array_equal(np.array(picture), label_map)
        assert tuple(picture.convert("RGB").getpixel((200, 0))) == palette[200]


def test_a_drawing_mixes_colours_in_and_names_them(segmenter: Path) -> None:
    image = quarters(200, 240)
    before = image.copy()
    result = predict(segmenter, image)
    colours = np.array(PALETTE, np.uint8)[result.label_map][..., ::-1]
    for opacity in (0.0, 0.5, 1.0):
        drawn = result.draw(image, opacity)
        assert drawn.shape == image.shape
        assert drawn.dtype == np.uint8
        mixed = image * (1 - opacity) + colours * opacity
        assert np.abs(drawn[100:].astype(float) - mixed[100:]).max() <= 0.5  # the legend is in the upper half
    np.testing.assert_array_equal(result.draw(image), result.draw(image, 0.5))
    np.testing.assert_array_equal(image, before)
    legend = result.draw(image, 0.0)[:48, :60].reshape(-1, 3)
    for colour in PALETTE:  # a swatch of each
        assert (legend == colour[::-1]).all(axis=1).sum() >= 20
    assert (legend.min(axis=1) > 200).sum() >= 20  # white letters
    assert (legend.max(axis=1) == 0).sum() > len(legend) / 3


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (15, 11)])
def test_an_image_of_any_size_can_be_drawn_on(segmenter: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert predict(segmenter, image).draw(image).shape == image.shape


def test_a_legend_is_half_as_high_as_the_image_at_most() -> None:
    label_map = np.repeat(np.arange(100, dtype=np.uint8), 200).reshape(100, 200)
    found = Result(label_map, ("a class with a long name",) * 100, ((255, 255, 255),) * 100)
    drawn = found.draw(np.full((100, 200, 3), 255, np.uint8))
    assert (drawn[50:] == 255).all()
    assert not (drawn[:40] == 255).all()
