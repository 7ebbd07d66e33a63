"""Which earlier tokens each layer of a model lets a token see, as the model's own mask functions say.

transformers hands a mask function to whoever makes the masks for an attention implementation. We register one that
records in a single short pass, try each function on positions around its window, and keep what it turned out to be.
The tree search then makes the same masks for its own order of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from marginalia.schemas.errors import ModelError

RECORD, ALONE = "marginalia_record", "marginalia_alone"
# what models hand to their attention besides queries, keys and values, and what does not change its numbers
HARMLESS = {"dropout", "scaling", "is_causal", "sliding_window", "position_ids", "use_cache", "output_attentions"}


@dataclass(frozen=True)
class Mask:
    """Causal, and of those before: all (`full`), the last `size` (`sliding`), or those of the same chunk of `size`
    positions (`chunked`)."""

    kind: Literal["full", "sliding", "chunked"]
    size: int = 0

    def allows(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Whether a token at position `query` may see one at `key`, which is not after it; None: it always may."""
        if self.kind == "sliding":
            return query - key < self.size
        if self.kind == "chunked":
            return query // self.size == key // self.size
        return None


@dataclass
class _Seen:
    """What one pass met. `made`: each mask that the model asked for, with its function and window."""

    made: list[tuple[Tensor, Callable[..., Tensor], int]] = field(default_factory=list)
    layers: dict[int, Tensor | None] = field(default_factory=dict)


_SEEN: ContextVar[_Seen] = ContextVar("marginalia_seen")


def _make_mask(**asked: Any) -> Tensor:
    made: Tensor = sdpa_mask(**{**asked, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    _SEEN.get().made.append((made, asked["mask_function"], int(asked.get("local_size") or 0)))
    return made


def _note(module: Any, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]) -> None:
    layer = getattr(module, "layer_idx", None)
    other = {name for name, given in options.items() if given is not None and given is not False} - HARMLESS
    if layer is None or layer in _SEEN.get().layers:
        raise ModelError("its layers do not each have one attention")
    if other:
        raise ModelError(f"its attention takes {', '.join(sorted(other))}")
    if query.shape[2] != key.shape[2]:
        raise ModelError("its attention reads tokens that are not in the prompt")
    _SEEN.get().layers[layer] = mask


def _recorded(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    _note(module, query, key, attention_mask, options)
    found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return found, None


def _own_token_only(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """In place of attention: a number of each token's own query, key and value. Whatever else a token's output depends
    on, it got without attention."""
    _note(module, query, key, attention_mask, options)
    sharing = query.shape[1] // value.shape[1]
    gate = (_sketch(query) + _sketch(key).repeat_interleave(sharing, 1)).tanh()
    out = value.repeat_interleave(sharing, 1) * (1 + gate)
    return out.transpose(1, 2).contiguous(), None


def _sketch(vectors: Tensor) -> Tensor:
    """One number per vector that changes when the vector is rotated."""
    weights = torch.linspace(-1, 1, vectors.shape[-1], device=vectors.device, dtype=vectors.dtype)
    return (vectors * weights).sum(-1, keepdim=True)


for _name, _function in ((RECORD, _recorded), (ALONE, _own_token_only)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, _make_mask)


@contextmanager
def _attending(model: Any, implementation: str) -> Iterator[_Seen]:
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    token = _SEEN.set(_Seen())
    try:
        with torch.inference_mode():
            yield _SEEN.get()
    finally:
        _SEEN.reset(token)
        model.set_attn_implementation(before)


def without_attention(model: Any) -> AbstractContextManager[Any]:
    """In one pass, each token sees itself alone."""
    return _attending(model, ALONE)


def layer_masks(model: Any, ids: Sequence[int] = (0, 0, 0)) -> tuple[tuple[Mask, ...], Tensor]:
    """The mask of each layer, and the logits (ids, vocabulary) of the pass over `ids` that showed them.

    Raises ModelError when a layer's mask is of no kind that the tree search can make."""
    with _attending(model, RECORD) as seen:
        logits = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0].float()
    count = model.config.get_text_config().num_hidden_layers
    if sorted(seen.layers) != list(range(count)):
        raise ModelError(f"{len(seen.layers)} of its {count} layers have attention that can be replaced")
    return tuple(_mask_of(seen.layers[layer], seen.made) for layer in range(count)), logits


def _mask_of(given: Tensor | None, made: Sequence[tuple[Tensor, Callable[..., Tensor], int]]) -> Mask:
    for mask, function, size in made:
        if mask is given:  # the same tensor: one that the model has changed since is another mask
            return classify(function, size, given.device)
    raise ModelError("its attention masks are not made by transformers' mask functions")


def classify(function: Callable[..., Tensor], size: int, device: torch.device | None = None) -> Mask:
    """The kind of a mask function (batch, head, query, key) → bool, tried on positions around multiples of its window
    `size` (0: none), on small and on large ones. Raises ModelError when it is of no known kind."""
    bases = {0, 64, 1000, 4096, 8192, 131_072, *(size * times for times in (1, 2, 3, 10))}
    around = sorted({base + step for base in bases for step in range(-3, 4) if base + step >= 0})
    positions = torch.tensor(around, device=device)
    query, key = positions[:, None], positions[None, :]
    zero = torch.zeros((), dtype=torch.long, device=device)
    try:
        seen = torch.broadcast_to(function(zero, zero, query, key), (len(around), len(around)))
    except (IndexError, RuntimeError):  # it looks up a table of these very tokens
        raise ModelError("its attention masks depend on more than positions") from None
    causal = key <= query
    if bool((seen & ~causal).any()):
        raise ModelError("its attention sees later tokens too (bidirectional)")
    kinds = [Mask("full")] + ([Mask("sliding", size), Mask("chunked", size)] if size else [])
    for mask in kinds:
        allowed = mask.allows(query, key)
        if torch.equal(seen, causal if allowed is None else causal & allowed):
            return mask
    raise ModelError("its attention masks are neither full nor sliding nor chunked")
