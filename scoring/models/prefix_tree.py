"""Next-token probabilities of many prefixes of many records, one forward pass per step of the search.

The new tokens of all records are packed into one sequence, so the model's matrices see no padding. A record's keys and
values are in one row of a buffer; each new token sees the record's prompt and its own ancestors (tree attention), and
nothing is copied per prefix. The prompt tokens that all records share are run once and copied into each row. When a
record is done, the next one takes its row, and its prompt runs in the same pass as the others' prefixes.

It is registered with transformers as an attention function, so it works for any causal model that uses the attention
interface, with the masks of `marginalia.scoring.models.attention_masks`. Whether it computes the model's own numbers is
checked by `marginalia.scoring.models.tree_self_check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from marginalia.scoring.models.attention_masks import Mask, layer_masks
from marginalia.scoring.models.eager_attention import eager_attention
from marginalia.scoring.models.position_encodings import position_arguments

Ints = npt.NDArray[np.int64]

ATTENTION = "marginalia_tree"
PREFILL_CHUNK = 2048  # prompt tokens of one record in one forward pass: bounds the attention mask
LONG = 16  # rows with more new tokens than this are padded in a group of their own
GROWTH = 64  # spare slots of a new buffer; the least that a full one grows by


@dataclass
class KeyValues:
    """Keys and values by layer: (rows, key-value heads, slots, head size); and the position of every slot."""

    keys: list[Tensor]
    values: list[Tensor]
    positions: Tensor  # (rows, slots)


@dataclass(frozen=True)
class Prefix:
    """The start that all prompts share: its token ids, and its keys and values (one row)."""

    ids: tuple[int, ...]
    cache: KeyValues


@dataclass(frozen=True)
class TokenToRun:
    """A token to run for the record in `row`. Its keys and values go to `slot`; it sees itself, the slots `sees`, and
    the first `sees_prompt` slots."""

    row: int
    token: int
    slot: int
    position: int
    sees_prompt: int
    sees: Sequence[int]


@dataclass
class _Group:
    """Rows that attention pads to one width."""

    rows: Tensor | None  # (rows,) indices into the buffer's rows; None: all of them
    tokens: Tensor | None  # (tokens,) indices into the packed tokens; None: all of them
    token_rows: Tensor  # (tokens,) the row of each token, as an index into `rows`
    columns: Tensor  # (tokens,) its index among the new tokens of its row
    mask: Tensor  # (rows, width, length) bool: which slots each new token sees
    positions: Tensor  # (rows, width) of the new tokens
    slot_positions: Tensor  # (rows, length)
    additive: dict[tuple[int, Mask], Tensor]  # additive masks by (query heads per key head, the layer's mask)


@dataclass
class _Pass:
    """The forward pass under way, as the attention function needs it."""

    cache: KeyValues
    rows: Tensor  # (tokens,) the row of each packed token
    slots: Tensor  # (tokens,) the slot for its keys and values
    positions: Tensor  # (tokens,)
    groups: list[_Group]
    masks: tuple[Mask, ...]  # of each layer


_PASS: ContextVar[_Pass] = ContextVar("marginalia_pass")


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention of the packed new tokens, each to the row of its record. query: (1, heads, tokens, size)."""
    current = _PASS.get()
    layer = module.layer_idx
    _store(current, layer, key, value)
    keys, values = current.cache.keys[layer], current.cache.values[layer]
    packed = query[0].transpose(0, 1)
    parts = [_attend(group, packed, keys, values, current.masks[layer], options) for group in current.groups]
    if len(parts) == 1:
        return parts[0][None], None
    output = torch.empty(len(packed), *parts[0].shape[1:], dtype=parts[0].dtype, device=parts[0].device)
    for group, part in zip(current.groups, parts, strict=True):
        output[group.tokens] = part
    return output[None], None


