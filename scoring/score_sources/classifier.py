"""A local model with a head for sequence or token classification (ModernBERT, DeBERTa, Llama …), as a guard."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.token_language import Floats
from marginalia.scoring.record_errors import record_error
from marginalia.scoring.score_sources.classifier_inputs import ClassifierInputs, TokenIds
from marginalia.scoring.score_sources.label_numbers import estimates_of, predicted_labels
from marginalia.scoring.score_sources.source_file import ClassifierFile
from marginalia.scoring.score_sources.source_guard import SourceGuard
from marginalia.scoring.scored_record import Result

YES = 0.5  # the probability above which a class of a sigmoid head applies


@dataclass
class Classifier:
    """A loaded model. `columns`: category id → the class's index; `verdict`: the index of the class for the verdict,
    and whether that class means *safe*; None without such a class; `context`: the longest input, in tokens."""

    network: Any
    inputs: ClassifierInputs
    guard: SourceGuard
    name: str
    revision: str
    columns: dict[str, int]
    verdict: tuple[int, bool] | None
    activation: str
    by_token: bool
    context: int
    batch_records: int
    batch_tokens: int

    batch_invariant = False

    @property
    def identity(self) -> list[str]:
        """What its numbers depend on."""
        return ["classifier 1", self.name, self.revision, str(self.network.dtype)]

    @property
    def notes(self) -> list[str]:
        """What readers of its scores should know: one sentence each."""
        head = "token" if self.by_token else "sequence"
        return [f"no bounds: the probabilities are the output of a {head} classification head ({self.activation})"]

    def score_batches(
        self, records: Sequence[tuple[str, Sequence[dict[str, str]]]], journalled: Container[str]
    ) -> Iterator[list[Result]]:
        """Yields the results of the records that are not in `journalled`, in batches of similar length.

        Numbers depend slightly on the batch. A batch of which only a part is journalled is computed whole."""
        inputs: dict[str, TokenIds] = {}
        failed: list[Result] = []
        for record_id, messages in records:
            try:
                inputs[record_id] = self._input(messages)
            except BaseException as error:
                failure = record_error(error, "its input cannot be built")
                failed.append(Result(record_id, error=failure.message, is_temporary=failure.is_temporary))
        if missing := [result for result in failed if result.record_id not in journalled]:
            yield missing
        for ids in self._batches(inputs):
            if any(record_id not in journalled for record_id in ids):
                results = self._score(ids, [inputs[record_id] for record_id in ids])
                yield [result for result in results if result.record_id not in journalled]

    def _input(self, messages: Sequence[dict[str, str]]) -> TokenIds:
        tokens = self.inputs.tokens(messages)
        if len(tokens.ids) > self.context:
            raise ModelError(f"too long: the input has {len(tokens.ids)} tokens, and the model accepts {self.context}")
        if not tokens.ids or (self.by_token and tokens.content[0] == tokens.content[1]):
            raise ModelError("the input has no tokens")
        return tokens

    def _batches(self, inputs: dict[str, TokenIds]) -> Iterator[list[str]]:
        batch: list[str] = []
        for record_id in sorted(inputs, key=lambda name: (len(inputs[name].ids), name)):
            full = (len(batch) + 1) * len(inputs[record_id].ids) > self.batch_tokens
            if batch and (full or len(batch) == self.batch_records):
                yield batch
                batch = []
            batch.append(record_id)
        if batch:
            yield batch

    def _score(self, ids: Sequence[str], inputs: Sequence[TokenIds]) -> list[Result]:
        started = time.perf_counter()
        try:
            numbers = self._numbers(inputs)
        except torch.OutOfMemoryError:
            if len(ids) == 1:
                return [Result(ids[0], error="not enough memory for its input", is_temporary=True)]
            half = len(ids) // 2
            return [*self._score(ids[:half], inputs[:half]), *self._score(ids[half:], inputs[half:])]
        tokens = sum(len(one.ids) for one in inputs)
        seconds = time.perf_counter() - started
        return [
            self._result(record_id, one, row, seconds * len(one.ids) / tokens)
            for record_id, one, row in zip(ids, inputs, numbers, strict=True)
        ]

    def _numbers(self, inputs: Sequence[TokenIds]) -> list[Floats]:
        """The probabilities of all classes for each input: (classes,), for token classification (tokens, classes)."""
        longest = max(len(one.ids) for one in inputs)
        padding = self.network.config.pad_token_id or 0
        ids = [one.ids + [padding] * (longest - len(one.ids)) for one in inputs]
        mask = [[1] * len(one.ids) + [0] * (longest - len(one.ids)) for one in inputs]
        with torch.inference_mode():
            device = self.network.device
            logits = self.network(
                input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(mask, device=device)
            ).logits.float()
            values = logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1)
        found = values.double().cpu().numpy()
        if not self.by_token:
            return list(found)
        return [row[slice(*one.content)] for row, one in zip(found, inputs, strict=True)]

    def _result(self, record_id: str, one: TokenIds, classes: Floats, seconds: float) -> Result:
        if not np.isfinite(classes).all():
            return Result(record_id, error="the model returns NaN", seconds=seconds)
        numbers = {category: self._reduced(classes[..., column]) for category, column in self.columns.items()}
        exclusive = self.activation == "softmax"
        verdict = None
        if self.verdict is not None:
            column, is_safe = self.verdict
            verdict = self._reduced(1.0 - classes[..., column] if is_safe else classes[..., column])
        elif exclusive:
            verdict = self._reduced(classes[..., list(self.columns.values())].sum(-1))
        positive = {category for category, number in numbers.items() if number > YES}
        if exclusive and not self.by_token:
            positive = {category for category, column in self.columns.items() if column == classes.argmax()}
        return Result(
            record_id,
            estimates={self.guard.estimator: estimates_of(self.guard, numbers, verdict, exclusive=exclusive)},
            predicted=predicted_labels(self.guard, positive),
            forward_passes=1,
            seconds=seconds,
            imitations=one.imitations,
        )

    def _reduced(self, values: Floats) -> float:
        """One number of the (tokens,) values of a class; of an input's only value, that value."""
        file = self.guard.file
        if not self.by_token:
            return min(float(values), 1.0)
        assert isinstance(file, ClassifierFile)
        return min(float(values[-1] if file.tokens == "last" else values.max()), 1.0)
