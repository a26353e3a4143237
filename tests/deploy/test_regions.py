"""Regions' features in standard operators: mmcv's `RoIAlign` and mmdet's choice of a level, for any regions."""

import onnxruntime
import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads import SingleRoIExtractor
from torch import Tensor, nn
from traced import apart, one_graph, run

from deploy import compat, rewrites
from deploy.rewrites.roi_align import roi_align__forward
from train.errors import UsageError

#: RoIAlign by name; the scale is one feature pixel every four.
ALIGNS = {
    f"aligned {aligned}, ratio {ratio}, {height}×{width}": RoIAlign((height, width), 0.25, ratio, "avg", aligned)
    for aligned in (True, False)
    for ratio in (0, 2)
    for height, width in ((7, 7), (3, 5))
}


class Aligned(nn.Module):
    """Every kind of RoIAlign of the same regions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ALIGNS.values())

    def forward(self, features: Tensor, rois: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(features, rois) for layer in self.layers)


def regions(batch: int, count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """R×5 regions of any size, image first; inside, across the edges and far outside, with whole and broken coordinates."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(batch, (count, 1), generator=generator).float()
    corners = (torch.rand(count, 2, generator=generator) * 1.6 - 0.3) * torch.tensor(size[::-1])
    extent = torch.exp(torch.rand(count, 2, generator=generator) * 6.5)
    boxes = torch.cat([corners, corners + extent], 1)
    boxes[::3] = boxes[::3].round()
    return torch.cat([images, boxes], 1)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    inputs = {"features": torch.randn(2, 3, 20, 24), "rois": regions(2, 9, (80, 96))}
    axes = {"features": {0: "n", 2: "h", 3: "w"}, "rois": {0: "r"}, **{name: {0: "r"} for name in ALIGNS}}
    return one_graph(Aligned(), inputs, list(ALIGNS), axes, tmp_path_factory.mktemp("align") / "align.onnx")


@pytest.mark.parametrize(
    ("batch", "count", "height", "width"),
    [(1, 40, 20, 24), (3, 100, 33, 17), (7, 30, 5, 9), (1, 1, 8, 8), (2, 0, 8, 8)],
)
def test_roi_align_is_mmcvs(
    aligned: onnxruntime.InferenceSession, batch: int, count: int, height: int, width: int
) -> None:
    torch.manual_seed(0)
    features, rois = torch.randn(batch, 3, height, width), regions(batch, count, (4 * height, 4 * width), seed=count)
    found = run(aligned, features, rois)
    for name, wanted in zip(ALIGNS, Aligned()(features, rois), strict=True):
        assert apart(found[name], wanted) < 1e-5, name


def test_control_other_centres_or_samples_are_noticed(aligned: onnxruntime.InferenceSession) -> None:
    torch.manual_seed(0)
    features, rois = torch.randn(1, 3, 20, 24), regions(1, 40, (80, 96))
    found = run(aligned, features, rois)
    wanted = dict(zip(ALIGNS, Aligned()(features, rois), strict=True))
    for name in ALIGNS:
        for here, there in (("True", "False"), ("False", "True"), ("ratio 0", "ratio 2"), ("ratio 2", "ratio 0")):
            other = name.replace(here, there)
            assert other == name or apart(found[name], wanted[other]) > 1e-2
    rois[:, 0] = 0
    rois[:, 1:] += 1
    assert apart(found["aligned True, ratio 0, 7×7"], ALIGNS["aligned True, ratio 0, 7×7"](features, rois)) > 1e-2


class Extracted(nn.Module):
    """Four levels, four levels with larger regions, and one level alone."""

    names = ("four", "larger", "one")

    def __init__(self) -> None:
        super().__init__()
        layer = dict(type="RoIAlign", output_size=3, sampling_ratio=0)
        self.four = SingleRoIExtractor(layer, out_channels=2, featmap_strides=[4, 8, 16, 32])
        self.one = SingleRoIExtractor(layer, out_channels=2, featmap_strides=[16])

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, rois: Tensor) -> tuple[Tensor, ...]:
        every = (a, b, c, d)
        return self.four(every, rois), self.four(every, rois, roi_scale_factor=1.5), self.one((c,), rois)


#: Edges of regions by level: up to 112, 224, 448, and more.
LEVELS = (60.0, 150.0, 300.0, 600.0)


def pyramid(batch: int, height: int, width: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(height)
    return tuple(torch.randn(batch, 2, height // s, width // s, generator=generator) for s in (4, 8, 16, 32))


def squares(batch: int, edges: tuple[float, ...], seed: int = 0) -> Tensor:
    """R×5 regions, the image first, with edges about as given, in any order."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(edges)[torch.randperm(len(edges), generator=generator)][:, None]
    corners = torch.rand(len(edges), 2, generator=generator) * 300 - 50
    images = torch.randint(batch, (len(edges), 1), generator=generator)
    return torch.cat(
        [images, corners, corners + sizes * (0.9 + 0.2 * torch.rand(len(edges), 2, generator=generator))], 1
    )


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    levels = dict(zip("abcd", pyramid(2, 256, 320), strict=True))
    axes: dict[str, dict[int, str]] = {name: {0: "n", 2: f"h{name}", 3: f"w{name}"} for name in levels}
    axes |= {"rois": {0: "r"}, **{name: {0: "r"} for name in Extracted.names}}
    return one_graph(
        Extracted(),
        {**levels, "rois": squares(2, LEVELS * 2)},
        Extracted.names,
        axes,
        tmp_path_factory.mktemp("extractor") / "extractor.onnx",
        scope="mmdet",
    )


@pytest.mark.parametrize(
    "edges",
    [LEVELS * 8, (60.0, 600.0) * 5, (150.0,), (112.0, 224.0, 448.0) * 6, (60.0,) * 9, ()],
    ids=["every level", "two levels", "one region", "at the borders", "one level", "none"],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_regions_of_levels_are_mmdets(
    extracted: onnxruntime.InferenceSession, batch: int, edges: tuple[float, ...]
) -> None:
    levels, rois = pyramid(batch, 352, 288), squares(batch, edges)
    found = run(extracted, *levels, rois)
    with torch.no_grad():
        for name, wanted in zip(Extracted.names, Extracted()(*levels, rois), strict=True):
            assert apart(found[name], wanted) < 1e-5, name


def test_control_regions_in_the_order_of_their_levels_are_noticed(extracted: onnxruntime.InferenceSession) -> None:
    levels, rois = pyramid(1, 352, 288), squares(1, LEVELS * 8)
    found = run(extracted, *levels, rois)["four"]
    with torch.no_grad():
        wanted = Extracted()(*levels, rois)[0]
    order = Extracted().four.map_roi_levels(rois, 4).argsort(stable=True)
    assert sorted(order.tolist()) != order.tolist()
    assert apart(found[order], wanted) > 1e-2
    assert apart(found, Extracted()(*levels[:3], levels[3].flip(3), rois)[0]) > 1e-2, "every level counts"


def test_max_pooling_is_refused() -> None:
    compat.apply()
    rewrites.register()
    with pytest.raises(UsageError, match="pool_mode='max'"):
        roi_align__forward(RoIAlign(7, pool_mode="max"), torch.zeros(1, 1, 8, 8), regions(1, 2, (8, 8)))
