"""Parts of mmseg's models are exported exactly: one graph for any number of images of any size."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn
from traced import apart

from benchmarks.pooling import OURS, graph_of, rewriting
from deploy import compat, graph, rewrites
from deploy.export import read_deploy_config
from deploy.tasks import segmentation
from deploy.zoo.seeding import lively, vary
from slipway_runtime.manifest import SegmentationOutput
from train import compat as packages
from train.errors import UsageError


class Part(nn.Module):
    """A decode head or a backbone as a function of one tensor."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        decodes = hasattr(self.part, "cls_seg")
        found: Tensor = self.part([x]) if decodes else self.part(x)[0]
        return found


@dataclass(frozen=True)
class Case:
    """A part, what it is traced at, and what else its graph is tried at: N×C×H×W."""

    config: dict[str, object]
    traced: tuple[int, ...]
    others: Sequence[tuple[int, ...]]


HEAD = dict(in_channels=8, channels=8, num_classes=4, norm_cfg=dict(type="BN"))
VIT = dict(
    type="VisionTransformer",
    img_size=(32, 32),
    patch_size=8,
    embed_dims=8,
    num_layers=1,
    num_heads=2,
    interpolate_mode="bicubic",
)
MAPS = ((2, 8, 16, 24), (1, 8, 17, 23), (3, 8, 5, 31))
#: 16×64 has as many patches as 32×32: mmseg does not resize.
IMAGES = ((2, 3, 32, 32), (1, 3, 16, 64), (2, 3, 48, 24))
CASES = {
    "DMNet": Case(dict(type="DMHead", filter_sizes=(1, 2, 3), fusion=True, **HEAD), (2, 8, 9, 14), MAPS),
    "ISANet": Case(dict(type="ISAHead", isa_channels=6, down_factor=(4, 3), **HEAD), (2, 8, 9, 14), MAPS),
    "ViT at the trained size": Case(VIT, (2, 3, 32, 32), IMAGES),
    "ViT at another size": Case(VIT, (2, 3, 24, 40), IMAGES),
}


def random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def build(case: Case) -> nn.Module:
    """The part with random weights, batch norms and embeddings."""
    from mmseg.registry import MODELS

    torch.manual_seed(0)
    part = Part(MODELS.build(dict(case.config)))
    vary(part)
    lively(part, lambda: part(random((4, *case.traced[1:]))))
    return part


@pytest.fixture(scope="module")
def parts() -> dict[str, nn.Module]:
    compat.apply()
    packages.use("mmseg")
    return {name: build(case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def graphs(parts: dict[str, nn.Module]) -> dict[str, onnx.ModelProto]:
    rewrites.register("mmseg")
    with rewriting(OURS, dynamic=True):
        return {name: graph_of(parts[name], random(case.traced), dynamic=True) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_part_is_exact_at_every_size(
    parts: dict[str, nn.Module], graphs: dict[str, onnx.ModelProto], name: str
) -> None:
    graph.check(graphs[name])
    assert worst(parts[name], graphs[name], CASES[name].others) < 1e-5


@pytest.mark.parametrize("name", ["ISANet", "ViT at the trained size"])
def test_control_without_the_rewrite_the_size_is_frozen(parts: dict[str, nn.Module], name: str) -> None:
    with compat.torchscript_exporter():
        plain = graph_of(parts[name], random(CASES[name].traced), dynamic=True)
    with pytest.raises(Exception, match="Non-zero status code"):
        worst(parts[name], plain, CASES[name].others)


def worst(model: nn.Module, made: onnx.ModelProto, shapes: Sequence[tuple[int, ...]]) -> float:
    """How far a graph is from its model at any of these shapes; infinite where it gives others."""
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        return max(
            apart(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), model(x)) for x in map(random, shapes)
        )


def settings(**head: object) -> Config:
    return Config(dict(model=dict(type="mmseg.EncoderDecoder", decode_head=head)))


def test_bases_drawn_for_every_image_are_refused() -> None:
    segmentation.check(settings(type="LightHamHead", ham_kwargs=dict(rand_init=False)))
    for kwargs in ({}, dict(ham_kwargs=dict(rand_init=True))):
        with pytest.raises(UsageError, match="draws new random bases for every image"):
            segmentation.check(settings(type="mmseg.LightHamHead", **kwargs))


def test_the_networks_own_stride_is_refused_where_a_head_refines_its_maps() -> None:
    with pytest.raises(UsageError, match="PointHead does more than resize"):
        segmentation.postprocess(settings(type="PointHead"), read_deploy_config("stride"), ("a", "b"))


def test_the_networks_own_stride_is_that_of_the_logits_where_a_head_gives_further_maps() -> None:
    class Three:
        def _forward(self, images: Tensor) -> tuple[Tensor, ...]:
            return images, images + 1, images + 2

    images = random((1, 4, 2, 3))
    stride = SegmentationOutput(align_corners=False, logits="stride")
    assert segmentation.forward(Three(), images, stride)["output"] is images
