"""Label maps against those of mmseg's own `EncoderDecoder`, and against torch on given logits."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from numpy.typing import NDArray
from tiny_bundles import segmenter_manifest
from torch.nn import functional

import slipway_runtime
from slipway_runtime import Prepared, Session
from slipway_runtime import manifest as m
from slipway_runtime.errors import VerificationError
from slipway_runtime.preprocess import preprocess
from slipway_runtime.sessions import Bound, Feeds
from slipway_runtime.tasks import segmentation
from slipway_runtime.tasks.segmentation import Result
from train import compat

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NORMALIZE = m.Normalize(mean=MEAN, std=STD, reverse_channels=True)
WINDOW = m.Window(height=64, width=48, stride_height=40, stride_width=33)


class TorchSession(Session):
    """mmseg's model up to its logits, of the input's size or of the network's stride, as a graph would give them."""

    name = "torch"
    device = "cpu"

    def __init__(self, model: Any, output: m.SegmentationOutput) -> None:
        shape = ("batch", model.out_channels, "h", "w")
        super().__init__(
            [m.TensorSpec(name="image", dtype="float32", shape=("batch", 3, "height", "width"))],
            [m.TensorSpec(name="logits", dtype="float32", shape=shape)],
        )
        self.model, self.full = model, output.logits == "full"
        self.batches: list[tuple[int, ...]] = []

    @torch.inference_mode()
    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        images = torch.from_numpy(feeds["image"])
        self.batches.append(tuple(images.shape))
        size = images.shape[2:]
        logits = self.model.encode_decode(images, [dict(img_shape=size)]) if self.full else self.model(images)
        return {"logits": logits.numpy()}

    def _bind(self, feeds: Feeds) -> Bound:
        raise NotImplementedError


@pytest.fixture(scope="module")
def network() -> Callable[[bool, int], Any]:
    """A thin random ResNet-18 with an FCN head, as mmseg builds it."""
    compat.use("mmseg")
    from mmseg.registry import MODELS

    def build(align_corners: bool, channels: int = 5) -> Any:
        torch.manual_seed(channels)
        backbone = dict(
            type="ResNetV1c", depth=18, base_channels=8, stem_channels=8, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)
        )
        head = dict(
            type="FCNHead", in_channels=64, channels=8, num_convs=1, concat_input=False, align_corners=align_corners
        )
        head |= dict(num_classes=max(channels, 2), out_channels=channels, threshold=0.4 if channels == 1 else None)
        preprocessor = dict(
            type="SegDataPreProcessor", mean=MEAN, std=STD, bgr_to_rgb=True, test_cfg=dict(size_divisor=32)
        )
        model = MODELS.build(
            dict(type="EncoderDecoder", data_preprocessor=preprocessor, backbone=backbone, decode_head=head)
        )
        with torch.no_grad():  # far from zero, so that classes differ
            model.decode_head.conv_seg.weight.normal_(0, 3)
        return model.eval()

    return build


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth blotches."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def mmseg_labels(model: Any, image: NDArray[np.uint8], test_cfg: dict[str, Any]) -> NDArray[np.uint8]:
    """The test pipeline, the data preprocessor and `predict`, as mmseg's tests run."""
    from mmengine.dataset import Compose, pseudo_collate

    pipeline = Compose(
        [
            dict(type="LoadImageFromNDArray"),
            dict(type="Resize", scale=(160, 120), keep_ratio=True),
            dict(type="PackSegInputs"),
        ]
    )
    model.test_cfg = ConfigDict(test_cfg)
    with torch.inference_mode():
        (sample,) = model.test_step(pseudo_collate([pipeline(dict(img=image))]))
    return sample.pred_sem_seg.data[0].numpy().astype(np.uint8)


def build(model: Any, output: m.SegmentationOutput) -> slipway_runtime.Model:
    """The runtime around the same network."""
    classes = tuple(f"class {index}" for index in range(model.num_classes))
    described = segmenter_manifest(
        classes=classes,
        palette=tuple((index, 2 * index, 3 * index) for index in range(len(classes))),
        outputs=(m.TensorSpec(name="logits", dtype="float32", shape=("batch", model.out_channels, "h", "w")),),
        preprocess=(m.Decode(), m.Resize(width=160, height=120, keep_ratio=True), NORMALIZE, m.Pad(divisor=32)),
        postprocess=output,
    )
    return slipway_runtime.Model(described, TorchSession(model, output))


