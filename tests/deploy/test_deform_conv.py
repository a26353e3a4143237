"""Deformable convolution in ONNX's own operator: mmcv's numbers, at every size, with one graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from mmcv.ops import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2d, ModulatedDeformConv2dPack, deform_conv2d
from torch import Tensor, nn
from traced import apart, one_graph, run

from deploy import export, graph, rewrites, trace
from deploy.matching import Matched
from deploy.rewrites import deform_conv
from deploy.zoo.seeding import images, seeded
from train import config as configs
from train.errors import UsageError

CHANNELS, OUT = 4, 6
OPSET = deform_conv.OPSET
#: Batch, height, width; the first one is traced.
SIZES = ((2, 13, 17), (1, 8, 8), (3, 5, 21), (7, 30, 9))
GEOMETRIES: tuple[dict[str, Any], ...] = (
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=3, padding=2, dilation=2),
    dict(kernel_size=(1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    dict(kernel_size=1),
    dict(kernel_size=3, padding=1, groups=2),
    dict(kernel_size=3, padding=1, deform_groups=2),
    dict(kernel_size=5, stride=3, padding=2, groups=2, deform_groups=4),
)


class Deformed(nn.Module):
    """A deformable convolution whose offsets, and mask in version 2, come of its input: some far outside the image."""

    def __init__(self, cls: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.convolution: Any = cls(CHANNELS, OUT, **options)
        places = self.convolution.weight[0, 0].numel() * self.convolution.deform_groups
        geometry = {name: options[name] for name in ("kernel_size", "stride", "padding", "dilation") if name in options}
        self.offsets = nn.Conv2d(CHANNELS, 2 * places, **geometry)
        self.mask = nn.Conv2d(CHANNELS, places, **geometry) if cls is ModulatedDeformConv2d else None
        nn.init.normal_(self.offsets.weight)
        if getattr(self.convolution, "bias", None) is not None:
            nn.init.normal_(self.convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        masks = [self.mask(x).sigmoid()] if self.mask else []
        result: Tensor = self.convolution(x, self.offsets(x), *masks)
        return result


class Called(nn.Module):
    """The function itself, as heads call it."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(CHANNELS, 18, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(OUT, CHANNELS, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = deform_conv2d(x, self.offsets(x), self.weight, 1, 1, 1, 1, 1)
        return result


class Tuple(nn.Module):
    """What a graph's outputs are."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x,)


def pack(cls: Callable[..., Any]) -> nn.Module:
    """The layer of backbones, with its own offsets, which are zeros before training."""
    layer = cls(CHANNELS, OUT, 3, stride=2, padding=1, deform_groups=2)
    nn.init.normal_(layer.conv_offset.weight)
    return layer


class Layers(nn.Module):
    """Every layer over the same input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        kinds = (DeformConv2d, ModulatedDeformConv2d)
        made = {f"{cls.__name__} {options}": Deformed(cls, **options) for cls in kinds for options in GEOMETRIES}
        made["without a bias"] = Deformed(ModulatedDeformConv2d, kernel_size=3, padding=1, bias=False)
        made |= {cls.__name__: pack(cls) for cls in (DeformConv2dPack, ModulatedDeformConv2dPack)}
        made["called"] = Called()
        self.names, self.layers = tuple(made), nn.ModuleList(made.values())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer in self.layers)


@pytest.fixture(scope="module")
def layers() -> Layers:
    return Layers().eval()


