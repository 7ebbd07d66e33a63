"""Next-token probabilities of many prefixes of many records from one forward pass each round.

The tokens of all records lie packed in one row, so the model's matrices see no padding. A record's keys and values
live in one row of a buffer; each new token sees the record's prompt and its own ancestors (tree attention), and
nothing is copied per prefix. The prompt tokens that all records share are run once and copied into each row. A record
that is done leaves its row to the next, whose prompt runs in the same pass as the others' prefixes.

It plugs into transformers as an attention function, so any causal model that uses the attention interface works, with
the masks of `marginalia.scoring.models.attention_masks`; `marginalia.scoring.models.tree_self_check` says whether it
computes the model's own numbers."""

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

Ints = npt.NDArray[np.int64]

ATTENTION = "marginalia_tree"
PREFILL_CHUNK = 2048  # prompt tokens of one record in one forward pass: bounds the attention mask
LONG = 16  # rows with more new tokens than this are padded among themselves
GROWTH = 64  # spare slots when a buffer must grow


@dataclass
class KeyValues:
    """Keys and values by layer: (rows, key-value heads, slots, head size); and the position of every slot."""

    keys: list[Tensor]
    values: list[Tensor]
    positions: Tensor  # (rows, slots)


@dataclass(frozen=True)
class Prefix:
    """The shared start of all prompts: its ids and its keys and values (batch of one)."""

    ids: tuple[int, ...]
    cache: KeyValues


@dataclass(frozen=True)
class TokenToRun:
    """A token to run: for the record in `row`, `token` at `slot` and `position`, seeing `sees` (slots) and itself.

    `sees_prompt`: how many of the first slots are seen as well."""

    row: int
    token: int
    slot: int
    position: int
    sees_prompt: int
    sees: Sequence[int]


@dataclass
class _Group:
    """Rows that are padded to one width in attention. `rows` and `tokens` are None where they are all there are."""

    rows: Tensor | None  # which of the buffer's rows
    tokens: Tensor | None  # which of the packed tokens
    places: Tensor  # (group's tokens,) the token's row among the group's
    columns: Tensor  # (group's tokens,) its place among its row's new tokens
    mask: Tensor  # (rows, width, length) bool: who sees what
    positions: Tensor  # (rows, width) of the new tokens
    slot_positions: Tensor  # (rows, length)
    additive: dict[tuple[int, Mask], Tensor]  # by (heads that share a key, the layer's mask): as the kernel wants it


@dataclass
class _Pass:
    """What the attention function needs of the forward pass that is under way."""

    cache: KeyValues
    rows: Tensor  # (tokens,) which row each packed token belongs to
    slots: Tensor  # (tokens,) where its keys and values go
    positions: Tensor  # (tokens,)
    groups: list[_Group]
    masks: tuple[Mask, ...]  # of each layer


_PASS: ContextVar[_Pass] = ContextVar("marginalia_pass")


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention of packed new tokens to their own records' rows. query: (1, heads, tokens, size)."""
    at = _PASS.get()
    layer = module.layer_idx
    _store(at, layer, key, value)
    keys, values = at.cache.keys[layer], at.cache.values[layer]
    packed = query[0].transpose(0, 1)
    parts = [_attend(group, packed, keys, values, at.masks[layer], options.get("scaling")) for group in at.groups]
    if len(parts) == 1:
        return parts[0][None], None
    out = torch.empty(len(packed), *parts[0].shape[1:], dtype=parts[0].dtype, device=parts[0].device)
    for group, part in zip(at.groups, parts, strict=True):
        out[group.tokens] = part
    return out[None], None


def _attend(group: _Group, packed: Tensor, keys: Tensor, values: Tensor, mask: Mask, scale: float | None) -> Tensor:
    """(group's tokens, heads, size)."""
    rows, width, length = group.mask.shape
    if group.tokens is not None:
        packed = packed[group.tokens]
    if group.rows is not None:
        keys, values = keys[group.rows], values[group.rows]
    heads, size = packed.shape[1:]
    kv_heads = keys.shape[1]
    sharing = heads // kv_heads
    padded = packed.new_zeros(rows, width, kv_heads, sharing, size)
    padded[group.places, group.columns] = packed.reshape(-1, kv_heads, sharing, size)
    # the query heads of one key-value head stand as further queries of that head: no key is repeated
    out = scaled_dot_product_attention(
        padded.permute(0, 2, 3, 1, 4).reshape(rows, kv_heads, sharing * width, size),
        keys[:, :, :length],
        values[:, :, :length],
        attn_mask=_mask_for(group, sharing, mask, packed.dtype),
        scale=scale,
    )
    out = out.reshape(rows, kv_heads, sharing, width, -1)[group.places, :, :, group.columns]
    return out.reshape(len(packed), heads, -1)


