"""Many prompts with their answers in one sequence, the start that they share only once.

Each token sees the shared start and what comes before it in its own record, as if the record stood alone, so a step
over n records costs the shared start once and no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Tail:
    """What one record adds to the shared start: the rest of its prompt, then the answer up to its END, as ids."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Packed:
    """`ids` and `positions` (1, T); `mask` (1, 1, T, T), added to the attention scores; `rows` (A,): the tokens whose
    next one is in an answer; `targets` (A,): that next one."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    targets: torch.Tensor


def pack(start: Sequence[int], tails: Sequence[Tail]) -> Packed:
    """One sequence for these records. Raises ValueError for a tail without prompt or answer."""
    ids, positions, owners = list(start), list(range(len(start))), [-1] * len(start)
    rows: list[int] = []
    targets: list[int] = []
    for owner, tail in enumerate(tails):
        if not tail.prompt or not tail.answer:
            raise ValueError("a tail needs a prompt and an answer")
        first = len(ids) + len(tail.prompt) - 1
        rows += range(first, first + len(tail.answer))
        targets += tail.answer
        added = [*tail.prompt, *tail.answer[:-1]]  # nothing is predicted after END
        ids += added
        positions += range(len(start), len(start) + len(added))
        owners += [owner] * len(added)
    owner_of = torch.tensor(owners)
    seen = (owner_of[None, :] == -1) | (owner_of[None, :] == owner_of[:, None])
    seen &= torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    mask = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
    return Packed(
        torch.tensor([ids]), torch.tensor([positions]), mask[None, None], torch.tensor(rows), torch.tensor(targets)
    )


def answer_loss(network: Any, packed: Packed, states: torch.Tensor | None = None) -> torch.Tensor:
    """−log P of all answers of the pack together, in nats. `network` is a transformers causal language model; with
    `states` (T, hidden size) it is one without its lower layers, whose outcome they are."""
    inputs = {"input_ids": packed.ids} if states is None else {"inputs_embeds": states[None]}
    hidden = network.model(
        **inputs, position_ids=packed.positions, attention_mask=packed.mask, use_cache=False
    ).last_hidden_state
    logits = network.lm_head(hidden[0, packed.rows])
    return cross_entropy(logits, packed.targets, reduction="sum")


def states_after(
    network: Any, layers: int, start: Sequence[int], tails: Sequence[Tail]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What the lowest `layers` layers make of the shared start, and of each tail: (tokens, hidden size) each.

    They are the same in every step as long as those layers are not trained."""
    of_start = torch.empty(0)
    of_tails: list[torch.Tensor] = []
    every_layer = network.model.layers
    network.model.layers = every_layer[: layers + 1]  # one more: what leaves the last layer is normalised
    try:
        for first in range(0, len(tails), 16):
            chunk = tails[first : first + 16]
            packed = pack(start, chunk)
            with torch.no_grad():
                found = network.model(
                    input_ids=packed.ids,
                    position_ids=packed.positions,
                    attention_mask=packed.mask,
                    use_cache=False,
                    output_hidden_states=True,
                ).hidden_states[layers][0]
            of_start, *rest = found.split([len(start), *(len(tail.prompt) + len(tail.answer) - 1 for tail in chunk)])
            of_tails += rest
    finally:
        network.model.layers = every_layer
    return of_start, of_tails
