"""mmpretrain's transformers at every image size: positions resized, windows shifted, patches padded, in one graph."""

from pathlib import Path

import pytest
import torch
from mmcv.cnn.bricks.transformer import AdaptivePadding
from mmdeploy.core import RewriterContext
from mmpretrain.models.utils import ShiftWindowMSA, resize_pos_embed
from test_rewrites import DEPLOY
from torch import Tensor, nn
from traced import apart, one_graph, run

from deploy import compat, rewrites
from deploy.rewrites.mmpretrain import shifted_windows

CHANNELS, WINDOW = 4, 4
#: Batch, height, width; the first one is traced. One window high or wide is not shifted.
SIZES = ((2, 8, 12), (1, 4, 9), (2, 5, 4), (1, 13, 6), (3, 4, 4), (1, 8, 8))


class Windows(nn.Module):
    """Attention within shifted windows of a map."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = ShiftWindowMSA(CHANNELS, 2, WINDOW, **options)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        shape = x.shape[2:]
        return (self.attention(x.flatten(2).transpose(1, 2), (shape[0], shape[1])),)


class Positions(nn.Module):
    """Positions learned for 3×5 patches, and one token without any."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(1, 16, CHANNELS))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (resize_pos_embed(self.embedding, (3, 5), (x.shape[2], x.shape[3])) + x.mean(),)


class Padded(nn.Module):
    """Both ways to pad to whole patches."""

    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleList(AdaptivePadding(4, 3, 1, where) for where in ("same", "corner"))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(way(x) for way in self.ways)


def maps(size: tuple[int, int, int]) -> Tensor:
    batch, height, width = size
    generator = torch.Generator().manual_seed(height * width)
    return torch.randn(batch, CHANNELS, height, width, generator=generator)


def worst(model: nn.Module, path: Path, sizes: tuple[tuple[int, int, int], ...], names: tuple[str, ...]) -> float:
    """The largest difference over all sizes of one graph, traced at the first one."""
    model.eval()
    axes = {name: {0: "n", 1: f"a {name}", 2: f"b {name}", 3: f"c {name}"} for name in names}
    axes |= {"x": {0: "n", 2: "h", 3: "w"}}
    session = one_graph(model, {"x": maps(sizes[0])}, names, axes, path, scope="mmpretrain")
    differences = []
    for x in map(maps, sizes):
        with torch.no_grad():
            wanted = model(x)
        found = run(session, x)
        differences += [apart(found[name], each) for name, each in zip(names, wanted, strict=True)]
    return max(differences)


@pytest.mark.parametrize("options", [{}, {"shift_size": 2}, {"shift_size": 2, "pad_small_map": True}], ids=str)
def test_windows_are_mmpretrains_at_every_size(options: dict[str, object], tmp_path: Path) -> None:
    sizes = (*SIZES, (1, 3, 7)) if "pad_small_map" in options else SIZES
    assert worst(Windows(**options), tmp_path / "x.onnx", sizes, ("y",)) < 1e-5


def test_control_a_shift_that_is_always_made_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shifted_windows, "_shift", lambda self, height, width: torch.tensor(self.shift_size))
    assert worst(Windows(shift_size=2), tmp_path / "x.onnx", SIZES, ("y",)) > 0.01


@pytest.mark.parametrize("traced", [(1, 3, 5), (1, 6, 4)], ids=str)
def test_positions_are_resized_as_mmpretrain_does(traced: tuple[int, int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = (traced, (1, 3, 5), (1, 7, 11), (1, 2, 3))
    assert worst(Positions(), tmp_path / "x.onnx", sizes, ("y",)) < 1e-5


def test_patches_are_padded_as_mmcv_does(tmp_path: Path) -> None:
    assert worst(Padded(), tmp_path / "x.onnx", SIZES, ("same", "corner")) == 0


def test_mmdeploy_leaves_no_bare_function_behind() -> None:
    compat.apply()
    compat.declare_task_scope("mmpretrain")
    rewrites.register("mmpretrain")
    before = ShiftWindowMSA.__dict__["get_attn_mask"]

    def entered() -> object:
        with RewriterContext(DEPLOY, backend="onnxruntime", opset=17):
            assert ShiftWindowMSA.forward.__module__ == shifted_windows.__name__, "MMDeploy's own would win"
        return ShiftWindowMSA.__dict__["get_attn_mask"]

    try:
        assert not isinstance(entered(), staticmethod), "control: MMDeploy's fault is gone"
    finally:
        ShiftWindowMSA.get_attn_mask = before
    with compat.static_methods():
        entered()
    assert ShiftWindowMSA.__dict__["get_attn_mask"] is before