def _store(at: _Pass, layer: int, key: Tensor, value: Tensor) -> None:
    cache = at.cache
    while len(cache.keys) <= layer:  # the first pass learns the shapes
        rows, slots = cache.positions.shape
        cache.keys.append(key.new_zeros(rows, key.shape[1], slots, key.shape[3]))
        cache.values.append(value.new_zeros(rows, value.shape[1], slots, value.shape[3]))
    cache.keys[layer][at.rows, :, at.slots] = key[0].transpose(0, 1)
    cache.values[layer][at.rows, :, at.slots] = value[0].transpose(0, 1)


def _mask_for(group: _Group, sharing: int, mask: Mask, dtype: torch.dtype) -> Tensor:
    key = (sharing, mask)
    if key not in group.additive:
        seen = group.mask
        if (allowed := mask.allows(group.positions[:, :, None], group.slot_positions[:, None, :])) is not None:
            seen = seen & allowed
        # a row that sees nothing (padding) would turn into NaN
        seen = seen | (~seen.any(-1, keepdim=True))
        additive = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
        rows, width, length = seen.shape
        expanded = additive[:, None, None].expand(rows, 1, sharing, width, length)
        group.additive[key] = expanded.reshape(rows, 1, sharing * width, length)
    return group.additive[key]


AttentionInterface.register(ATTENTION, _attention)


class TreeRunner:
    """Runs packed tokens through a transformers causal model, whose attention it takes over.

    `masks`: of each layer, where they are known. Raises ModelError for masks that it cannot make."""

    def __init__(self, model: Any, masks: tuple[Mask, ...] | None = None) -> None:
        self.model = model
        self.device = model.device
        self.masks = layer_masks(model)[0] if masks is None else masks
        model.set_attn_implementation(ATTENTION)

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """Runs the shared start of all prompts once."""
        batch = TreeBatch(self, None, rows=1, room=len(ids))
        batch.join(0, list(ids))
        batch.run([0])
        length = len(ids)
        cache = batch.cache
        cut = KeyValues(
            [key[:, :, :length].clone() for key in cache.keys],
            [value[:, :, :length].clone() for value in cache.values],
            cache.positions[:, :length].clone(),
        )
        return Prefix(tuple(ids), cut)

    def forward(self, at: _Pass, tokens: list[int], keep: list[int]) -> Tensor:
        """The logits (float32) after the packed tokens `keep`."""
        token = _PASS.set(at)
        try:
            with torch.inference_mode():
                out = self.model(
                    input_ids=torch.tensor([tokens], device=self.device),
                    position_ids=at.positions[None],
                    use_cache=False,
                    logits_to_keep=torch.tensor(keep, device=self.device),
                )
        finally:
            _PASS.reset(token)
        logits: Tensor = out.logits[0].float()
        return logits


