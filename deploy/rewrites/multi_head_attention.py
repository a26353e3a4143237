"""`multi_head_attention_forward`, for any number of tokens.

torch's own splits packed projections with `unflatten` and reads lengths back from the result; tracing freezes some of
them. Here heads are split by reshapes that name one length at the most.
Source: torch/nn/functional.py; A. Vaswani et al., "Attention Is All You Need", 2017 (arXiv:1706.03762), section 3.2.
"""

import math
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deploy.rewrites import ran
from train.errors import UsageError

REPLACES = (F.multi_head_attention_forward,)
#: Arguments that no OpenMMLab model gives, by the value they have then.
_NOT_GIVEN = dict(bias_k=None, bias_v=None, add_zero_attn=False, static_k=None, static_v=None, is_causal=False)


@FUNCTION_REWRITER.register_rewriter("torch.nn.functional.multi_head_attention_forward", backend="onnxruntime")
def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    average_attn_weights: bool = True,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Queries L×N×E, keys and values S×N×E → outputs L×N×E and, if asked for, weights N×L×S (N×heads×L×S).

    Raises:
        UsageError: an option that no OpenMMLab model uses.
    """
    ran(__name__)
    given = {**others, "bias_k": bias_k, "bias_v": bias_v, "add_zero_attn": add_zero_attn}
    odd = [name for name, value in given.items() if value is not _NOT_GIVEN[name]]
    if odd or query.dim() != 3:
        raise UsageError(f"attention with {', '.join(odd) or 'unbatched inputs'} cannot be exported exactly")
    weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    if in_proj_weight is not None:
        weights = in_proj_weight.chunk(3)
    biases: Any = in_proj_bias.chunk(3) if in_proj_bias is not None else (None, None, None)
    projected = [
        F.linear(x, weight, bias) for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    ]
    q, k, v = (_split(x, num_heads) for x in projected)
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    mask = _masks(attn_mask, key_padding_mask, num_heads, scores)
    attention = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    length, batch = query.shape[:2]
    joined = (attention @ v).transpose(0, 1).reshape(length, batch, embed_dim_to_check)
    outputs = F.linear(joined, out_proj_weight, out_proj_bias)
    if not need_weights:
        return outputs, None
    by_head = attention.reshape(batch, num_heads, length, -1)
    return outputs, by_head.mean(1) if average_attn_weights else by_head


def _split(x: Tensor, heads: int) -> Tensor:
    """L×N×E → N·heads × L × E/heads."""
    return x.reshape(x.shape[0], x.shape[1] * heads, x.shape[2] // heads).transpose(0, 1)


def _masks(attention: Tensor | None, padding: Tensor | None, heads: int, scores: Tensor) -> Tensor | None:
    """What is added to scores, N·heads × L × S: −∞ where a boolean mask is true."""
    total = None
    if attention is not None:
        total = _additive(attention, scores)  # L×S, or already one a head
    if padding is not None:
        rows = _additive(padding, scores)[:, None, None]  # N×1×1×S
        rows = rows.expand(-1, heads, -1, -1).reshape(-1, 1, padding.shape[1])
        total = rows if total is None else total + rows
    return total


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
