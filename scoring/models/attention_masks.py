"""The attention mask of each layer of a model, found by evaluating the model's own mask functions.

transformers passes a mask function to the attention implementation's mask factory. We register an implementation that
records these functions in one short pass, evaluate each on positions around its window, and classify it as full,
sliding or chunked. The tree search then makes the same masks for its own order of tokens."""

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

RECORDING, OWN_TOKEN_ONLY = "marginalia_record", "marginalia_alone"
# arguments that models pass to their attention: those that the tree search computes, and those that change no number
COMPUTED = {"scaling", "softcap", "s_aux"}
HARMLESS = {"dropout", "is_causal", "sliding_window", "position_ids", "use_cache", "output_attentions"}


@dataclass(frozen=True)
class Mask:
    """A causal mask. A token sees itself and, of the tokens before it, all (`full`), those fewer than `size` positions
    away (`sliding`), or those in the same chunk of `size` positions (`chunked`)."""

    kind: Literal["full", "sliding", "chunked"]
    size: int = 0

    def allows(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Whether a token at position `query` sees one at `key`, which is not after it; None when it always does."""
        if self.kind == "sliding":
            return query - key < self.size
        if self.kind == "chunked":
            return query // self.size == key // self.size
        return None


@dataclass
class _RecordedPass:
    """What one forward pass recorded. `made`: each mask that was made, with its function and window size; `layers`: the
    mask that each layer's attention was given."""

    made: list[tuple[Tensor, Callable[..., Tensor], int]] = field(default_factory=list)
    layers: dict[int, Tensor | None] = field(default_factory=dict)


_RECORDED: ContextVar[_RecordedPass] = ContextVar("marginalia_seen")


def _make_mask(**arguments: Any) -> Tensor:
    made: Tensor = sdpa_mask(**{**arguments, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    _RECORDED.get().made.append((made, arguments["mask_function"], int(arguments.get("local_size") or 0)))
    return made


def _record_layer(module: Any, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]) -> None:
    layer = getattr(module, "layer_idx", None)
    other = {name for name, given in options.items() if given is not None and given is not False} - COMPUTED - HARMLESS
    if layer is None or layer in _RECORDED.get().layers:
        raise ModelError("some of its layers do not have exactly one attention")
    if other:
        raise ModelError(f"its attention has the unsupported arguments {', '.join(sorted(other))}")
    if query.shape[2] != key.shape[2]:
        raise ModelError("its attention reads tokens that are not in the prompt")
    _RECORDED.get().layers[layer] = mask


def _recording_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    _record_layer(module, query, key, attention_mask, options)
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **{**options, "softcap": None})
    return output, None


def _own_token_only(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Replaces attention by a function of each token's own query, key and value. If a token's output still depends on
    another token, the dependence does not come from attention."""
    _record_layer(module, query, key, attention_mask, options)
    sharing = query.shape[1] // value.shape[1]
    gate = (_rotation_sensitive(query) + _rotation_sensitive(key).repeat_interleave(sharing, 1)).tanh()
    out = value.repeat_interleave(sharing, 1) * (1 + gate)
    return out.transpose(1, 2).contiguous(), None


def _rotation_sensitive(vectors: Tensor) -> Tensor:
    """One number per vector that changes when the vector is rotated."""
    weights = torch.linspace(-1, 1, vectors.shape[-1], device=vectors.device, dtype=vectors.dtype)
    return (vectors * weights).sum(-1, keepdim=True)


for _name, _function in ((RECORDING, _recording_attention), (OWN_TOKEN_ONLY, _own_token_only)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, _make_mask)


def own_implementation(model_class: Any) -> str:
    """The attention that transformers chooses for a class of models: sdpa, or eager where sdpa lacks what it needs."""
    return "sdpa" if model_class._supports_sdpa else "eager"


@contextmanager
def own_attention(model: Any) -> Iterator[None]:
    """Inside, the model runs with its own attention."""
    before = model.config._attn_implementation
    model.set_attn_implementation(own_implementation(type(model)))
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _with_attention(model: Any, implementation: str) -> Iterator[_RecordedPass]:
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    token = _RECORDED.set(_RecordedPass())
    try:
        with torch.inference_mode():
            yield _RECORDED.get()
    finally:
        _RECORDED.reset(token)
        model.set_attn_implementation(before)


def without_attention(model: Any) -> AbstractContextManager[Any]:
    """Inside, each token attends only to itself. For one forward pass."""
    return _with_attention(model, OWN_TOKEN_ONLY)


def layer_masks(model: Any, ids: Sequence[int] = (0, 0, 0)) -> tuple[tuple[Mask, ...], Tensor]:
    """The mask of each layer, and the model's own float32 logits (ids, vocabulary) after each of `ids`.

    Raises ModelError when a layer has a mask that the tree search cannot make."""
    input_ids = torch.tensor([list(ids)], device=model.device)
    # a tensor, as the tree search gives it: for a number some models shorten the tokens, and the masks, between layers
    keep = torch.arange(len(ids), device=model.device)
    with _with_attention(model, RECORDING) as recorded:
        logits = model(input_ids=input_ids, use_cache=False, logits_to_keep=keep).logits[0].float()
    if own_implementation(type(model)) != "sdpa":  # with which the masks are recorded
        with own_attention(model), torch.inference_mode():
            logits = model(input_ids=input_ids, use_cache=False).logits[0].float()
    count = model.config.get_text_config().num_hidden_layers
    if sorted(recorded.layers) != list(range(count)):
        raise ModelError(f"{len(recorded.layers)} of its {count} layers have attention that can be replaced")
    return tuple(_mask_of(recorded.layers[layer], recorded.made) for layer in range(count)), logits


def _mask_of(given: Tensor | None, made: Sequence[tuple[Tensor, Callable[..., Tensor], int]]) -> Mask:
    for mask, function, size in made:
        if mask is given:  # identity: a tensor that the model has changed since is a different mask
            return classify(function, size, given.device)
    raise ModelError("its attention masks are not made by transformers' mask functions")


def classify(function: Callable[..., Tensor], size: int, device: torch.device | None = None) -> Mask:
    """The mask that a function (batch, head, query, key) → bool makes, evaluated on small and large positions around
    multiples of its window `size` (0: no window). Raises ModelError when it is not full, sliding or chunked."""
    bases = {0, 64, 1000, 4096, 8192, 131_072, *(size * times for times in (1, 2, 3, 10))}
    around = sorted({base + step for base in bases for step in range(-3, 4) if base + step >= 0})
    positions = torch.tensor(around, device=device)
    query, key = positions[:, None], positions[None, :]
    zero = torch.zeros((), dtype=torch.long, device=device)
    try:
        seen = torch.broadcast_to(function(zero, zero, query, key), (len(around), len(around)))
    except (IndexError, RuntimeError):  # it reads a table with an entry per token of the pass
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
