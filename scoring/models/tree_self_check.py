"""Whether the tree search computes a model's own numbers: its structure, checked in float32 on its first layers.

Two questions are put to a float32 copy of as many of the first layers as it takes to see every kind of layer. Does a
token learn of others through attention alone, and of its place through its own position alone? Then its output, with
attention out of the way, is the same whatever surrounds it; recurrent states, convolutions and position encodings of
the whole sequence show here. And does the tree give the hidden states of the model's own attention, on sequences that
cross each window and chunk, and at positions around each length that the config names?"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from marginalia.schemas.errors import ModelError
from marginalia.scoring.models.attention_masks import Mask, without_attention
from marginalia.scoring.models.position_encodings import Context, original_lengths
from marginalia.scoring.models.prefix_tree import TokenToRun, TreeBatch, TreeRunner

SAME = 1e-4  # both paths' hidden states in float32 differ by less than this share of the largest
PATH = 4  # answer tokens in the comparison
SHORTEST = 3 * PATH
LONGEST = 16_384  # tokens in the comparison: bounds its masks to about a gigabyte
OPERATIONS = {"cpu": 5e11, "cuda": 5e13}  # that the comparison may take, floating-point: seconds


def check_structure(model: Any, masks: tuple[Mask, ...], context: Context) -> list[str]:
    """A note of the windows that were too long to cross. Raises ModelError when the numbers are not the model's own.

    Takes memory for a float32 copy of a few layers where the weights have 16 bits."""
    short = first_layers(model, _layers_to_see(model, masks))
    _check_tokens_alone(short, context.tokens)
    lengths, notes = _lengths(short, masks, context.tokens)
    # chunks begin at multiples of their size, so a sequence that starts elsewhere has others
    offsets = [] if any(mask.kind == "chunked" for mask in masks) else _offsets(short, context.tokens)
    compared = [(length, 0) for length in lengths] + [(SHORTEST, offset) for offset in offsets]
    difference = max(_difference(short, masks, *each) for each in compared)
    if not difference <= SAME:
        problem = f"the tree search and its own attention differ by {difference:.2g} of the largest hidden state"
        raise ModelError(problem)
    return notes


def first_layers(model: Any, count: int) -> Any:
    """A float32 copy with the first `count` layers and no output head, so that its logits are hidden states.

    Shares weights that are float32 already, and embeddings, whose output it makes float32."""
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
            module.register_forward_hook(lambda _module, _inputs, found: found.float())
    return short


def _in_float32(weight: nn.Parameter) -> nn.Parameter:
    if weight.dtype == torch.float32 or not weight.is_floating_point():
        return weight
    return nn.Parameter(weight.detach().float(), requires_grad=False)


def _layers(model: Any) -> tuple[nn.Module, str, nn.ModuleList]:
    """The module that has the layers, their name in it, and the layers."""
    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            holder, _, last = name.rpartition(".")
            return model.get_submodule(holder), last, module
    raise ModelError(f"its {count} layers are in no list")


def _layers_to_see(model: Any, masks: tuple[Mask, ...]) -> int:
    """How many of the first layers show every kind of layer, by modules, mask and whatever the config says of each."""
    config = model.config.get_text_config().to_dict()
    lists = [value for value in config.values() if isinstance(value, list) and len(value) == len(masks)]
    _, _, layers = _layers(model)
    kinds = [
        (repr(layer), mask, *(str(value[at]) for value in lists))
        for at, (layer, mask) in enumerate(zip(layers, masks, strict=True))
    ]
    return min(max(2, 1 + max(kinds.index(kind) for kind in set(kinds))), len(masks))


def _check_tokens_alone(short: Any, context: int) -> None:
    """Without attention: four tokens, and the same in another order with a fifth at the last position among them."""
    ids, order = _ids(short, 5), [2, 4, 0, 3, 1]
    with without_attention(short):
        alone = _hidden(short, ids[:4])
    with without_attention(short):
        among = _hidden(short, [ids[at] for at in order], [context - 1 if at == 4 else at for at in order])
    same = torch.stack([among[order.index(at)] for at in range(4)])
    difference = float((same - alone).abs().max() / alone.abs().max())
    if not difference <= SAME / 10:
        raise ModelError(
            "a token's numbers depend on other tokens in another way than by attention (a recurrent state, a "
            f"convolution, positions of the whole sequence; {difference:.2g} of the largest hidden state)",
        )


def _lengths(short: Any, masks: tuple[Mask, ...], context: int) -> tuple[list[int], list[str]]:
    """How many tokens to compare, once for each window or chunk, and a note of those that take too long."""
    weights = sum(weight.numel() for weight in short.parameters())
    weights -= sum(module.weight.numel() for module in short.modules() if isinstance(module, nn.Embedding))
    most = min(LONGEST, int(OPERATIONS.get(short.device.type, OPERATIONS["cpu"]) / (4 * weights)))
    sizes = sorted({mask.size for mask in masks if mask.size and mask.size + 2 * PATH <= context})
    crossed = [size for size in sizes if size + 2 * PATH <= max(most, SHORTEST)]
    left = ", ".join(str(size) for size in sizes if size not in crossed)
    notes = [f"the self-check did not cross the attention windows of {left} tokens: it would take too long"]
    return [SHORTEST, *(size + 2 * PATH for size in crossed)], notes if left else []


def _offsets(short: Any, context: int) -> list[int]:
    """First positions of sequences that cross a length that the config names."""
    lengths = original_lengths(short.config.get_text_config())
    return [length - SHORTEST // 2 for length in sorted(lengths) if SHORTEST <= length <= context - SHORTEST]


def _difference(short: Any, masks: tuple[Mask, ...], length: int, offset: int) -> float:
    """Of hidden states, relative to the largest: two prompts and a path after each in the tree, against one sequence
    in the model's own attention. With a length of a window and 8, one path crosses its border and one is behind it."""
    ids = _ids(short, length)
    short.set_attn_implementation("sdpa")
    plain = _hidden(short, ids, list(range(offset, offset + length)) if offset else None)
    batch = TreeBatch(TreeRunner(short, masks), None, rows=2, room=length)
    prompts = [length - PATH, length - 2 * PATH - 2]
    for row, prompt in enumerate(prompts):
        batch.join(row, ids[:prompt])
    batch.cache.positions += offset
    ours = [batch.run([0, 1])]
    wanted: list[TokenToRun] = []
    for row, prompt in enumerate(prompts):
        sees: list[int] = []
        for at in range(prompt, prompt + PATH):
            batch.take_slot(row)  # a slot that nobody sees
            slot = batch.take_slot(row)
            wanted.append(TokenToRun(row, ids[at], slot, offset + at, prompt, tuple(sees)))
            sees.append(slot)
    ours.append(batch.run([], wanted))
    places = [prompt - 1 for prompt in prompts] + [prompt + at for prompt in prompts for at in range(PATH)]
    return float((torch.cat(ours) - plain[places]).abs().max() / plain.abs().max())


def _ids(short: Any, count: int) -> list[int]:
    vocabulary = short.get_input_embeddings().num_embeddings
    return [(7 * index + 3) % vocabulary for index in range(count)]


def _hidden(short: Any, ids: list[int], positions: list[int] | None = None) -> Tensor:
    """(tokens, size)."""
    placed = {} if positions is None else {"position_ids": torch.tensor([positions], device=short.device)}
    with torch.inference_mode():
        found: Tensor = short(input_ids=torch.tensor([ids], device=short.device), use_cache=False, **placed).logits[0]
    return found
