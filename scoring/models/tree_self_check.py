"""Checks in float32, on a model's first layers, that the tree search computes the same numbers as the model itself.

The check uses a float32 copy of as many first layers as are needed to include every type of layer. It answers two
questions. First: does a token depend on others only through attention, and on its place only through its own position?
If so, then with attention disabled its output does not depend on the other tokens. Recurrent states, convolutions and
position encodings of the whole sequence are found here. Second: does the tree search compute the same hidden states as
the model's own attention, on sequences that cross each window and chunk, and at positions around each length that the
config names?"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from marginalia.schemas.errors import ModelError
from marginalia.scoring.models.attention_masks import Mask, own_attention, own_implementation, without_attention
from marginalia.scoring.models.position_encodings import Context, original_lengths, position_arguments
from marginalia.scoring.models.prefix_tree import TokenToRun, TreeBatch, TreeRunner

TOLERANCE = 1e-4  # largest accepted difference of float32 hidden states, relative to the largest hidden state
PATH = 4  # answer tokens in the comparison
SHORTEST = 3 * PATH  # tokens
LONGEST = 16_384  # tokens in the comparison: bounds its masks to about a gigabyte
EAGER_BYTES = 6 << 30  # most memory of the scores of one layer of eager attention, which sdpa does not keep
OPERATIONS = {"cpu": 5e11, "cuda": 5e13}  # most floating-point operations of the comparison: some seconds


def check_structure(model: Any, masks: tuple[Mask, ...], context: Context) -> list[str]:
    """Returns notes on attention windows that were too long to check. Raises ModelError when the numbers differ.

    Needs memory for a float32 copy of a few layers where the weights have 16 bits."""
    short = first_layers(model, _layers_to_see(model, masks))
    _make_sensitive(short)
    _check_attention_only(short, context.tokens)
    lengths, notes = _lengths(short, masks, context.tokens)
    # chunks begin at multiples of their size, so a sequence that starts elsewhere is divided differently
    offsets = [] if any(mask.kind == "chunked" for mask in masks) else _offsets(short, context.tokens)
    compared = [(length, 0) for length in lengths] + [(SHORTEST, offset) for offset in offsets]
    difference = max(_difference(short, masks, *case) for case in compared)
    if not difference <= TOLERANCE:
        problem = f"the tree search and its own attention differ by {difference:.2g} of the largest hidden state"
        raise ModelError(problem)
    return notes


def first_layers(model: Any, count: int) -> Any:
    """A float32 copy of the model with its first `count` layers and no output head: its "logits" are hidden states.

    It shares weights that are already float32, and embeddings, whose output is converted."""
    holder, name, layers = _layers(model)
    head = model.get_output_embeddings()
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    setattr(holder, name, layers[:count])
    try:
        memo: dict[int, Any] = {} if head is None else {id(head): nn.Identity()}
        unused = set() if head is None else {id(weight) for weight in head.parameters()}
        for weight in model.parameters():
            if id(weight) in embedded:
                memo[id(weight)] = weight
            elif id(weight) not in unused:
                memo[id(weight)] = _in_float32(weight)
        short = copy.deepcopy(model, memo)
    finally:
        setattr(holder, name, layers)
    for module in short.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(lambda _module, _inputs, output: output.float())
    return short


def _make_sensitive(short: Any) -> None:
    """Changes settings of the copy that would hide differences from a comparison of short sequences."""
    config = short.config.get_text_config()
    if getattr(config, "final_logit_softcapping", None):
        config.final_logit_softcapping = (
            1e6  # the "logits" are hidden states, which a lower cap would make nearly equal
        )
    for module in short.modules():
        if hasattr(module, "floor_scale"):  # Llama 4's attention has the same temperature up to this position
            module.floor_scale = PATH


def _in_float32(weight: nn.Parameter) -> nn.Parameter:
    if weight.dtype == torch.float32 or not weight.is_floating_point():
        return weight
    return nn.Parameter(weight.detach().float(), requires_grad=False)


def _layers(model: Any) -> tuple[nn.Module, str, nn.ModuleList]:
    """The module that holds the list of layers, the list's name in it, and the list."""
    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            holder, _, list_name = name.rpartition(".")
            return model.get_submodule(holder), list_name, module
    raise ModelError(f"its {count} layers are not in one torch.nn.ModuleList")


def _layers_to_see(model: Any, masks: tuple[Mask, ...]) -> int:
    """How many first layers include every type of layer. A type: modules, mask, and per-layer values of the config."""
    config = model.config.get_text_config().to_dict()
    lists = [value for value in config.values() if isinstance(value, list) and len(value) == len(masks)]
    _, _, layers = _layers(model)
    types = [
        (repr(layer), mask, *(str(value[index]) for value in lists))
        for index, (layer, mask) in enumerate(zip(layers, masks, strict=True))
    ]
    return min(max(2, 1 + max(types.index(layer_type) for layer_type in set(types))), len(masks))


