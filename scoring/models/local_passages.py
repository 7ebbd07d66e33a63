"""Samples reasoning passages from a local model: those of all records grow in the same forward passes.

The passages of one record are branches of one tree (scoring/models/prefix_tree.py), so its prompt is run once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from marginalia.schemas.errors import MarginaliaError, ModelError
from marginalia.scoring.marginal.passages import Passage, PassageEnd, PassageRequest, PassageWatch
from marginalia.scoring.models.prefix_tree import Prefix, TokenToRun, TreeBatch, TreeRunner
from marginalia.scoring.record_errors import record_error

PASS_TOKENS = 256  # passages in one forward pass: bounds the logits in memory


@dataclass
class _Growing:
    """A passage that is being sampled, for the record in `row`."""

    row: int
    number: int  # among the passages of its record
    rng: np.random.Generator
    watch: PassageWatch
    ids: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)  # of the tokens that have been run
    begun: bytes | None = None  # what its last token adds after the end; None until the end is reached


class LocalPassages:
    """Samples from the model's own distribution: temperature 1, without top-k or top-p.

    `prefixes`: starts that prompts share; `end_ids` end an output; `token_ids`: how many ids are valid."""

    def __init__(
        self, runner: TreeRunner, prefixes: Sequence[Prefix], end: PassageEnd, end_ids: Sequence[int], token_ids: int
    ) -> None:
        self._runner, self._prefixes, self._end = runner, prefixes, end
        self._end_ids = frozenset(end_ids)
        self._token_ids = token_ids

    def sample(self, requests: Sequence[PassageRequest]) -> list[list[Passage] | ModelError]:
        """The passages of each request, or why there are none. Requests that fail together are tried alone."""
        try:
            return list(self._sample(requests))
        except MarginaliaError:
            raise
        except Exception as error:
            if len(requests) > 1:
                half = len(requests) // 2
                return [*self.sample(requests[:half]), *self.sample(requests[half:])]
            failed = record_error(error, "its reasoning cannot be sampled")
            problem = ModelError(failed.message)
            problem.is_temporary = failed.is_temporary
            return [problem]

    def _sample(self, requests: Sequence[PassageRequest]) -> Sequence[list[Passage] | ModelError]:
        first = self._prefixes[0] if self._prefixes else None
        longest = max(len(request.prompt) for request in requests)
        batch = TreeBatch(self._runner, first, rows=len(requests), room=longest, others=self._prefixes[1:])
        passages = [
            [
                _Growing(row, number, np.random.default_rng(seed), self._end.watch())
                for number, seed in enumerate(one.seeds)
            ]
            for row, one in enumerate(requests)
        ]
        for row, request in enumerate(requests):
            batch.join(row, request.prompt)
        logits = batch.run(range(len(requests)))
        failed: dict[int, ModelError] = {}
        growing = [passage for one in passages for passage in one]
        self._extend(growing, logits[[passage.row for passage in growing]], failed)
        while growing := [one for one in growing if self._goes_on(one, requests[one.row]) and one.row not in failed]:
            for start in range(0, len(growing), PASS_TOKENS):
                part = growing[start : start + PASS_TOKENS]
                tokens = [self._token_to_run(batch, one, len(requests[one.row].prompt)) for one in part]
                self._extend(part, batch.run([], tokens), failed)
        return [failed.get(row, [_passage(one) for one in of_record]) for row, of_record in enumerate(passages)]

    def _goes_on(self, passage: _Growing, request: PassageRequest) -> bool:
        return passage.begun is None and len(passage.ids) < request.longest and passage.ids[-1] not in self._end_ids

    def _token_to_run(self, batch: TreeBatch, passage: _Growing, prompt: int) -> TokenToRun:
        sees = tuple(passage.slots)
        passage.slots.append(batch.take_slot(passage.row))
        return TokenToRun(passage.row, passage.ids[-1], passage.slots[-1], prompt + len(sees), prompt, sees)

    def _extend(self, passages: Sequence[_Growing], logits: Tensor, failed: dict[int, ModelError]) -> None:
        """Draws the next token of each passage from its row of `logits`."""
        probabilities = logits[:, : self._token_ids].double().softmax(-1).cumsum(-1)
        totals = probabilities[:, -1]
        draws = torch.tensor([one.rng.random() for one in passages], dtype=torch.double, device=logits.device)
        tokens = torch.searchsorted(probabilities, (draws * totals)[:, None], right=True)[:, 0].tolist()
        finite = torch.isfinite(totals).tolist()
        for passage, token, is_finite in zip(passages, tokens, finite, strict=True):
            if not is_finite:
                failed[passage.row] = ModelError("the model answered NaN", hint="try dtype float32")
                continue
            passage.ids.append(min(token, self._token_ids - 1))
            passage.begun = passage.watch.add(passage.ids[-1])


def _passage(passage: _Growing) -> Passage:
    return Passage(tuple(passage.ids), passage.begun is not None, passage.begun or b"")
