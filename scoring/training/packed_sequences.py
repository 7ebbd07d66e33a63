"""Packs many prompts with their answers into one sequence that contains their shared start once.

Each token attends to the shared start and to the tokens before it in its own record, as if the record were alone. So a
training step over n records evaluates the shared start once, and needs no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Tail:
    """The token ids of one record after the shared start: the rest of its prompt, then its answer with the end
    token."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Packed:
    """A packed sequence of T tokens, of which A are answer tokens.

    ids, positions: (1, T). mask: (1, 1, T, T), added to the attention scores. rows: (A,) indices of the tokens whose
    next token is an answer token. targets: (A,) those answer tokens."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    targets: torch.Tensor


def pack(start: Sequence[int], tails: Sequence[Tail]) -> Packed:
    """One sequence for these records. Raises ValueError for a tail without a prompt or without an answer."""
    ids, positions, owners = list(start), list(range(len(start))), [-1] * len(start)
    rows: list[int] = []
    targets: list[int] = []
    for owner, tail in enumerate(tails):
        if not tail.prompt or not tail.answer:
            raise ValueError("a tail needs a prompt and an answer")
        first = len(ids) + len(tail.prompt) - 1
        rows += range(first, first + len(tail.answer))
        targets += tail.answer
        added = [*tail.prompt, *tail.answer[:-1]]  # nothing is predicted after the end token
        ids += added
        positions += range(len(start), len(start) + len(added))
        owners += [owner] * len(added)
    owner_of = torch.tensor(owners)
    visible = (owner_of[None, :] == -1) | (owner_of[None, :] == owner_of[:, None])
    visible &= torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    return Packed(
        torch.tensor([ids]), torch.tensor([positions]), mask[None, None], torch.tensor(rows), torch.tensor(targets)
    )


def answer_loss(network: Any, packed: Packed, states: torch.Tensor | None = None) -> torch.Tensor:
    """−ln P of all answers of the sequence, summed, in nats. `network` is a transformers causal language model. With
    `states` (T, hidden size), the output of its lowest layers, it must be without these layers."""
    inputs = {"input_ids": packed.ids} if states is None else {"inputs_embeds": states[None]}
    hidden = network.model(
        **inputs, position_ids=packed.positions, attention_mask=packed.mask, use_cache=False
    ).last_hidden_state
    logits = network.lm_head(hidden[0, packed.rows])
    return cross_entropy(logits, packed.targets, reduction="sum")


def states_after(
    network: Any, layers: int, start: Sequence[int], tails: Sequence[Tail]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The hidden states after the lowest `layers` layers, of the shared start and of each tail, (tokens, hidden size).

    As long as these layers are not trained, the states are the same in every step."""
    start_states = torch.empty(0)
    tail_states: list[torch.Tensor] = []
    every_layer = network.model.layers
    network.model.layers = every_layer[: layers + 1]  # one more, as the last layer's output is normalised
    try:
        for first in range(0, len(tails), 16):
            chunk = tails[first : first + 16]
            packed = pack(start, chunk)
            with torch.no_grad():
                states = network.model(
                    input_ids=packed.ids,
                    position_ids=packed.positions,
                    attention_mask=packed.mask,
                    use_cache=False,
                    output_hidden_states=True,
                ).hidden_states[layers][0]
            start_states, *rest = states.split(
                [len(start), *(len(tail.prompt) + len(tail.answer) - 1 for tail in chunk)]
            )
            tail_states += rest
    finally:
        network.model.layers = every_layer
    return start_states, tail_states
