"""Next-token probabilities of many prefixes of many records from one forward pass each round.

The tokens of all records lie packed in one row, so the model's matrices see no padding. A record's keys and values
live in one buffer of its own; each new token sees the record's prompt and its own ancestors (tree attention), and
nothing is copied per prefix. The prompt tokens that all records share are run once and copied into each buffer.

It plugs into transformers as an attention function, so any causal model that uses the attention interface works.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from schemas.errors import ModelError

ATTENTION = "marginalia_tree"
PREFILL_CHUNK = 2048  # prompt tokens of one record in one forward pass: bounds the attention mask
GROWTH = 64  # spare slots when a buffer must grow


@dataclass
class KeyValues:
    """Keys and values by layer: (batch, key-value heads, slots, head size); and the position of every slot."""

    keys: list[Tensor]
    values: list[Tensor]
    positions: Tensor  # (batch, slots)


@dataclass(frozen=True)
class Prefix:
    """The shared start of all prompts: its ids and its keys and values (batch of one)."""

    ids: tuple[int, ...]
    cache: KeyValues


@dataclass(frozen=True)
class Evaluation:
    """Tokens to run: for record `record`, `token` at `slot` and `position`, seeing `sees` (slots) and itself.

    `sees_prompt`: how many of the first slots are seen as well."""

    record: int
    token: int
    slot: int
    position: int
    sees_prompt: int
    sees: Sequence[int]


@dataclass
class _Pass:
    """What the attention function needs of the forward pass that is under way."""

    cache: KeyValues
    records: Tensor  # (tokens,) which record each packed token belongs to
    slots: Tensor  # (tokens,) where its keys and values go
    columns: Tensor  # (tokens,) its place among its record's new tokens
    width: int  # new tokens of the record that has the most
    length: int  # slots in use by the record that has the most
    mask: Tensor  # (batch, width, length) bool
    additive: dict[tuple[int, int], Tensor]  # by (groups, sliding window): the mask as the kernel wants it


_PASS: ContextVar[_Pass] = ContextVar("marginalia_pass")


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention of packed new tokens to their own records' buffers. query: (1, heads, tokens, size)."""
    if options.get("s_aux") is not None or options.get("softcap") is not None:
        raise ModelError("the model's attention has sinks or a soft cap, which the tree search does not compute")
    at = _PASS.get()
    layer = module.layer_idx
    _store(at, layer, key, value)
    heads, kv_heads = query.shape[1], key.shape[1]
    groups, batch, size = heads // kv_heads, at.mask.shape[0], query.shape[3]
    padded = query.new_zeros(batch, at.width, kv_heads, groups, size)
    padded[at.records, at.columns] = query[0].transpose(0, 1).reshape(-1, kv_heads, groups, size)
    # the query heads of one key-value head stand as further queries of that head: no key is repeated
    queries = padded.permute(0, 2, 3, 1, 4).reshape(batch, kv_heads, groups * at.width, size)
    out = scaled_dot_product_attention(
        queries,
        at.cache.keys[layer][:, :, : at.length],
        at.cache.values[layer][:, :, : at.length],
        attn_mask=_mask_for(at, groups, options.get("sliding_window"), query.dtype),
        scale=options.get("scaling"),
    )
    out = out.reshape(batch, kv_heads, groups, at.width, -1)[at.records, :, :, at.columns]
    return out.reshape(1, len(at.records), heads, -1), None


def _store(at: _Pass, layer: int, key: Tensor, value: Tensor) -> None:
    cache = at.cache
    while len(cache.keys) <= layer:  # the first pass learns the shapes
        batch, slots = cache.positions.shape
        cache.keys.append(key.new_zeros(batch, key.shape[1], slots, key.shape[3]))
        cache.values.append(value.new_zeros(batch, value.shape[1], slots, value.shape[3]))
    cache.keys[layer][at.records, :, at.slots] = key[0].transpose(0, 1)
    cache.values[layer][at.records, :, at.slots] = value[0].transpose(0, 1)


def _mask_for(at: _Pass, groups: int, window: int | None, dtype: torch.dtype) -> Tensor:
    key = (groups, window or 0)
    if key not in at.additive:
        seen = at.mask
        if window:
            slots = at.cache.positions[:, None, : at.length]
            queries = torch.zeros(seen.shape[:2], dtype=slots.dtype, device=slots.device)
            queries[at.records, at.columns] = at.cache.positions[at.records, at.slots]
            seen = seen & (queries[:, :, None] - slots < window)
        # a row that sees nothing (padding) would turn into NaN
        seen = seen | (~seen.any(-1, keepdim=True))
        additive = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
        batch, width, length = seen.shape
        expanded = additive[:, None, None].expand(batch, 1, groups, width, length)
        at.additive[key] = expanded.reshape(batch, 1, groups * width, length)
    return at.additive[key]


AttentionInterface.register(ATTENTION, _attention)


