"""Guards that are asked several times about each record: one policy per call, or a second call after the first answer.

The calls about one record follow each other in the same batch row, so that what their prompts have in common at the
start, usually the conversation, is evaluated once (for endpoints, by the server's prefix cache)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from marginalia.scoring.guard import Guard
from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Moves, TokenLanguage
from marginalia.scoring.marginal.record_batches import RecordBatches, RecordJob
from marginalia.scoring.per_label_results import combine
from marginalia.scoring.score_request import Settings
from marginalia.scoring.scored_record import Result
from marginalia.scoring.second_call_results import FIRST, GREEDY, SECOND, combine_two, second_call_matters

Messages = Sequence[dict[str, str]]


class Call(Protocol):
    """The scorer of one of a guard's calls."""

    settings: Settings

    @property
    def tokens(self) -> TokenLanguage:
        """The language of its answers."""
        ...

    def prepare(self, record_id: str, messages: Messages) -> RecordJob | Result:
        """The job for one record, or its result where the prompt cannot be built."""
        ...

    def result(self, job: RecordJob) -> Result:
        """The result of a finished job."""
        ...


class SeveralCalls(ABC):
    """The calls about each record, by name, in their order."""

    def __init__(self, guard: Guard, calls: Mapping[str, Call]) -> None:
        self.guard = guard
        self.calls = calls
        self.settings = Settings()
        self.language = CallLanguages([call.tokens for call in calls.values()])

    def use(self, settings: Settings) -> None:
        """Scores with these settings from now on."""
        self.settings = settings
        for call in self.calls.values():
            call.settings = self.settings_of_call(settings)

    def settings_of_call(self, settings: Settings) -> Settings:
        """The settings of each call."""
        return settings

    @abstractmethod
    def next_call(self, results: Mapping[str, Result]) -> str | None:
        """The name of the call after those with `results`; None when the record is done."""

    @abstractmethod
    def combine(self, record_id: str, results: dict[str, Result]) -> Result:
        """The record's result from those of its calls. A call with an error is the last one."""

    def score(
        self, records: Sequence[tuple[str, Messages]], batches: RecordBatches, journalled: Container[str]
    ) -> Iterator[list[Result]]:
        """Yields results of records as all their calls are done, without those of the ids in `journalled`."""
        scored = {record_id: _Record(self, record_id, messages) for record_id, messages in records}
        first = next(iter(self.calls))
        jobs = [job for record in scored.values() if (job := record.job(first)) is not None]
        begun = {job.record_id for job in jobs}
        if failed := [record.combined() for record_id, record in scored.items() if record_id not in begun]:
            yield failed
        for done in batches.run(jobs, journalled):
            for job in done:
                scored[job.record_id].take(job)
            if finished := [scored.pop(job.record_id).combined() for job in done if job.next_call is None]:
                yield finished


@dataclass
class _Record:
    """One record and the results of its calls so far."""

    several: SeveralCalls
    record_id: str
    messages: Messages
    results: dict[str, Result] = field(default_factory=dict)

    def job(self, call: str) -> RecordJob | None:
        """The job of a call; None where its prompt cannot be built, which is then the call's result."""
        prepared = self.several.calls[call].prepare(self.record_id, self.messages)
        if isinstance(prepared, Result):
            self.results[call] = prepared
            return None
        prepared.call, prepared.then = call, self.following
        return prepared

    def following(self, job: RecordJob) -> RecordJob | None:
        """The job after a finished one."""
        self.take(job)
        if self.results[job.call].error is not None:
            return None
        call = self.several.next_call(self.results)
        return None if call is None else self.job(call)

    def take(self, job: RecordJob) -> None:
        """Keeps the result of a job that is done or has failed."""
        if job.call not in self.results:
            self.results[job.call] = self.several.calls[job.call].result(job)

    def combined(self) -> Result:
        return self.several.combine(self.record_id, self.results)


class PerLabelCalls(SeveralCalls):
    """One call per label, for a guard with `calls: per_label`. A label's estimates are those of the verdict in its own
    call.

    The row `unsafe` comes from the call for the file's `overall` policy. Without this policy, it is bounded by the
    labels: the probability that at least one applies is between the largest of theirs and their sum (Fréchet); the
    largest is reported. With `categories` only those are asked about that a label consists of, and a label that
    consists of several has bounds of the same kind, without a probability. `answer` has one line per call;
    `off_language` and `unexplored` are the largest of all calls; nodes, forward passes and seconds are sums."""

    def next_call(self, results: Mapping[str, Result]) -> str | None:
        """The next label, in their order."""
        return next((name for name in self.calls if name not in results), None)

    def combine(self, record_id: str, results: dict[str, Result]) -> Result:
        """See scoring/per_label_results.py."""
        return combine(record_id, results, self.guard)


class TwoCalls(SeveralCalls):
    """A guard with a second call, which is made after the first answer may have completed a certain row. The rows of
    the second answer have the product of that row's probability and their own (scoring/second_call_results.py).

    `answer` has one line per call, with its name: `first` and `second`. `off_language` and `unexplored` are the largest
    of both calls; nodes, forward passes and seconds are sums."""

    def settings_of_call(self, settings: Settings) -> Settings:
        """With half the tolerance: the product of two bounds within t/2 is within t. The greedy answer is needed for
        `predicted`, and for which answers lead to the second call."""
        estimators = tuple(dict.fromkeys([*settings.estimators, GREEDY]))
        return settings.model_copy(update={"tolerance": settings.tolerance / 2, "estimators": estimators})

    def next_call(self, results: Mapping[str, Result]) -> str | None:
        """The second call, unless the first answer almost certainly does not lead to it."""
        assert self.guard.second is not None
        if SECOND in results or not second_call_matters(results[FIRST], self.guard.second, self.settings.tolerance):
            return None
        return SECOND

    def combine(self, record_id: str, results: dict[str, Result]) -> Result:
        """See scoring/second_call_results.py."""
        return combine_two(record_id, results, self.guard, self.settings.estimators)


class CallLanguages:
    """The languages of several calls as one: a state belongs to one of them."""

    def __init__(self, languages: Sequence[TokenLanguage]) -> None:
        self._by_language = {tokens.language: tokens for tokens in languages}
        self.special_text = {token: text for tokens in languages for token, text in tokens.special_text.items()}

    def moves(self, state: State) -> Moves:
        """The tokens that may follow the state."""
        return self._by_language[state.language].moves(state)
