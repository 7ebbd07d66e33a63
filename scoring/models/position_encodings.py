"""The longest sequence a model accepts, and whether its position encoding of a token depends only on its position.

Rotary encodings have types (transformers' `rope_parameters`). Most rotate a token by its own position only. Two change
with the length of the whole sequence, so that a record's numbers would depend on the others in its pass: longrope has
other factors above `original_max_position_embeddings`, dynamic NTK above `max_position_embeddings`. Up to those
lengths they are constant, so records up to there are scored and longer ones are refused."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Embedding

from marginalia.schemas.errors import ModelError

# types of rotary encoding
PER_TOKEN_TYPES = {"default", "linear", "llama3", "yarn", "proportional"}
# types that depend on the sequence length: the config key of the length up to which they are constant
LENGTH_KEY = {"longrope": "original_max_position_embeddings", "dynamic": "max_position_embeddings"}
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")
UNLIMITED = 1 << 20


class Context(NamedTuple):
    """The longest sequence in tokens; `reason` says why, where it is shorter than the model was made for."""

    tokens: int
    reason: str = ""


def context_of(model: Any) -> Context:
    """The longest sequence that can be scored with `model`. Raises ModelError for an unknown type of rotary
    encoding."""
    config = model.config.get_text_config()
    lengths = [int(value) for name in _LENGTHS if isinstance(value := getattr(config, name, None), int) and value > 0]
    context = Context(min([lengths[0] if lengths else UNLIMITED, *_learned_positions(model)]))
    for rope in ropes(config):
        rope_type = str(rope.get("rope_type", rope.get("type", "default")))
        if rope_type in LENGTH_KEY:
            limit = rope.get(LENGTH_KEY[rope_type]) or getattr(config, LENGTH_KEY[rope_type], None) or context.tokens
            reason = (
                f"above {limit} tokens its position encoding ({rope_type}) depends on the length of the whole sequence,"
                " which local scoring does not support (serve it and use an endpoint URL for longer prompts)"
            )
            context = min(Context(int(limit), reason), context, key=lambda either: either.tokens)
        elif rope_type not in PER_TOKEN_TYPES:
            raise ModelError(f"its position encoding has the unsupported type '{rope_type}'")
    return context


def ropes(config: Any) -> list[dict[str, Any]]:
    """The parameters of each rotary encoding in the config: one for all layers, or one for each type of layer."""
    given = getattr(config, "rope_parameters", None)
    if not isinstance(given, dict) or not given:
        return []
    nested = [value for value in given.values() if isinstance(value, dict)]
    return nested or [given]


def original_lengths(config: Any) -> set[int]:
    """The `original_max_position_embeddings` that the config names."""
    named = [getattr(config, "original_max_position_embeddings", None)]
    named += [rope.get("original_max_position_embeddings") for rope in ropes(config)]
    return {int(length) for length in named if isinstance(length, int | float)}


class _PositionsAsCache:
    """Takes the place of transformers' cache, and keeps no keys and values. Its length is a tensor with an entry per
    token of the pass: the token's position minus its index in the pass."""

    def __init__(self, positions: Tensor) -> None:
        self._lengths = positions - torch.arange(len(positions), device=positions.device)

    def get_seq_length(self, _layer: int = 0) -> Tensor:
        return self._lengths

    def get_query_offset(self, _layer: int = 0) -> int:
        return 0

    def get_mask_sizes(self, queries: int, _layer: int = 0) -> tuple[int, int]:
        return queries, 0

    def update(self, keys: Tensor, values: Tensor, _layer: int) -> tuple[Tensor, Tensor]:
        return keys, values


def position_arguments(model: Any, positions: Tensor) -> dict[str, Any]:
    """The arguments of a forward pass without a cache that tell `model` the position of each of its tokens (tokens,).

    Llama 4 scales the queries of its layers without rotary encoding by a token's index in the pass plus the length of
    the cache, not by `position_ids`. In a pass with the tokens of many records the index is not the position."""
    arguments: dict[str, Any] = {"position_ids": positions[None], "use_cache": False}
    if getattr(model.config.get_text_config(), "attn_temperature_tuning", False):
        arguments["past_key_values"] = _PositionsAsCache(positions)
    return arguments


def _learned_positions(model: Any) -> list[int]:
    """The number of positions in each table of learned position embeddings."""
    words = model.get_input_embeddings()
    return [
        module.num_embeddings - int(getattr(module, "offset", 0))
        for name, module in model.named_modules()
        if isinstance(module, Embedding) and module is not words and re.search(r"pos|wpe", name.rpartition(".")[2])
    ]