def _attend(group: _Group, packed: Tensor, keys: Tensor, values: Tensor, mask: Mask, options: dict[str, Any]) -> Tensor:
    """The attention output of the group's tokens: (tokens, heads, size). `options`: what the model passes to its
    attention."""
    rows, width, length = group.mask.shape
    if group.tokens is not None:
        packed = packed[group.tokens]
    if group.rows is not None:
        keys, values = keys[group.rows], values[group.rows]
    heads, size = packed.shape[1:]
    kv_heads = keys.shape[1]
    sharing = heads // kv_heads
    padded = packed.new_zeros(rows, width, kv_heads, sharing, size)
    padded[group.token_rows, group.columns] = packed.reshape(-1, kv_heads, sharing, size)
    # query heads that share a key-value head become further queries of that head, so that no key is copied
    query = padded.permute(0, 2, 3, 1, 4).reshape(rows, kv_heads, sharing * width, size)
    keys, values = keys[:, :, :length], values[:, :, :length]
    additive, scale = _mask_for(group, sharing, mask, packed.dtype), options.get("scaling")
    cap, sinks = options.get("softcap"), options.get("s_aux")
    if cap is None and sinks is None:
        output = scaled_dot_product_attention(query, keys, values, attn_mask=additive, scale=scale)
    else:
        if sinks is not None:
            sinks = sinks.reshape(kv_heads, sharing).repeat_interleave(width, 1)
        output = eager_attention(query, keys, values, additive, scale=scale, cap=cap, sinks=sinks)
    output = output.reshape(rows, kv_heads, sharing, width, -1)[group.token_rows, :, :, group.columns]
    return output.reshape(len(packed), heads, -1)


def _store(current: _Pass, layer: int, key: Tensor, value: Tensor) -> None:
    cache = current.cache
    while len(cache.keys) <= layer:  # the shapes are known from the first pass on
        rows, slots = cache.positions.shape
        cache.keys.append(key.new_zeros(rows, key.shape[1], slots, key.shape[3]))
        cache.values.append(value.new_zeros(rows, value.shape[1], slots, value.shape[3]))
    cache.keys[layer][current.rows, :, current.slots] = key[0].transpose(0, 1)
    cache.values[layer][current.rows, :, current.slots] = value[0].transpose(0, 1)


def _mask_for(group: _Group, sharing: int, mask: Mask, dtype: torch.dtype) -> Tensor:
    key = (sharing, mask)
    if key not in group.additive:
        seen = group.mask
        if (allowed := mask.allows(group.positions[:, :, None], group.slot_positions[:, None, :])) is not None:
            seen = seen & allowed
        # softmax over a padding row that sees nothing would be NaN
        seen = seen | (~seen.any(-1, keepdim=True))
        additive = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
        rows, width, length = seen.shape
        expanded = additive[:, None, None].expand(rows, 1, sharing, width, length)
        group.additive[key] = expanded.reshape(rows, 1, sharing * width, length)
    return group.additive[key]


AttentionInterface.register(ATTENTION, _attention)


class TreeRunner:
    """Runs packed tokens through a transformers causal model, whose attention implementation it replaces.

    `masks`: one per layer; found by a short forward pass when not given. Raises ModelError for unsupported masks."""

    def __init__(self, model: Any, masks: tuple[Mask, ...] | None = None) -> None:
        self.model = model
        self.device = model.device
        self.masks = layer_masks(model)[0] if masks is None else masks
        model.set_attn_implementation(ATTENTION)

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """The keys and values of `ids`, the start that all prompts share."""
        batch = TreeBatch(self, None, rows=1, room=len(ids))
        batch.join(0, list(ids))
        batch.run([0])
        length = len(ids)
        cache = batch.cache
        kept = KeyValues(
            [key[:, :, :length].clone() for key in cache.keys],
            [value[:, :, :length].clone() for value in cache.values],
            cache.positions[:, :length].clone(),
        )
        return Prefix(tuple(ids), kept)

    def forward(self, current: _Pass, tokens: list[int], keep: list[int]) -> Tensor:
        """Float32 logits (keep, vocabulary) after those of the packed tokens whose indices are `keep`."""
        reset_token = _PASS.set(current)
        try:
            with torch.inference_mode():
                out = self.model(
                    input_ids=torch.tensor([tokens], device=self.device),
                    logits_to_keep=torch.tensor(keep, device=self.device),
                    **position_arguments(self.model, current.positions),
                )
        finally:
            _PASS.reset(reset_token)
        logits: Tensor = out.logits[0].float()
        return logits