class TreeBatch:
    """Rows for records that are searched together. `prefix`: what prompts start with; `room`: the longest prompt."""

    def __init__(self, runner: TreeRunner, prefix: Prefix | None, *, rows: int, room: int) -> None:
        self.runner = runner
        self.prompts: list[list[int]] = [[] for _ in range(rows)]
        self.used = [0] * rows
        self.forward_passes = 0
        self._prefix = prefix
        self._begun = [0] * rows  # prompt tokens whose keys and values are there
        self._kept = [True] * rows  # whether the row still starts with the prefix
        slots = room + GROWTH
        self.cache = KeyValues([], [], torch.zeros(rows, slots, dtype=torch.long, device=runner.device))
        if prefix:
            for source, target in ((prefix.cache.keys, self.cache.keys), (prefix.cache.values, self.cache.values)):
                for layer in source:
                    _, heads, length, size = layer.shape
                    target.append(layer.new_zeros(rows, heads, slots, size))
                    target[-1][:, :, :length] = layer

    def join(self, row: int, prompt: list[int]) -> None:
        """Gives the row to a new prompt; the record that had it is over."""
        prefix = self._prefix
        # a prompt needs a token of its own, whose logits are asked for
        starts = prefix is not None and len(prompt) > len(prefix.ids) and prompt[: len(prefix.ids)] == [*prefix.ids]
        if starts and not self._kept[row]:
            self._restore(row)
        self._kept[row] = starts
        self.prompts[row] = prompt
        self.used[row] = len(prompt)
        self._begun[row] = len(prefix.ids) if prefix is not None and starts else 0
        while len(prompt) > self.cache.positions.shape[1]:
            self._grow()
        self.cache.positions[row, : len(prompt)] = torch.arange(len(prompt), device=self.runner.device)

    def _restore(self, row: int) -> None:
        assert self._prefix is not None
        saved = self._prefix.cache
        for source, target in ((saved.keys, self.cache.keys), (saved.values, self.cache.values)):
            for layer, buffer in zip(source, target, strict=True):
                buffer[row, :, : layer.shape[2]] = layer[0]

    def run(self, begin: Sequence[int], wanted: Sequence[TokenToRun] = ()) -> Tensor:
        """Runs the prompts of the rows `begin` and the tokens `wanted`, in one forward pass unless a prompt is very
        long; the logits (begin + wanted, vocabulary) after each."""
        while rest := [row for row in begin if len(self.prompts[row]) - self._begun[row] > PREFILL_CHUNK]:
            self._pass([(row, self._take(row, PREFILL_CHUNK)) for row in rest], [])
        return self._pass([(row, self._take(row, PREFILL_CHUNK)) for row in begin], wanted)

    def _take(self, row: int, most: int) -> range:
        """The slots of the prompt's next tokens."""
        start = self._begun[row]
        self._begun[row] = min(start + most, len(self.prompts[row]))
        return range(start, self._begun[row])

    def take_slot(self, row: int) -> int:
        """A free slot for one more token of the row's record; the buffer grows when it is full."""
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

    def _pass(self, prompts: Sequence[tuple[int, range]], wanted: Sequence[TokenToRun]) -> Tensor:
        """The logits after the last token of each of `prompts` (row, slots) and after each of `wanted`."""
        self.forward_passes += 1
        tokens: list[int] = []
        rows: list[int] = []
        slots: list[int] = []
        columns: list[int] = []  # the token's place among its row's new tokens
        keep: list[int] = []
        counts = [0] * len(self.prompts)
        for row, here in prompts:
            tokens += self.prompts[row][here.start : here.stop]
            rows += [row] * len(here)
            slots += here
            columns += range(len(here))
            counts[row] = len(here)
            keep.append(len(tokens) - 1)
        for item in wanted:
            keep.append(len(tokens))
            tokens.append(item.token)
            rows.append(item.row)
            slots.append(item.slot)
            columns.append(counts[item.row])
            counts[item.row] += 1
        device = self.runner.device
        if wanted:
            new = torch.tensor([item.position for item in wanted], device=device)
            self.cache.positions[rows[-len(wanted) :], slots[-len(wanted) :]] = new
        at_rows, at_slots = torch.tensor(rows, device=device), torch.tensor(slots, device=device)
        at = _Pass(self.cache, at_rows, at_slots, self.cache.positions[at_rows, at_slots], [], self.runner.masks)
        mask = self._mask(prompts, wanted, columns[len(columns) - len(wanted) :], counts)
        at.groups += self._groups(at, mask, np.array(rows), np.array(columns), np.array(counts))
        return self.runner.forward(at, tokens, keep)

    def _mask(
        self,
        prompts: Sequence[tuple[int, range]],
        wanted: Sequence[TokenToRun],
        columns: Sequence[int],
        counts: Sequence[int],
    ) -> Tensor:
        """(rows, width, slots) bool: which slots each row's new tokens see."""
        length = max(self.used[row] for row, count in enumerate(counts) if count)
        mask = np.zeros((len(counts), max(counts), length), dtype=bool)
        for row, here in prompts:  # causal: every slot up to its own
            mask[row, : len(here)] = np.arange(length) <= np.arange(here.start, here.stop)[:, None]
        for item, column in zip(wanted, columns, strict=True):
            seen = mask[item.row, column]
            seen[: item.sees_prompt] = True
            seen[[*item.sees, item.slot]] = True
        return torch.from_numpy(mask)

    def _groups(self, at: _Pass, mask: Tensor, rows: Ints, columns: Ints, counts: Ints) -> Iterator[_Group]:
        """The rows with many new tokens, and apart from them those with few."""
        device = self.runner.device
        for members in (counts > LONG, (counts > 0) & (counts <= LONG)):
            if not members.any():
                continue
            # where most rows take part, padding the others is cheaper than a copy of keys and values
            every = members.mean() > 0.5
            shown = np.arange(len(counts)) if every else np.flatnonzero(members)
            tokens = np.flatnonzero(members[rows])
            places = torch.from_numpy(np.searchsorted(shown, rows[tokens])).to(device)
            width, length = int(counts[members].max()), max(self.used[row] for row in np.flatnonzero(members))
            new = torch.from_numpy(columns[tokens]).to(device)
            chosen, packed = torch.from_numpy(shown).to(device), torch.from_numpy(tokens).to(device)
            positions = torch.zeros(len(shown), width, dtype=torch.long, device=device)
            positions[places, new] = at.positions[packed]
            yield _Group(
                None if every else chosen,
                None if len(tokens) == len(rows) else packed,
                places,
                new,
                mask[shown, :width, :length].to(device),
                positions,
                self.cache.positions[chosen, :length],
                {},
            )
