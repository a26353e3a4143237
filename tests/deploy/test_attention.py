"""Attention in standard operators: torch's own numbers, with every mask, for any number of tokens."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mmdeploy.core import RewriterContext
from test_rewrites import DEPLOY
from torch import nn

from deploy import compat, rewrites
from deploy.rewrites.multi_head_attention import multi_head_attention_forward
from train.errors import UsageError

WIDTH, HEADS = 12, 3


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    compat.apply()
    rewrites.register()


def attention(**options: object) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(WIDTH, HEADS, **options).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def both(layer: nn.MultiheadAttention, queries: int, keys: int, **masks: object) -> list[tuple[torch.Tensor, ...]]:
    """What torch gives and what the rewrite gives: outputs and weights."""
    values_width = layer.vdim
    q, k, v = torch.randn(queries, 2, WIDTH), torch.randn(keys, 2, layer.kdim), torch.randn(keys, 2, values_width)
    with torch.no_grad():
        plain = layer(q, k, v, **masks)
        original = torch.nn.functional.multi_head_attention_forward
        torch.nn.functional.multi_head_attention_forward = multi_head_attention_forward
        try:
            ours = layer(q, k, v, **masks)
        finally:
            torch.nn.functional.multi_head_attention_forward = original
    return [plain, ours]


PADDING = torch.tensor([[False, False, True, False, True], [False, True, False, False, False]])
MASKS = {
    "none": {},
    "boolean": dict(attn_mask=torch.tensor([[False, True, False, False, False]] * 4)),
    "additive": dict(attn_mask=torch.linspace(-1, 1, 20).reshape(4, 5)),
    "one a head": dict(attn_mask=torch.linspace(-2, 2, 2 * HEADS * 20).reshape(2 * HEADS, 4, 5)),
    "padding": dict(key_padding_mask=PADDING),
    "both": dict(key_padding_mask=PADDING, attn_mask=torch.tensor([[False, False, False, True, False]] * 4)),
    "weights a head": dict(average_attn_weights=False),
}


@pytest.mark.parametrize("options", [{}, dict(bias=False), dict(kdim=7, vdim=5)], ids=str)
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_it_equals_torch(masks: dict[str, object], options: dict[str, object]) -> None:
    plain, ours = both(attention(**options), 4, 5, **masks)
    for wanted, found in zip(plain, ours, strict=True):
        assert found.shape == wanted.shape
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_weights_are_left_out_where_nobody_asks() -> None:
    plain, ours = both(attention(), 4, 5, need_weights=False)
    assert plain[1] is None
    assert ours[1] is None


@pytest.mark.parametrize("options", [dict(add_bias_kv=True), dict(add_zero_attn=True)], ids=str)
def test_what_no_model_uses_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="cannot be exported exactly"):
        both(attention(**options), 4, 5)


class Tokens(nn.Module):
    """An image's pixels attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = attention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).permute(2, 0, 1)
        mixed: torch.Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return mixed


def test_one_graph_takes_any_number_of_tokens(tmp_path: Path) -> None:
    model = Tokens().eval()
    traced = torch.randn(2, WIDTH, 4, 5)
    with compat.torchscript_exporter(), torch.no_grad(), RewriterContext(DEPLOY, backend="onnxruntime", opset=17):
        torch.onnx.export(
            model,
            (traced,),
            str(tmp_path / "tokens.onnx"),
            input_names=["x"],
            output_names=["y"],
            opset_version=17,
            dynamic_axes={"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "tokens", 1: "n"}},
        )
    session = onnxruntime.InferenceSession(str(tmp_path / "tokens.onnx"), providers=["CPUExecutionProvider"])
    for batch, height, width in ((2, 4, 5), (1, 3, 3), (3, 7, 2)):
        x = torch.randn(batch, WIDTH, height, width)
        with torch.no_grad():
            wanted = model(x).numpy()
        found = session.run(None, {"x": x.numpy()})[0]
        assert found.shape == wanted.shape
        assert np.allclose(found, wanted, rtol=1e-3, atol=1e-5)
