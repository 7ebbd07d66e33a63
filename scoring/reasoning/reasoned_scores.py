"""The scores of guards that write a reasoning passage before their answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Protocol

from marginalia.schemas.errors import ModelError
from marginalia.scoring.guard import Guard
from marginalia.scoring.guard_file import ReasoningSpec
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import Limits, Search
from marginalia.scoring.marginal.model_protocol import Model, Source
from marginalia.scoring.marginal.passages import Passage, PassageEnd, PassageEndError, PassageRequest
from marginalia.scoring.marginal.record_batches import RecordBatches, RecordJob
from marginalia.scoring.per_label_results import combine
from marginalia.scoring.reasoning.averaged_results import SampledAnswer, averaged, width
from marginalia.scoring.score_request import Settings
from marginalia.scoring.scored_record import Result

FIRST_PASSAGES = 4  # of a record; then their number doubles until the intervals are narrow enough

Messages = Sequence[dict[str, str]]


@dataclass
class _Record:
    """A record that is being scored: the job of its prompt, and what its passages, by number, have given so far."""

    job: RecordJob
    answers: dict[int, SampledAnswer] = field(default_factory=dict)
    result: Result | None = None
    seconds: float = 0.0  # of sampling


class AnswersScorer(Protocol):
    """A scorer that computes the answers after a prompt, as these scores need it."""

    model: Model
    guard: Guard
    settings: Settings
    tokens: TokenLanguage

    @property
    def source(self) -> Source:
        """The source of next-token probabilities and of passages."""
        ...

    @property
    def limits(self) -> Limits:
        """When a search stops."""
        ...

    @property
    def call_scorers(self) -> Mapping[str, AnswersScorer]:
        """The scorers of several calls per record, by name."""
        ...

    def record_batches(self) -> RecordBatches:
        """Runs jobs over the source."""
        ...

    def prepare(self, record_id: str, messages: Messages) -> RecordJob | Result:
        """The job for one record, or its result where the prompt cannot be built."""
        ...

    def result(self, job: RecordJob) -> Result:
        """The result of a finished job."""
        ...


class ReasonedScores:
    """The scores of a guard file with `reasoning`.

    P(label) is the mean of P(label | passage) over the guard's own reasoning passages. Passages are sampled; what
    follows each is computed exactly, as without reasoning (a Rao-Blackwellised estimate: its variance is at most that
    of the share of sampled answers that name the label). Sampling starts with four passages per record and doubles
    their number until all intervals are at most `passage_interval` wide, or `passages` are sampled. `lower` and `upper`
    are 95 % confidence sequences over passages, not certified bounds."""

    def __init__(self, scorer: AnswersScorer, spec: ReasoningSpec) -> None:
        self.scorer = scorer
        model = scorer.model
        try:
            self.end = PassageEnd(spec, model.tokenizer, scorer.tokens.token_bytes, model.end_ids)
        except PassageEndError as error:
            raise scorer.guard.refused(f"reasoning.until: {error}", "reasoning", "until") from error
        self._longest = spec.tokens
        self._calls = {name: ReasonedScores(call, spec) for name, call in scorer.call_scorers.items()}

    @property
    def note(self) -> str:
        """What a reader of the scores should know."""
        most, interval = self.scorer.settings.passages, self.scorer.settings.passage_interval
        return (
            "lower and upper are 95 % confidence intervals over sampled reasoning passages, not certified bounds "
            f"(up to {most} passages per record, until the intervals are at most {interval:g} wide)"
        )

    def score_batches(
        self, records: Iterable[tuple[str, Messages]], journalled: Container[str]
    ) -> Iterator[list[Result]]:
        """Yields lists of results, each of a batch of records. Records whose ids are in `journalled` are left out."""
        waiting, scorer = iter(records), self.scorer
        while window := list(islice(waiting, max(scorer.settings.batch_records, scorer.source.min_records))):
            missing = [record for record in window if record[0] not in journalled]
            if not missing:
                continue
            scored = self._score_window(missing if scorer.source.batch_invariant else window)
            yield [result for result in scored if result.record_id not in journalled]

    def _score_window(self, records: Sequence[tuple[str, Messages]]) -> list[Result]:
        """One result per record; with one policy per call, each call has passages of its own."""
        if not self._calls:
            return self._score(records)
        results: dict[str, dict[str, Result]] = {record_id: {} for record_id, _ in records}
        for row, call in self._calls.items():
            call.scorer.settings = self.scorer.settings
            for result in call._score(records):
                results[result.record_id][row] = result
        return [combine(record_id, calls, self.scorer.guard) for record_id, calls in results.items()]

    def _score(self, records: Sequence[tuple[str, Messages]]) -> list[Result]:
        prepared = [self.scorer.prepare(record_id, messages) for record_id, messages in records]
        open_records = [_Record(job) for job in prepared if isinstance(job, RecordJob)]
        done = [result for result in prepared if isinstance(result, Result)]
        target = min(FIRST_PASSAGES, self.scorer.settings.passages)
        while open_records:
            self._add_answers(open_records, target)
            for record in open_records:
                if record.result is None:
                    record.result = self._combine(record)
            settled = target >= self.scorer.settings.passages
            finished = [one for one in open_records if settled or one.result is None or self._is_settled(one.result)]
            done += [one.result for one in finished if one.result is not None]
            open_records = [one for one in open_records if one not in finished]
            for one in open_records:
                one.result = None
            target = min(2 * target, self.scorer.settings.passages)
        return done

    def _is_settled(self, result: Result) -> bool:
        return result.error is not None or width(result) <= self.scorer.settings.passage_interval

    def _combine(self, record: _Record) -> Result:
        # in the order in which they were drawn, on which the intervals depend
        answers = [record.answers[number] for number in sorted(record.answers)]
        scales = self.scorer.guard.language.scales
        result = averaged(
            record.job.record_id, answers, self.scorer.settings.estimators, len(self.scorer.guard.rows), scales
        )
        return replace(
            result,
            seconds=result.seconds + record.seconds,
            imitations=record.job.imitations,
            predicted=[label for label in self.scorer.guard.labels if label in (result.predicted or [])],
        )

    def _add_answers(self, records: Sequence[_Record], target: int) -> None:
        """Samples passages of each record until it has `target`, and computes the answers after the new ones."""
        requests = [self._request(record, target) for record in records]
        started = time.perf_counter()
        sampled = self.scorer.source.passages(self.end).sample(requests)
        seconds = (time.perf_counter() - started) / len(records)
        jobs: list[RecordJob] = []
        pending: dict[str, tuple[_Record, int, Passage]] = {}
        for record, passages in zip(records, sampled, strict=True):
            record.seconds += seconds
            if isinstance(passages, ModelError):
                failed = Result(record.job.record_id, error=str(passages), is_temporary=passages.is_temporary)
                record.result = failed
                continue
            for number, passage in enumerate(passages, start=len(record.answers)):
                if passage.finished and len(self.scorer.guard.language.walk(passage.begun)) > len(passage.begun):
                    job = self._answer_job(record, passage, f"{len(pending)}")
                    jobs.append(job)
                    pending[job.record_id] = record, number, passage
                else:
                    record.answers[number] = SampledAnswer(len(passage.ids), None)
        for finished in self.scorer.record_batches().run(jobs):
            for job in finished:
                record, number, passage = pending[job.record_id]
                record.answers[number] = SampledAnswer(len(passage.ids), self.scorer.result(job))

    def _request(self, record: _Record, target: int) -> PassageRequest:
        prompt = record.job.ids
        room = self.scorer.model.context - self.scorer.settings.answer_tokens - len(prompt)
        numbers = range(len(record.answers), target)
        seeds = [passage_seed(self.scorer.settings.seed, record.job.record_id, number) for number in numbers]
        return PassageRequest(prompt, seeds, max(min(self._longest, room), 1))

    def _answer_job(self, record: _Record, passage: Passage, name: str) -> RecordJob:
        """The search for the answers after a passage."""
        job = record.job
        begin = partial(Search, self.scorer.tokens, self.scorer.limits, passage.begun)
        return RecordJob(name, [*job.ids, *passage.ids], job.imitations, begin, job.make_baselines)


def passage_seed(seed: int, record_id: str, number: int) -> int:
    """The seed of a record's passage: it depends on nothing but the run's seed, the record's id and the number."""
    digest = hashlib.sha256(f"{seed}\0{record_id}\0{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
