"""Guards that judge one policy a call (Granite Guardian, ShieldGemma): a prompt for each label, one table of all."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from marginalia.scoring.guard import VERDICT, Guard
from marginalia.scoring.language.answer_language import AnswerLanguage
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.marginal.model_protocol import Model
from marginalia.scoring.scorer import Result, Scorer, Settings

STOPS = ("tolerance", "exhausted", "node_budget")  # from what was asked for to the least of it


class PerLabelScorer(Scorer):
    """A Scorer for a guard with `calls: per_label`. A label's estimates are those of the verdict in its own call.

    The row `unsafe` is the call for the file's `overall` policy. Without one no call speaks of it: at least one label
    applies with a probability between the largest of theirs and their sum (Fréchet), and the largest is reported.
    `answer` has one line a call; `off_language` and `unexplored` are the largest of all calls; nodes, forward passes
    and seconds are their sums."""

    def __init__(self, model: Model, guard: Guard, settings: Settings | None = None) -> None:
        self.model = model
        self.guard = guard
        self.settings = settings or Settings()
        self._calls = {row: Scorer(model, one, self.settings) for row, one in guard.calls.items()}
        first = next(iter(self._calls.values()))
        self.prompts, self.tokens = first.prompts, first.tokens
        self._alone = first.alone
        self.notes = []

    def measure(self, records: Sequence[tuple[str, Sequence[dict[str, str]]]]) -> None:
        """The same, of the first label's calls."""
        first = next(iter(self._calls.values()))
        first.measure(records)
        self.notes = first.notes

    def score_batches(
        self, records: Iterable[tuple[str, Sequence[dict[str, str]]]], held: Container[str] = ()
    ) -> Iterator[list[Result]]:
        """Lists of results, each of the records of a few batches, as soon as all their calls are done."""
        source = iter(records)
        while window := list(islice(source, 4 * self.settings.batch_records)):
            missing = [record for record in window if record[0] not in held]
            if not missing:
                continue
            if self._alone:
                window = missing
            found: dict[str, dict[str, Result]] = {record_id: {} for record_id, _ in window}
            for row, call in self._calls.items():
                call.settings = self.settings
                for result in call.score_records(window):
                    found[result.record_id][row] = result
            yield [combine(record_id, found[record_id], self.guard) for record_id, _ in missing]


def combine(record_id: str, calls: dict[str, Result], guard: Guard) -> Result:
    """One record's results by row, put together. A record fails when one of its calls does."""
    cost = Result(
        record_id,
        nodes=sum(result.nodes for result in calls.values()),
        forward_passes=sum(result.forward_passes for result in calls.values()),
        seconds=sum(result.seconds for result in calls.values()),
        imitations=max(result.imitations for result in calls.values()),
    )
    for row, result in calls.items():
        if result.error is not None:
            return replace(cost, error=f"{row}: {result.error}", passing=result.passing)
    names = next(iter(calls.values())).estimates
    return replace(
        cost,
        estimates={name: _table({row: calls[row].estimates[name] for row in calls}, name, guard) for name in names},
        answer="\n".join(f"{row}: {result.answer}" for row, result in calls.items()),
        predicted=[label for label in guard.labels if _says_yes(calls[label].answer or "", guard.language)],
        off_language=max(result.off_language or 0.0 for result in calls.values()),
        unexplored=max(result.unexplored or 0.0 for result in calls.values()),
        stopped=max((result.stopped for result in calls.values()), key=STOPS.index),
    )


def _table(calls: dict[str, LabelEstimates], name: str, guard: Guard) -> LabelEstimates:
    probability, lower, upper = (
        np.array([getattr(calls[label], bound)[0] for label in guard.labels])
        for bound in ("probability", "lower", "upper")
    )
    if VERDICT in calls:
        last = [float(getattr(calls[VERDICT], bound)[0]) for bound in ("probability", "lower", "upper")]
    elif name in MARGINALS:
        last = [float(probability.max()), float(lower.max()), min(float(upper.sum()), 1.0)]
    else:
        last = [float(probability.max()), float(lower.max()), float(upper.max())]
    return LabelEstimates(
        *(np.append(values, value) for values, value in zip((probability, lower, upper), last, strict=True))
    )


def _says_yes(answer: str, language: AnswerLanguage) -> bool:
    return bool(language.walk(answer.encode())[-1].done >> language.verdict & 1)
