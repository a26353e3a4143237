"""Deformable attention as `GridSample`: mmcv's numbers at every size, with one graph."""

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmdeploy.core import RewriterContext
from test_rewrites import DEPLOY
from torch import Tensor, nn
from traced import apart, one_graph, run

from deploy import compat, graph
from train.errors import VerificationError

WIDTH, HEADS, LEVELS = 16, 4, 3
#: Batch, height and width of the finest level, queries; the first one is traced.
SIZES = ((2, 12, 16, 10), (1, 13, 9, 10), (3, 4, 4, 1), (7, 8, 30, 25))


class Attending(nn.Module):
    """Queries look at the maps of three levels, as in Deformable DETR's decoder; some of them outside the image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = MultiScaleDeformableAttention(WIDTH, HEADS, LEVELS, num_points=3, dropout=0, batch_first=True)
        for parameter in self.attention.parameters():
            nn.init.normal_(parameter, 0, 0.5)

    def forward(self, a: Tensor, b: Tensor, c: Tensor, query: Tensor, reference: Tensor) -> tuple[Tensor]:
        maps = (a, b, c)
        value = torch.cat([each.flatten(2).transpose(1, 2) for each in maps], 1)
        shapes = torch.stack([torch._shape_as_tensor(each)[2:] for each in maps])
        starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
        result: Tensor = self.attention(
            query,
            value=value,
            identity=torch.zeros_like(query),
            reference_points=reference,
            spatial_shapes=shapes,
            level_start_index=starts,
        )
        return (result,)


def inputs(size: tuple[int, int, int, int]) -> dict[str, Tensor]:
    batch, height, width, queries = size
    generator = torch.Generator().manual_seed(height * width)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    maps = {
        name: normal(batch, WIDTH, -(-height // s), -(-width // s)) for name, s in zip("abc", (1, 2, 4), strict=True)
    }
    reference = torch.rand(batch, queries, LEVELS, 2, generator=generator) * 1.2 - 0.1
    return {**maps, "query": normal(batch, queries, WIDTH), "reference": reference}


def axes() -> dict[str, dict[int, str]]:
    maps = {name: {0: "n", 2: f"h{name}", 3: f"w{name}"} for name in "abc"}
    return {**maps, **{name: {0: "n", 1: "q"} for name in ("query", "reference", "y")}}


def worst(model: Attending, session: onnxruntime.InferenceSession) -> float:
    errors = []
    for size in SIZES:
        feeds = inputs(size)
        with torch.no_grad():
            (wanted,) = model(*feeds.values())
        errors.append(apart(run(session, *feeds.values())["y"], wanted))
    return max(errors)


@pytest.fixture(scope="module")
def model() -> Attending:
    # mmcv multiplies gradients in training and drops; neither here.
    return Attending().eval()


@pytest.fixture(scope="module")
def session(model: Attending, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("attention") / "attention.onnx"
    loaded = one_graph(model, inputs(SIZES[0]), ["y"], axes(), path)
    assert [node.op_type for node in onnx.load(path).graph.node].count("GridSample") == LEVELS
    return loaded


def test_it_equals_mmcvs_at_every_size(model: Attending, session: onnxruntime.InferenceSession) -> None:
    assert worst(model, session) < 1e-5


@pytest.mark.parametrize("name", ["sampling_offsets", "attention_weights", "value_proj"])
def test_control_other_weights_are_noticed(session: onnxruntime.InferenceSession, name: str) -> None:
    damaged = Attending().eval()
    layer = getattr(damaged.attention, name)
    layer.weight.data = layer.weight.data.roll(1, 0)
    assert worst(damaged, session) > 1e-2


def test_control_without_the_rewrites_the_graph_is_no_standard_one(model: Attending, tmp_path: Path) -> None:
    compat.apply()
    path, examples = tmp_path / "plain.onnx", inputs(SIZES[0])
    with compat.torchscript_exporter(), torch.no_grad(), RewriterContext(DEPLOY, backend="default", opset=17):
        torch.onnx.export(model, tuple(examples.values()), str(path), opset_version=17)
    with pytest.raises(VerificationError, match=r"outside ai\.onnx: mmdeploy::grid_sampler"):
        graph.check(onnx.load(path))
