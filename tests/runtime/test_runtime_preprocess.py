"""Bit equality with the transforms and data preprocessor that the model was trained with."""

from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import CenterCrop, Pad, Resize
from mmpretrain.datasets.transforms import ResizeEdge
from mmpretrain.models.utils import ClsDataPreprocessor
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from slipway_runtime import manifest as m
from slipway_runtime.errors import ImageError
from slipway_runtime.preprocess import STEPS, plain_opencv, preprocess

SIZES = [(1, 1), (2, 3), (7, 7), (31, 64), (64, 31), (224, 224), (225, 223), (480, 33), (50, 641), (333, 500)]
INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "area", "lanczos"]
IMAGENET = m.Normalize(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), reverse_channels=True)


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference(image: np.ndarray, transforms: list[Any], preprocessor: ClsDataPreprocessor | None = None) -> np.ndarray:
    """What the model gets: the transforms, mmpretrain's packing, the data preprocessor; as C×H×W."""
    results: dict[str, Any] = {"img": image}
    with plain_opencv():
        for transform in transforms:
            results = transform(results)
    tensor = torch.from_numpy(np.ascontiguousarray(results["img"].transpose(2, 0, 1)))
    return (preprocessor or ClsDataPreprocessor())({"inputs": [tensor]})["inputs"][0].numpy()


def prepare(image: Any, steps: list[m.Step]) -> np.ndarray:
    return preprocess(image, steps).array


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep_ratio", [False, True])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resize(size: tuple[int, int], keep_ratio: bool, interpolation: Any) -> None:
    image = random_image(*size)
    for width, height in ((32, 32), (97, 41), (41, 97)):
        step = m.Resize(width=width, height=height, keep_ratio=keep_ratio, interpolation=interpolation)
        transform = Resize(scale=(width, height), keep_ratio=keep_ratio, interpolation=interpolation)
        assert_same(prepare(image, [m.Decode(), step]), reference(image, [transform]))


@pytest.mark.skipif("Intel IPP" not in cv2.getBuildInformation(), reason="this OpenCV is plain already")
def test_intels_library_would_round_otherwise_and_is_left_as_it_was() -> None:
    image = random_image(333, 500)
    step = m.Resize(width=97, height=41, interpolation="bicubic")
    used = cv2.ipp.useIPP()
    plain = prepare(image, [m.Decode(), step])
    assert cv2.ipp.useIPP() == used
    cv2.ipp.setUseIPP(True)
    theirs = cv2.resize(image, (97, 41), interpolation=cv2.INTER_CUBIC).transpose(2, 0, 1)
    cv2.ipp.setUseIPP(used)
    differs = plain != theirs
    assert differs.any()
    assert np.abs(plain - theirs).max() == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("edge", ["short", "long", "width", "height"])
def test_resize_edge(size: tuple[int, int], edge: Any) -> None:
    image = random_image(*size)
    for interpolation in INTERPOLATIONS:
        step = m.ResizeEdge(size=45, edge=edge, interpolation=interpolation)  # type: ignore[arg-type]
        transform = ResizeEdge(scale=45, edge=edge, interpolation=interpolation)
        assert_same(prepare(image, [m.Decode(), step]), reference(image, [transform]))


@pytest.mark.parametrize("size", SIZES)
def test_center_crop(size: tuple[int, int]) -> None:
    image = random_image(*size)
    for width, height in ((1, 1), (2, 5), (30, 31), (224, 224), (700, 3)):
        step = m.CenterCrop(width=width, height=height)
        assert_same(prepare(image, [m.Decode(), step]), reference(image, [CenterCrop((width, height))]))


@pytest.mark.parametrize("size", SIZES)
def test_pad_before_normalising(size: tuple[int, int]) -> None:
    image = random_image(*size)
    for step, transform in (
        (m.Pad(width=300, height=60), Pad(size=(300, 60))),
        (m.Pad(width=64, height=600, value=(114.0,)), Pad(size=(64, 600), pad_val=114)),
        (m.Pad(width=64, height=600, value=(1.0, 2.0, 3.0)), Pad(size=(64, 600), pad_val={"img": (1, 2, 3)})),
        (m.Pad(divisor=32, value=(7.0,)), Pad(size_divisor=32, pad_val=7)),
        (m.Pad(square=True, value=(114.0,)), Pad(pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0)))),
    ):
        assert_same(prepare(image, [m.Decode(), step]), reference(image, [transform]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reverse", [False, True])
def test_normalize_and_pad_as_the_data_preprocessor(size: tuple[int, int], reverse: bool) -> None:
    image = random_image(*size)
    for mean, std, divisor, value in (
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], 32, 0.3),
        ([127.5], [127.5], 1, 0),
        ([0, 1, 2], [1, 255, 3], 7, -1.7),
    ):
        steps: list[m.Step] = [
            m.Decode(),
            m.Normalize(mean=tuple(mean), std=tuple(std), reverse_channels=reverse),
            m.Pad(divisor=divisor, value=(value,)),
        ]
        preprocessor = ClsDataPreprocessor(mean, std, pad_size_divisor=divisor, pad_value=value, to_rgb=reverse)
        assert_same(prepare(image, steps), reference(image, [], preprocessor))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", [dict(size=(300, 420)), dict(size_divisor=32), dict(size_divisor=7)])
