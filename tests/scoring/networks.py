"""Small random networks of many architectures, saved with the tiny tokenizer, and plain forward passes over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    Gemma4TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteMoeConfig,
    JambaConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tests.scoring.tiny import END, tokenizer

# a guard whose prompt is short
GUARD = """\
guard: g
title: T
source: a test
taxonomy: support-tickets
codes: "S{n}"
prompt: {message: "judge {{ conversation[0].content }}"}
answer: [[safe], [{verdict: unsafe}, "\\n", {labels: [","]}]]
"""

IDS: dict[str, Any] = {"vocab_size": END + 2, "eos_token_id": END, "pad_token_id": None, "bos_token_id": None}
SIZES: dict[str, Any] = {
    **IDS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
GPT2: dict[str, Any] = {**IDS, "n_embd": 32, "n_layer": 2, "n_head": 4}
SCALED = {"rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LONGROPE = {"rope_theta": 10_000.0, "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0]}

LLAMA4: dict[str, Any] = {"attention_chunk_size": 16, "intermediate_size_mlp": 64, "num_local_experts": 2}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "llama 3": lambda: LlamaConfig(
        **SIZES, rope_parameters={**SCALED, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    ),
    "yarn": lambda: LlamaConfig(**SIZES, rope_parameters={**SCALED, "rope_type": "yarn"}),
    "linear": lambda: LlamaConfig(**SIZES, rope_parameters={"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0}),
    "dynamic": lambda: LlamaConfig(**SIZES, rope_parameters={"rope_theta": 1e4, "rope_type": "dynamic", "factor": 4.0}),
    "longrope": lambda: Phi3Config(
        **SIZES, original_max_position_embeddings=64, rope_parameters={**LONGROPE, "rope_type": "longrope"}
    ),
    "sliding": lambda: MistralConfig(**SIZES, sliding_window=16),
    "sliding and full": lambda: Gemma3TextConfig(**{**SIZES, "num_hidden_layers": 7}, sliding_window=16),
    "chunked": lambda: Llama4TextConfig(**SIZES, **LLAMA4, no_rope_layer_interval=4),
    # the temperature of its attention rises every 4 tokens, in layers without rotary encoding
    "chunked with a temperature": lambda: Llama4TextConfig(**SIZES, **LLAMA4, no_rope_layer_interval=2, floor_scale=4),
    "soft caps": lambda: Gemma2Config(
        **SIZES,
        sliding_window=16,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=1.0,
        final_logit_softcapping=4.0,
    ),
    "sinks": lambda: GptOssConfig(**SIZES, sliding_window=16, num_local_experts=4, num_experts_per_tok=2),
    "granite experts": lambda: GraniteMoeConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2),
    "keys of earlier layers": lambda: Gemma4TextConfig(
        **{**SIZES, "num_hidden_layers": 8, "pad_token_id": 0},
        sliding_window=16,
        num_kv_shared_layers=2,
        vocab_size_per_layer_input=END + 2,
        hidden_size_per_layer_input=8,
    ),
    "experts": lambda: Qwen3MoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32),
    "qwen3": lambda: Qwen3Config(**SIZES),
    "neox": lambda: GPTNeoXConfig(**SIZES),
    "opt": lambda: OPTConfig(**{**SIZES, "max_position_embeddings": 128}, ffn_dim=64, word_embed_proj_dim=32),
    "gpt2": lambda: GPT2Config(**GPT2, n_positions=128),
    "mamba": lambda: MambaConfig(**IDS, hidden_size=32, num_hidden_layers=2, state_size=4),
    "recurrent layers": lambda: JambaConfig(**SIZES, num_experts=2, mamba_d_state=4),
    "recurrent beside attention": lambda: FalconH1Config(
        **SIZES, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1
    ),
    "bidirectional": lambda: LlamaConfig(**SIZES, is_causal=False),
    "bidirectional window": lambda: Gemma3TextConfig(**SIZES, sliding_window=16, use_bidirectional_attention=True),
}


def network(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """Weights large enough that what a token sees matters; bidirectional ones have small ones, which 16 bits hide."""
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(CONFIGS[name]())
    enlarge(made, 1 if name.startswith("bidirectional") else 4)
    return made.to(dtype).eval()


def enlarge(model: Any, factor: float) -> None:
    """Multiplies the random weights of a model by `factor`, and draws what starts at 0: biases and sinks."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.mul_(factor)
            elif name.endswith("sinks") or not weight.any():
                weight.normal_(0, 0.5)


def saved(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Path:
    network(name, dtype).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def plain(model: Any, ids: list[int]) -> torch.Tensor:
    """Log-probabilities (tokens, vocabulary) after each of `ids`, by the model's own attention without a cache."""
    ours = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)
    model.set_attn_implementation(ours)
    return found