def _check_attention_only(short: Any, context: int) -> None:
    """Raises ModelError when, without attention, a token's hidden state depends on the other tokens: compares four
    tokens with the same four in another order, and a fifth at the last position of the context between them."""
    ids, order = _ids(short, 5), [2, 4, 0, 3, 1]
    with without_attention(short):
        hidden = _hidden(short, ids[:4])
    with without_attention(short):
        reordered = _hidden(
            short, [ids[index] for index in order], [context - 1 if index == 4 else index for index in order]
        )
    in_first_order = torch.stack([reordered[order.index(index)] for index in range(4)])
    difference = float((in_first_order - hidden).abs().max() / hidden.abs().max())
    if not difference <= TOLERANCE / 10:
        raise ModelError(
            "a token's numbers depend on other tokens by other means than attention (a recurrent state, a "
            f"convolution, positions of the whole sequence; {difference:.2g} of the largest hidden state)",
        )


def _lengths(short: Any, masks: tuple[Mask, ...], context: int) -> tuple[list[int], list[str]]:
    """Lengths in tokens to compare, one beyond each window or chunk; and a note on windows that would take too long or
    too much memory."""
    weights = sum(weight.numel() for weight in short.parameters())
    weights -= sum(module.weight.numel() for module in short.modules() if isinstance(module, nn.Embedding))
    longest = min(LONGEST, int(OPERATIONS.get(short.device.type, OPERATIONS["cpu"]) / (4 * weights)))
    reason = "it would take too long"
    if own_implementation(type(short)) == "eager":
        # about four copies of the scores in float32
        affordable = int((EAGER_BYTES / (16 * short.config.get_text_config().num_attention_heads)) ** 0.5)
        if affordable < longest:
            longest, reason = affordable, "it would take too much memory"
    sizes = sorted({mask.size for mask in masks if mask.size and mask.size + 2 * PATH <= context})
    crossed = [size for size in sizes if size + 2 * PATH <= max(longest, SHORTEST)]
    not_crossed = ", ".join(str(size) for size in sizes if size not in crossed)
    notes = [f"the self-check did not cross the attention windows of {not_crossed} tokens: {reason}"]
    return [SHORTEST, *(size + 2 * PATH for size in crossed)], notes if not_crossed else []


def _offsets(short: Any, context: int) -> list[int]:
    """Start positions for sequences that cross an original length that the config names."""
    lengths = original_lengths(short.config.get_text_config())
    return [length - SHORTEST // 2 for length in sorted(lengths) if SHORTEST <= length <= context - SHORTEST]


def _difference(short: Any, masks: tuple[Mask, ...], length: int, offset: int) -> float:
    """The largest difference of hidden states, relative to the largest hidden state, between the tree search (two
    prompts with an answer path each) and the model's own attention over one sequence of `length` tokens that starts at
    position `offset`. With a window of `length` - 8 tokens, one path crosses its border and one is beyond it."""
    ids = _ids(short, length)
    with own_attention(short):
        plain = _hidden(short, ids, list(range(offset, offset + length)) if offset else None)
    batch = TreeBatch(TreeRunner(short, masks), None, rows=2, room=length)
    prompts = [length - PATH, length - 2 * PATH - 2]
    for row, prompt in enumerate(prompts):
        batch.join(row, ids[:prompt])
    batch.cache.positions += offset
    tree_hidden = [batch.run([0, 1])]
    tokens: list[TokenToRun] = []
    for row, prompt in enumerate(prompts):
        sees: list[int] = []
        for index in range(prompt, prompt + PATH):
            batch.take_slot(row)  # leave a slot unused: slots are not positions
            slot = batch.take_slot(row)
            tokens.append(TokenToRun(row, ids[index], slot, offset + index, prompt, tuple(sees)))
            sees.append(slot)
    tree_hidden.append(batch.run([], tokens))
    compared = [prompt - 1 for prompt in prompts] + [prompt + index for prompt in prompts for index in range(PATH)]
    return float((torch.cat(tree_hidden) - plain[compared]).abs().max() / plain.abs().max())


def _ids(short: Any, count: int) -> list[int]:
    vocabulary = short.get_input_embeddings().num_embeddings
    return [(7 * index + 3) % vocabulary for index in range(count)]


def _hidden(short: Any, ids: list[int], positions: list[int] | None = None) -> Tensor:
    """The last hidden states of `ids`: (tokens, size)."""
    options: dict[str, Any] = {"use_cache": False}
    if positions is not None:
        options = position_arguments(short, torch.tensor(positions, device=short.device))
    with torch.inference_mode():
        hidden: Tensor = short(input_ids=torch.tensor([ids], device=short.device), **options).logits[0]
    return hidden
