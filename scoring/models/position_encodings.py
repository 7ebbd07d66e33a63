"""How long a sequence a model takes, and whether its position encoding of a token depends on that token alone.

Rotary encodings come in types (transformers' `rope_parameters`). Most turn a token by its own position. Two change
with the length of the whole sequence, so that a record's numbers would depend on the others in its pass: longrope has
other factors above `original_max_position_embeddings`, dynamic NTK above `max_position_embeddings`. Below those
lengths they are constant, so records up to there are scored and longer ones refused."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from torch.nn import Embedding

from marginalia.schemas.errors import ModelError

OF_THE_TOKEN_ALONE = {"default", "linear", "llama3", "yarn", "proportional"}
OF_THE_LENGTH = {"longrope": "original_max_position_embeddings", "dynamic": "max_position_embeddings"}
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")
UNLIMITED = 1 << 20


class Context(NamedTuple):
    """The longest sequence in tokens; `reason` where it is not simply what the model was made for."""

    tokens: int
    reason: str = ""


def context_of(model: Any) -> Context:
    """Raises ModelError for a rotary encoding of an unknown type."""
    config = model.config.get_text_config()
    lengths = [int(value) for name in _LENGTHS if isinstance(value := getattr(config, name, None), int) and value > 0]
    found = Context(min([lengths[0] if lengths else UNLIMITED, *_tables(model)]))
    for rope in ropes(config):
        kind = str(rope.get("rope_type", rope.get("type", "default")))
        if kind in OF_THE_LENGTH:
            limit = rope.get(OF_THE_LENGTH[kind]) or getattr(config, OF_THE_LENGTH[kind], None) or found.tokens
            reason = (
                f"above {limit} tokens its position encoding ({kind}) depends on the length of the whole sequence, "
                "which local scoring does not support (serve it and use an endpoint URL for longer prompts)"
            )
            found = min(Context(int(limit), reason), found, key=lambda context: context.tokens)
        elif kind not in OF_THE_TOKEN_ALONE:
            raise ModelError(f"its position encoding is of the type '{kind}'")
    return found


def ropes(config: Any) -> list[dict[str, Any]]:
    """The parameters of each rotary encoding: one, or one per kind of layer."""
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


def _tables(model: Any) -> list[int]:
    """How many positions each table of learned positions has."""
    words = model.get_input_embeddings()
    return [
        module.num_embeddings - int(getattr(module, "offset", 0))
        for name, module in model.named_modules()
        if isinstance(module, Embedding) and module is not words and re.search(r"pos|wpe", name.rpartition(".")[2])
    ]