def labels(model: slipway_runtime.Model, *images: Any, batch_size: int | None = None) -> list[NDArray[np.uint8]]:
    results = model(images, batch_size)
    assert all(isinstance(result, Result) and result.label_map.dtype == np.uint8 for result in results)
    return [result.label_map for result in results]  # type: ignore[attr-defined]


def agreement(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    assert found.shape == wanted.shape
    assert len(np.unique(wanted)) > 1
    return float((found == wanted).mean())


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("logits", ["full", "stride"])
@pytest.mark.parametrize("size", [(301, 437), (61, 40), (120, 160)])
def test_whole_as_mmseg(network: Any, align_corners: bool, logits: Any, size: tuple[int, int]) -> None:
    torch_model, image = network(align_corners), picture(*size)
    wanted = mmseg_labels(torch_model, image, dict(mode="whole"))
    model = build(torch_model, m.SegmentationOutput(align_corners=align_corners, logits=logits))
    assert agreement(*labels(model, image), wanted) >= 0.9999


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("logits", ["full", "stride"])
@pytest.mark.parametrize("size", [(301, 437), (600, 300), (25, 200), (20, 20)])
def test_slide_as_mmseg(network: Any, align_corners: bool, logits: Any, size: tuple[int, int]) -> None:
    torch_model, image = network(align_corners), picture(*size)
    test_cfg = dict(mode="slide", crop_size=(64, 48), stride=(40, 33))
    wanted = mmseg_labels(torch_model, image, test_cfg)
    output = m.SegmentationOutput(align_corners=align_corners, logits=logits, window=WINDOW)
    assert agreement(*labels(build(torch_model, output), image), wanted) >= 0.9999


def test_one_channel_with_a_threshold_as_mmseg(network: Any) -> None:
    torch_model, image = network(False, 1), picture(301, 437)
    wanted = mmseg_labels(torch_model, image, dict(mode="whole"))
    for threshold, same in ((0.4, True), (0.6, False)):
        model = build(torch_model, m.SegmentationOutput(align_corners=False, threshold=threshold))
        assert (agreement(*labels(model, image), wanted) >= 0.9999) is same


def test_any_other_order_of_things_would_be_noticed(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_model, image = network(False), picture(301, 437)
    slide = mmseg_labels(torch_model, image, dict(mode="slide", crop_size=(64, 48), stride=(40, 33)))
    whole = mmseg_labels(torch_model, image, dict(mode="whole"))
    other = WINDOW.model_copy(update={"stride_width": 32})
    for wanted, output in (
        (whole, m.SegmentationOutput(align_corners=True)),
        (whole, m.SegmentationOutput(align_corners=False, window=WINDOW)),
        (slide, m.SegmentationOutput(align_corners=False)),
        (slide, m.SegmentationOutput(align_corners=False, window=other)),
    ):
        assert agreement(*labels(build(torch_model, output), image), wanted) < 0.9999
    model = build(torch_model, m.SegmentationOutput(align_corners=False))

    def uncut(image: Any, steps: Any) -> Prepared:
        prepared = preprocess(image, steps)
        return replace(prepared, content=prepared.array.shape[1:])

    monkeypatch.setattr("slipway_runtime.preprocess.preprocess", uncut)
    assert agreement(*labels(model, image), whole) < 0.9999


def smooth(classes: int, height: int, width: int) -> NDArray[np.float32]:
    small = np.random.default_rng(classes).normal(size=(classes, height // 9 + 2, width // 9 + 2)).astype(np.float32)
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in small])


def labelled(logits: NDArray[np.float32], prepared: Prepared, align_corners: bool) -> NDArray[np.uint8]:
    """The label map of an image for which the graph gave these logits."""
    described = segmenter_manifest(
        classes=tuple(map(str, range(len(logits)))),
        palette=((0, 0, 0),) * len(logits),
        outputs=(m.TensorSpec(name="logits", dtype="float32", shape=("batch", len(logits), "h", "w")),),
        postprocess=m.SegmentationOutput(align_corners=align_corners),
    )
    (result,) = segmentation.predict(described, [prepared], lambda arrays: {"logits": logits[None]})
    assert isinstance(result, Result)
    return result.label_map


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("logits", "network", "content", "original"),
    [
        ((65, 129), (513, 1025), (513, 1025), (721, 1281)),  # up and up, in several blocks of rows
        ((65, 129), (513, 1025), (500, 901), (333, 601)),  # up, cut and down
        ((96, 160), (96, 160), (90, 151), (181, 303)),
        ((181, 303), (181, 303), (181, 303), (96, 160)),
        ((181, 303), (181, 303), (170, 303), (170, 303)),  # cut only
    ],
)
def test_labels_as_torch_on_smooth_logits(
    logits: Any, network: Any, content: Any, original: Any, align_corners: bool
) -> None:
    given = smooth(7, *logits)

    def reference(align_corners: bool) -> NDArray[np.uint8]:
        tensor = torch.from_numpy(given)[None]
        for cut, size in ((logits, network), (content, original)):
            tensor = tensor[:, :, : cut[0], : cut[1]]
            tensor = functional.interpolate(tensor, size, mode="bilinear", align_corners=align_corners)
        return tensor[0].argmax(0).numpy().astype(np.uint8)

    found = labelled(given, Prepared(np.empty((3, *network), np.float32), original, content, (1, 1)), align_corners)
    assert agreement(found, reference(align_corners)) >= 0.9999
    if logits != original and content != original:
        assert agreement(found, reference(not align_corners)) < 0.9999


def test_logits_are_never_held_at_the_images_size() -> None:
    original, given = (540, 960), smooth(60, 68, 120)
    tracemalloc.start()
    labelled(given, Prepared(np.empty((3, 68, 120), np.float32), original, (68, 120), (1, 1)), False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 540 * 960 * 4 / 10


@pytest.mark.parametrize("window", [None, WINDOW])
def test_batches_change_nothing(network: Any, window: m.Window | None) -> None:
    model = build(network(False), m.SegmentationOutput(align_corners=False, window=window))
    # Sizes differ, but not after resizing and padding; of the last one they do.
    images = [picture(120, 160), picture(240, 318, 1), picture(90, 120, 2), picture(40, 100, 3)]
    alone = [labels(model, image)[0] for image in images]
    assert [found.shape for found in alone] == [image.shape[:2] for image in images]
    session = model.session
    assert isinstance(session, TorchSession)
    session.batches.clear()
    for found, wanted in zip(labels(model, *images, batch_size=4), alone, strict=True):
        assert agreement(found, wanted) >= 0.9999
    assert [shape[0] for shape in session.batches] == ([3, 1] if window is None else [3] * 15 + [1] * 5)


def test_the_inputs_are_what_the_graph_gets(network: Any) -> None:
    whole = build(network(False), m.SegmentationOutput(align_corners=False))
    slide = build(network(False), m.SegmentationOutput(align_corners=False, window=WINDOW))
    prepared = whole.preprocess(picture(120, 160))
    assert len(whole.inputs(prepared)) == 1
    assert whole.inputs(prepared)[0] is prepared.array
    windows = slide.inputs(prepared)
    assert {window.shape for window in windows} == {(3, 64, 48)}
    slide.predict([prepared])
    session = slide.session
    assert isinstance(session, TorchSession)
    assert session.batches == [(1, 3, 64, 48)] * len(windows)
    np.testing.assert_array_equal(windows[0], prepared.array[:, :64, :48])
    np.testing.assert_array_equal(windows[-1], prepared.array[:, -64:, -48:])


def test_logits_that_are_no_numbers_are_refused(network: Any) -> None:
    model = network(False)
    with torch.no_grad():
        model.decode_head.conv_seg.bias[2] = float("nan")
    broken = build(model, m.SegmentationOutput(align_corners=False))
    with pytest.raises(VerificationError, match="no finite numbers"):
        broken(picture(50, 50))