class TreeRunner:
    """Runs packed tokens through a transformers causal model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = model.device

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """Runs the shared start of all prompts once."""
        batch = TreeBatch(self, None, [list(ids)])
        batch.prefill(logits=False)
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
        positions = at.cache.positions[at.records, at.slots]
        token = _PASS.set(at)
        try:
            with torch.inference_mode():
                out = self.model(
                    input_ids=torch.tensor([tokens], device=self.device),
                    position_ids=positions[None],
                    use_cache=False,
                    logits_to_keep=torch.tensor(keep, device=self.device),
                )
        finally:
            _PASS.reset(token)
        logits: Tensor = out.logits[0].float()
        return logits


class TreeBatch:
    """Records that are searched together. `prompts` are their token ids; each starts with the prefix's ids."""

    def __init__(self, runner: TreeRunner, prefix: Prefix | None, prompts: Sequence[list[int]]) -> None:
        self.runner = runner
        self.prompts = prompts
        self.shared = len(prefix.ids) if prefix else 0
        self.used = [len(prompt) for prompt in prompts]
        self.forward_passes = 0
        slots = max(self.used) + GROWTH
        device = runner.device
        self.cache = KeyValues([], [], torch.zeros(len(prompts), slots, dtype=torch.long, device=device))
        self.cache.positions[:, : max(self.used)] = torch.arange(max(self.used), device=device)
        if prefix:
            self._copy_prefix(prefix, slots)

    def _copy_prefix(self, prefix: Prefix, slots: int) -> None:
        for source, target in ((prefix.cache.keys, self.cache.keys), (prefix.cache.values, self.cache.values)):
            for layer in source:
                _, heads, length, size = layer.shape
                buffer = layer.new_zeros(len(self.prompts), heads, slots, size)
                buffer[:, :, :length] = layer
                target.append(buffer)

    def prefill(self, *, logits: bool = True) -> Tensor:
        """Runs the prompts' own tokens; the logits (records, vocabulary) after each prompt's last token."""
        start = self.shared
        longest = max(self.used)
        rows: list[Tensor | None] = [None] * len(self.prompts)
        while start < longest:
            stop = min(start + PREFILL_CHUNK, longest)
            self._prefill_chunk(start, stop, rows)
            start = stop
        return torch.stack([row for row in rows if row is not None]) if logits else torch.empty(0)

    def _prefill_chunk(self, start: int, stop: int, rows: list[Tensor | None]) -> None:
        tokens: list[int] = []
        records: list[int] = []
        slots: list[int] = []
        ends: list[int] = []
        owners: list[int] = []
        for record, prompt in enumerate(self.prompts):
            here = range(start, min(stop, len(prompt)))
            tokens += prompt[here.start : here.stop]
            records += [record] * len(here)
            slots += here
            if here and here.stop == len(prompt):
                ends.append(len(tokens) - 1)
                owners.append(record)
        # causal: a token sees every slot up to its own
        mask = torch.zeros(len(self.prompts), stop - start, stop, dtype=torch.bool, device=self.runner.device)
        mask[:] = torch.arange(stop)[None, :] <= torch.arange(start, stop)[:, None]
        columns = [slot - start for slot in slots]
        logits = self._run(tokens, records, slots, columns, stop - start, stop, mask, ends or [0])
        for owner, row in zip(owners, logits, strict=False):
            rows[owner] = row

    def evaluate(self, wanted: Sequence[Evaluation]) -> Tensor:
        """Runs new tokens in one forward pass; the logits (tokens, vocabulary) after each."""
        counts = np.zeros(len(self.prompts), dtype=int)
        columns = []
        for item in wanted:
            columns.append(int(counts[item.record]))
            counts[item.record] += 1
        length, width = max(self.used), int(counts.max())
        mask = np.zeros((len(self.prompts), width, length), dtype=bool)
        for item, column in zip(wanted, columns, strict=True):
            row = mask[item.record, column]
            row[: item.sees_prompt] = True
            row[list(item.sees)] = True
            row[item.slot] = True
        records, slots = [item.record for item in wanted], [item.slot for item in wanted]
        positions = torch.tensor([item.position for item in wanted], device=self.runner.device)
        self.cache.positions[records, slots] = positions
        return self._run(
            [item.token for item in wanted],
            records,
            slots,
            columns,
            width,
            length,
            torch.from_numpy(mask).to(self.runner.device),
            list(range(len(wanted))),
        )

    def take_slot(self, record: int) -> int:
        """A free slot for one more token of the record; buffers grow when they are full."""
        slot = self.used[record]
        self.used[record] += 1
        if slot >= self.cache.positions.shape[1]:
            self._grow()
        return slot

    def _grow(self) -> None:
        more = max(GROWTH, self.cache.positions.shape[1] // 4)
        self.cache.positions = torch.nn.functional.pad(self.cache.positions, (0, more))
        for layers in (self.cache.keys, self.cache.values):
            for index, layer in enumerate(layers):
                layers[index] = torch.nn.functional.pad(layer, (0, 0, 0, more))

    def _run(
        self,
        tokens: list[int],
        records: list[int],
        slots: list[int],
        columns: list[int],
        width: int,
        length: int,
        mask: Tensor,
        keep: list[int],
    ) -> Tensor:
        self.forward_passes += 1
        device = self.runner.device
        at = _Pass(
            self.cache,
            torch.tensor(records, device=device),
            torch.tensor(slots, device=device),
            torch.tensor(columns, device=device),
            width,
            length,
            mask,
            {},
        )
        return self.runner.forward(at, tokens, keep)