def test_resize_normalize_and_pad_as_mmseg(size: tuple[int, int], padding: dict[str, Any]) -> None:
    image = random_image(*size)
    noted = Resize(scale=(400, 200), keep_ratio=True)({"img": image})
    resized = noted["img"]
    if min(resized.shape[:2]) == 0:
        pytest.skip("mmcv leaves nothing of this size")
    mean, std = list(IMAGENET.mean), list(IMAGENET.std)
    preprocessor = SegDataPreProcessor(mean, std, bgr_to_rgb=True, pad_val=0.3, test_cfg=padding)
    tensor = torch.from_numpy(resized.transpose(2, 0, 1).copy())
    expected = preprocessor({"inputs": [tensor], "data_samples": [SegDataSample()]})
    if "size" in padding:
        pad = m.Pad(height=padding["size"][0], width=padding["size"][1], value=(0.3,))
    else:
        pad = m.Pad(divisor=padding["size_divisor"], value=(0.3,))
    found = preprocess(image, [m.Decode(), m.Resize(width=400, height=200, keep_ratio=True), IMAGENET, pad])
    assert_same(found.array, expected["inputs"][0].numpy())
    _, right, _, bottom = expected["data_samples"][0].img_padding_size
    assert found.original == size
    assert found.scale_factor == noted["scale_factor"]
    assert found.content == resized.shape[:2] == (found.array.shape[1] - bottom, found.array.shape[2] - right)


def test_what_a_pipeline_pads_belongs_to_the_content() -> None:
    pad, image = m.Pad(width=12, height=13), random_image(7, 9)
    normalize = m.Normalize(mean=(0.0,), std=(1.0,), reverse_channels=False)
    for steps, content in (
        ([pad], (13, 12)),
        ([pad, normalize], (13, 12)),
        ([normalize, pad], (7, 9)),
        ([m.CenterCrop(width=5, height=4)], (4, 5)),
        ([], (7, 9)),
    ):
        found = preprocess(image, [m.Decode(), *steps])
        assert (found.original, found.content, found.scale_factor) == ((7, 9), content, (1, 1))


def test_the_scale_factor_is_that_of_all_resizes_and_of_nothing_else() -> None:
    steps = [m.Decode(), m.Resize(width=18, height=7), m.Pad(width=36, height=36), m.Resize(width=18, height=9)]
    assert preprocess(random_image(7, 9), steps).scale_factor == (18 / 9 * (18 / 36), 9 / 36)


def imagenet(image: Any, size: int = 224) -> tuple[np.ndarray, np.ndarray]:
    """The ImageNet test pipeline, ours and OpenMMLab's."""
    resize, crop = m.ResizeEdge(size=256, edge="short"), m.CenterCrop(width=size, height=size)
    preprocessor = ClsDataPreprocessor(list(IMAGENET.mean), list(IMAGENET.std), to_rgb=True)
    expected = reference(image, [ResizeEdge(256, "short"), CenterCrop(size)], preprocessor)
    return prepare(image, [m.Decode(), resize, crop, IMAGENET]), expected


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (31, 64), (256, 256), (333, 500)])
def test_the_imagenet_pipeline(size: tuple[int, int]) -> None:
    assert_same(*imagenet(random_image(*size)))


def test_the_imagenet_pipeline_on_real_images(real_data: Path) -> None:
    from slipway_runtime.image import decode

    paths = sorted(real_data.rglob("*.jpg"))[::40]
    assert paths
    for path in paths:
        assert_same(*imagenet(decode(path)))


def test_one_wrong_number_would_be_noticed() -> None:
    image = random_image(333, 500)
    right, expected = imagenet(image)
    wrong, _ = imagenet(image[:, 1:])
    with pytest.raises(AssertionError):
        assert_same(wrong, expected)
    with pytest.raises(AssertionError):
        assert_same(np.nextafter(right, np.float32(9)), expected)


def test_the_image_itself_is_left_alone() -> None:
    image = random_image(20, 20)
    before = image.copy()
    preprocess(image, [m.Decode(), m.CenterCrop(width=9, height=9), m.Pad(width=12, height=12), IMAGENET])
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("size", "step", "message"),
    [
        ((1000, 1), m.ResizeEdge(size=100, edge="long"), "resize_edge: 0×100 pixels"),
        ((1, 3000), m.Resize(width=100, height=100, keep_ratio=True), "resize: 100×0 pixels"),
        ((1, 5000), m.ResizeEdge(size=256, edge="short"), "resize_edge: 1280000×256 pixels"),
        ((5, 5), m.Pad(divisor=65536), "pad: 65536×65536 pixels"),
    ],
)
def test_an_image_that_a_step_would_ruin_is_refused(size: tuple[int, int], step: m.Step, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        preprocess(random_image(*size), [m.Decode(), step])


def test_every_step_of_the_manifest_has_a_function() -> None:
    union, _ = get_args(m.Step)
    ops = {model.model_fields["op"].default for model in get_args(union)}
    assert set(STEPS) == ops - {"decode"}