@pytest.fixture(scope="module")
def session(layers: Layers, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    """One graph of all layers for every size, of standard operators."""
    x = inputs(SIZES[0])
    axes = {name: {0: "n", 2: f"h {name}", 3: f"w {name}"} for name in ("x", *layers.names)}
    path = tmp_path_factory.mktemp("deformed") / "layers.onnx"
    loaded = one_graph(layers, {"x": x}, layers.names, axes, path, opset=OPSET)
    assert [node.op_type for node in onnx.load(path).graph.node].count("DeformConv") == len(layers.names) == 20
    return loaded


def inputs(size: tuple[int, int, int]) -> Tensor:
    batch, height, width = size
    generator = torch.Generator().manual_seed(height * width)
    return torch.randn(batch, CHANNELS, height, width, generator=generator)


def worst(layers: Layers, session: onnxruntime.InferenceSession) -> dict[str, float]:
    """Each layer's largest difference over all sizes."""
    errors = dict.fromkeys(layers.names, 0.0)
    for x in map(inputs, SIZES):
        found = run(session, x)
        with torch.no_grad():
            for name, wanted in zip(layers.names, layers(x), strict=True):
                errors[name] = max(errors[name], apart(found[name], wanted))
    return errors


def test_every_layer_equals_mmcvs_at_every_size(layers: Layers, session: onnxruntime.InferenceSession) -> None:
    errors = worst(layers, session)
    assert max(errors.values()) < 1e-5, errors


def _swap_offsets(layer: Deformed) -> None:
    layer.offsets.weight.data = layer.offsets.weight.data.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def _one_pixel(layer: Deformed) -> None:
    assert layer.offsets.bias is not None
    layer.offsets.bias.data += 1


def _no_mask(layer: Deformed) -> None:
    assert layer.mask is not None
    assert layer.mask.bias is not None
    layer.mask.bias.data += 50


@pytest.mark.parametrize("fault", [_swap_offsets, _one_pixel, _no_mask])
def test_control_other_offsets_or_masks_are_noticed(
    session: onnxruntime.InferenceSession, fault: Callable[[Deformed], None]
) -> None:
    damaged = Layers().eval()
    name = next(name for name in damaged.names if name.startswith("Modulated"))
    layer = damaged.layers[damaged.names.index(name)]
    assert isinstance(layer, Deformed)
    fault(layer)
    errors = worst(damaged, session)
    assert errors.pop(name) > 1e-2
    assert max(errors.values()) < 1e-5


def test_images_smaller_than_the_kernel(tmp_path: Path) -> None:
    """mmcv pads them; a graph traced at such a size serves larger ones too."""
    torch.manual_seed(0)
    layer = Deformed(DeformConv2d, kernel_size=3, padding=1).eval()
    axes = {name: {0: "n", 2: f"h {name}", 3: f"w {name}"} for name in ("x", "y")}
    model = nn.Sequential(layer, Tuple())
    loaded = one_graph(model, {"x": inputs((2, 1, 2))}, ["y"], axes, tmp_path / "layer.onnx", opset=OPSET)
    for x in map(inputs, ((2, 1, 2), (1, 1, 1), (3, 2, 7), (1, 6, 5))):
        assert apart(run(loaded, x)["y"], layer(x).detach()) < 1e-5


def test_a_bias_in_version_one_is_refused() -> None:
    x, offsets, weight = torch.zeros(1, 4, 5, 5), torch.zeros(1, 18, 5, 5), torch.zeros(6, 4, 3, 3)
    with pytest.raises(UsageError, match="mmcv has none"):
        deform_conv.deform_conv2d(x, offsets, weight, padding=1, bias=True)


def test_the_opset_is_raised_only_where_a_rewrite_needs_it() -> None:
    modules = rewrites.register()
    plain = {module.__name__.rsplit(".", 1)[-1]: 0 for module in modules}
    deformed = {**plain, "deform_conv": 1}
    assert rewrites.opset(modules, plain, 17) == 17
    assert rewrites.opset(modules, deformed, 17) == OPSET == 19
    assert rewrites.opset(modules, deformed, 20) == 20


def test_a_detector_with_a_deformable_backbone(tmp_path: Path) -> None:
    """RetinaNet on half of a thin ResNet-50, with DCNv2, with the shipped policy: opset 17 there, 19 in the graph."""
    _, path = configs.locate("det/retinanet-r50_coco")
    config = configs.read(path)
    two = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1), stage_with_dcn=(False, True))
    config.model.backbone.update(base_channels=8, stem_channels=8, dcn=dict(type="DCNv2"), **two)
    config.model.neck.update(in_channels=[32, 64], out_channels=16, num_outs=3, start_level=0)
    config.model.bbox_head.update(in_channels=16, feat_channels=16, stacked_convs=1)
    config.model.bbox_head.anchor_generator.strides = [4, 8, 16]
    configs.activate(config, path)
    configs.bind(config, tmp_path, ("one", "two"))
    reference = seeded(config, tmp_path / "weights.pth", ("one", "two"), images((2, 3, 64, 96)))
    for layer in reference.model.modules():
        if isinstance(layer, ModulatedDeformConv2dPack):
            nn.init.normal_(layer.conv_offset.weight, 0, 0.1)
    policy = export.read_deploy_config("dynamic")
    assert policy.onnx_config.opset_version == 17
    traced = trace.trace(policy, reference, images((1, 3, 64, 96))[0])
    graph.check(traced)
    assert next(entry.version for entry in traced.opset_import if not entry.domain) == OPSET
    session = onnxruntime.InferenceSession(traced.SerializeToString(), providers=["CPUExecutionProvider"])
    matched = Matched()
    for size in ((64, 96), (64, 64), (96, 128)):
        batch = images((2, 3, *size))
        wanted = {name: value.numpy() for name, value in reference(batch).items()}
        found = session.run(list(wanted), {"input": batch.numpy()})
        matched.update(dict(zip(wanted, found, strict=True)), wanted)
    assert matched.passed, matched.fault or matched.reason()
    assert matched.detections > 20
