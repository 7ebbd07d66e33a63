"""Attention with soft caps and sinks against the functions of the models that have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma2_attention
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as gpt_oss_attention

from marginalia.scoring.models import eager_attention as module
from marginalia.scoring.models.eager_attention import eager_attention

ROWS, HEADS, QUERIES, LENGTH, SIZE = 2, 3, 5, 7, 4


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values large enough that caps bind; a mask; the sink of each head."""
    torch.manual_seed(0)
    query, keys, values = (torch.randn(ROWS, HEADS, count, SIZE) * 4 for count in (QUERIES, LENGTH, LENGTH))
    seen = torch.rand(ROWS, 1, QUERIES, LENGTH) < 0.6
    seen[..., 0] = True
    return query, keys, values, torch.zeros(seen.shape).masked_fill(~seen, float("-inf")), torch.randn(HEADS) * 3


@pytest.mark.parametrize("scores", [module.SCORES, 1])  # at most: all queries at a time, or one
@pytest.mark.parametrize(("cap", "sink"), [(2.0, False), (None, True)])
def test_it_is_the_models_own(monkeypatch: pytest.MonkeyPatch, scores: int, cap: float | None, sink: bool) -> None:
    monkeypatch.setattr(module, "SCORES", scores)
    query, keys, values, mask, sinks = drawn()
    model: Any = SimpleNamespace(num_key_value_groups=1, sinks=sinks, training=False, head_dim=SIZE)
    if sink:
        expected, _ = gpt_oss_attention(model, query, keys, values, mask, scaling=0.3)
    else:
        expected, _ = gemma2_attention(model, query, keys, values, mask, scaling=0.3, softcap=cap)
    of_queries = sinks[:, None].expand(HEADS, QUERIES) if sink else None
    found = eager_attention(query, keys, values, mask, scale=0.3, cap=cap, sinks=of_queries)
    assert torch.allclose(found.transpose(1, 2), expected, atol=1e-6)


def test_cap_and_sink_together_by_hand() -> None:
    query, keys = torch.tensor([[[[2.0]]]]), torch.tensor([[[[1.0], [3.0]]]])
    values = torch.tensor([[[[1.0], [10.0]]]])
    sinks = torch.tensor([[0.5]])
    found = eager_attention(query, keys, values, torch.zeros(1, 1, 1, 2), scale=None, cap=4.0, sinks=sinks)
    first, second = (float((4 * torch.tanh(torch.tensor(score / 4))).exp()) for score in (2.0, 6.0))
    sink = float(torch.tensor(0.5).exp())
    assert float(found) == pytest.approx((first + 10 * second) / (first + second + sink))
