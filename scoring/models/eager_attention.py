"""Attention with soft caps and sinks, which `scaled_dot_product_attention` does not have.

A soft cap c replaces a score s by c · tanh(s / c) (Gemma 2). A sink is one more score of each query head, learned, that
takes part in the softmax and adds nothing to the output (gpt-oss)."""

from __future__ import annotations

import torch
from torch import Tensor

SCORES = 1 << 24  # scores at a time: bounds their memory to about 200 MB in float32


def eager_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    *,
    scale: float | None,
    cap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention of `query` (rows, heads, queries, size) to `keys` and `values` (rows, heads, length, size).

    `mask`: added to the scores, (rows, 1, queries, length); `sinks`: (heads, queries)."""
    rows, heads, count, size = query.shape
    block = max(1, SCORES // (rows * heads * keys.shape[2]))
    parts = []
    for start in range(0, count, block):
        span = slice(start, start + block)
        scores = query[:, :, span] @ keys.transpose(2, 3)
        scores = scores.mul_(size**-0.5 if scale is None else scale)
        if cap is not None:
            scores = scores.div_(cap).tanh_().mul_(cap)
        scores = scores.add_(mask[:, :, span]).float()
        if sinks is None:
            weights = scores.softmax(-1)
        else:
            sink = sinks[:, span, None].to(scores.dtype).expand(rows, -1, -1, 1)
            weights = torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
        parts.append(weights.to(values.dtype) @ values)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)