class TreeBatch:
    """Rows for records that are searched together, one record per row at a time.

    `prefix`: the start that all prompts share, or those of the first call about each record; `others`: those of further
    calls. `room`: tokens of the longest prompt; rows grow for longer ones."""

    def __init__(
        self, runner: TreeRunner, prefix: Prefix | None, *, rows: int, room: int, others: Sequence[Prefix] = ()
    ) -> None:
        self.runner = runner
        self.prompts: list[list[int]] = [[] for _ in range(rows)]
        self.used = [0] * rows
        self.forward_passes = 0
        self._prefixes = [*([] if prefix is None else [prefix]), *others]
        self._begun = [0] * rows  # prompt tokens whose keys and values are in the buffer
        self._discarded = [False] * rows  # whether the row holds keys or values that are not numbers
        self._kept: list[Prefix | None] = [prefix] * rows  # the one with whose keys and values the row starts
        slots = room + GROWTH
        self.cache = KeyValues([], [], torch.zeros(rows, slots, dtype=torch.long, device=runner.device))
        if prefix:
            for source, target in ((prefix.cache.keys, self.cache.keys), (prefix.cache.values, self.cache.values)):
                for layer in source:
                    _, heads, length, size = layer.shape
                    target.append(layer.new_zeros(rows, heads, slots, size))
                    target[-1][:, :, :length] = layer

    def join(self, row: int, prompt: list[int], *, continues: bool = False) -> None:
        """Gives the row to a new record with this prompt, or to the next call (`continues`) of the record in it, whose
        keys and values are kept as far as the two prompts are equal."""
        if self._discarded[row]:
            self._clear(row)
            continues = False
        # at least one token must be run for each prompt: its logits are the root's
        most = len(prompt) - 1
        starting = (prefix for prefix in self._prefixes if len(prefix.ids) <= most and _starts(prompt, prefix.ids))
        prefix = max(starting, key=lambda prefix: len(prefix.ids), default=None)
        begun = 0 if prefix is None else len(prefix.ids)
        common = min(_common(self.prompts[row][: self._begun[row]], prompt), most) if continues else 0
        if common > begun:
            begun = common
            kept = self._kept[row]
            prefix = kept if kept is not None and len(kept.ids) <= common else None
        elif prefix is not None and self._kept[row] is not prefix:
            self._restore(row, prefix)
        self._kept[row] = prefix
        self.prompts[row] = prompt
        self.used[row] = len(prompt)
        self._begun[row] = begun
        while len(prompt) > self.cache.positions.shape[1]:
            self._grow()
        self.cache.positions[row, : len(prompt)] = torch.arange(len(prompt), device=self.runner.device)

    def discard(self, row: int) -> None:
        """Says that the row's record has logits that are not numbers. Its keys and values are cleared before the next
        record joins: attention multiplies what a token does not see by 0, and 0 × NaN is NaN."""
        self._discarded[row] = True

    def _clear(self, row: int) -> None:
        for layer in (*self.cache.keys, *self.cache.values):
            layer[row] = 0
        self._discarded[row], self._kept[row] = False, None

    def _restore(self, row: int, prefix: Prefix) -> None:
        saved = prefix.cache
        while len(prefix.ids) > self.cache.positions.shape[1]:
            self._grow()
        for source, target in ((saved.keys, self.cache.keys), (saved.values, self.cache.values)):
            for layer, buffer in zip(source, target, strict=True):
                buffer[row, :, : layer.shape[2]] = layer[0]

    def run(self, begin: Sequence[int], tokens: Sequence[TokenToRun] = ()) -> Tensor:
        """Runs the prompts of the rows `begin` and the tokens `tokens`: one forward pass, unless a prompt is longer
        than PREFILL_CHUNK. Returns the float32 logits (begin + tokens, vocabulary) after each."""
        while unfinished := [row for row in begin if len(self.prompts[row]) - self._begun[row] > PREFILL_CHUNK]:
            self._pass([(row, self._take(row, PREFILL_CHUNK)) for row in unfinished], [])
        return self._pass([(row, self._take(row, PREFILL_CHUNK)) for row in begin], tokens)

    def _take(self, row: int, most: int) -> range:
        """The slots of the next tokens of the row's prompt to run, at most `most`; counts them as run."""
        start = self._begun[row]
        self._begun[row] = min(start + most, len(self.prompts[row]))
        return range(start, self._begun[row])

    def take_slot(self, row: int) -> int:
        """Reserves a slot for one more token of the row's record. The buffer grows when it is full."""
        slot = self.used[row]
        self.used[row] += 1
        if slot >= self.cache.positions.shape[1]:
            self._grow()
        return slot

    def _grow(self) -> None:
        more = max(GROWTH, self.cache.positions.shape[1] // 4)
        self.cache.positions = torch.nn.functional.pad(self.cache.positions, (0, more))
        for layers in (self.cache.keys, self.cache.values):
            for index, layer in enumerate(layers):
                layers[index] = torch.nn.functional.pad(layer, (0, 0, 0, more))

    def _pass(self, prompts: Sequence[tuple[int, range]], new_tokens: Sequence[TokenToRun]) -> Tensor:
        """The logits after the last token of each of `prompts` (row, slots) and after each of `new_tokens`."""
        self.forward_passes += 1
        tokens: list[int] = []
        rows: list[int] = []
        slots: list[int] = []
        columns: list[int] = []  # the token's index among the new tokens of its row
        keep: list[int] = []
        counts = [0] * len(self.prompts)
        for row, span in prompts:
            tokens += self.prompts[row][span.start : span.stop]
            rows += [row] * len(span)
            slots += span
            columns += range(len(span))
            counts[row] = len(span)
            keep.append(len(tokens) - 1)
        for new in new_tokens:
            keep.append(len(tokens))
            tokens.append(new.token)
            rows.append(new.row)
            slots.append(new.slot)
            columns.append(counts[new.row])
            counts[new.row] += 1
        device = self.runner.device
        if new_tokens:
            positions = torch.tensor([new.position for new in new_tokens], device=device)
            self.cache.positions[rows[-len(new_tokens) :], slots[-len(new_tokens) :]] = positions
        row_tensor, slot_tensor = torch.tensor(rows, device=device), torch.tensor(slots, device=device)
        current = _Pass(
            self.cache, row_tensor, slot_tensor, self.cache.positions[row_tensor, slot_tensor], [], self.runner.masks
        )
        mask = self._mask(prompts, new_tokens, columns[len(columns) - len(new_tokens) :], counts)
        current.groups += self._groups(current, mask, np.array(rows), np.array(columns), np.array(counts))
        return self.runner.forward(current, tokens, keep)

    def _mask(
        self,
        prompts: Sequence[tuple[int, range]],
        new_tokens: Sequence[TokenToRun],
        columns: Sequence[int],
        counts: Sequence[int],
    ) -> Tensor:
        """Which slots each row's new tokens see: (rows, width, slots) bool."""
        length = max(self.used[row] for row, count in enumerate(counts) if count)
        mask = np.zeros((len(counts), max(counts), length), dtype=bool)
        for row, span in prompts:  # causal: every slot up to its own
            mask[row, : len(span)] = np.arange(length) <= np.arange(span.start, span.stop)[:, None]
        for new, column in zip(new_tokens, columns, strict=True):
            seen = mask[new.row, column]
            seen[: new.sees_prompt] = True
            seen[[*new.sees, new.slot]] = True
        return torch.from_numpy(mask)

    def _groups(self, current: _Pass, mask: Tensor, rows: Ints, columns: Ints, counts: Ints) -> Iterator[_Group]:
        """Two groups: the rows with more than LONG new tokens, and the others with any."""
        device = self.runner.device
        for members in (counts > LONG, (counts > 0) & (counts <= LONG)):
            if not members.any():
                continue
            # where most rows have new tokens, padding the others is cheaper than a copy of keys and values
            all_rows = members.mean() > 0.5
            group_rows = np.arange(len(counts)) if all_rows else np.flatnonzero(members)
            tokens = np.flatnonzero(members[rows])
            token_rows = torch.from_numpy(np.searchsorted(group_rows, rows[tokens])).to(device)
            width, length = int(counts[members].max()), max(self.used[row] for row in np.flatnonzero(members))
            token_columns = torch.from_numpy(columns[tokens]).to(device)
            row_tensor, token_tensor = torch.from_numpy(group_rows).to(device), torch.from_numpy(tokens).to(device)
            positions = torch.zeros(len(group_rows), width, dtype=torch.long, device=device)
            positions[token_rows, token_columns] = current.positions[token_tensor]
            yield _Group(
                None if all_rows else row_tensor,
                None if len(tokens) == len(rows) else token_tensor,
                token_rows,
                token_columns,
                mask[group_rows, :width, :length].to(device),
                positions,
                self.cache.positions[row_tensor, :length],
                {},
            )


def _starts(prompt: Sequence[int], start: Sequence[int]) -> bool:
    return tuple(prompt[: len(start)]) == tuple(start)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """With how many equal tokens two prompts start."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
