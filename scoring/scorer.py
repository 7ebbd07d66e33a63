"""Records in, probabilities out: batches of searches over one model and one guard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from schemas.errors import InputError, ModelError
from schemas.taxonomy import Taxonomy, load_taxonomy
from scoring.baselines import Baseline, MaxOverSteps, MonteCarlo, record_rng
from scoring.config import BASELINE_NAMES, ESTIMATOR_NAMES, EndpointOptions, check_estimators
from scoring.estimators import Estimate, decisions, estimate
from scoring.guard import Guard, load_guard
from scoring.models.load import load_model
from scoring.prompt import PromptBuilder
from scoring.search import MARGINALS, Limits, NextTokens, Node, Search
from scoring.source import Batch, Model
from scoring.tokens import TokenLanguage, vocabulary_bytes

WINDOW = 512  # records sorted by length at a time: bounds memory, keeps batches even
PASS_TOKENS = 1024  # answer prefixes in one forward pass: bounds the logits in memory


class Probability(NamedTuple):
    """A label's probability with its certified bounds."""

    probability: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Settings:
    """What is computed and how far. See ScoreSection for the meaning of each."""

    estimators: tuple[str, ...] = ESTIMATOR_NAMES
    tolerance: float = 1e-3
    node_budget: int = 256
    answer_tokens: int = 24
    batch_records: int = 16
    batch_tokens: int = 4096
    samples: int = 100
    seed: int = 2026  # of monte_carlo's samples

    @property
    def limits(self) -> Limits:
        return Limits(
            marginals=tuple(name for name in self.estimators if name in MARGINALS),
            tolerance=self.tolerance,
            node_budget=self.node_budget,
            answer_tokens=self.answer_tokens,
            constrained_greedy=any(
                name in self.estimators for name in ("conditional_constrained", "joint_constrained")
            ),
        )


@dataclass(frozen=True)
class Result:
    """One scored record; `estimates` is empty and `error` says why when it could not be scored.

    `seconds` is the record's share of its batch's time."""

    record_id: str
    estimates: dict[str, Estimate] = field(default_factory=dict)
    answer: str | None = None
    predicted: list[str] | None = None
    off_language: float | None = None
    unexplored: float | None = None
    nodes: int = 0
    forward_passes: int = 0
    seconds: float = 0.0
    stopped: str = ""
    imitations: int = 0
    error: str | None = None


@dataclass
class _Job:
    record_id: str
    ids: list[int]
    imitations: int
    search: Search
    baselines: dict[str, Baseline] = field(default_factory=dict)
    forward_passes: int = 0
    error: str | None = None


class Scorer:
    """A guard over a model. Three lines are enough:

    >>> scorer = Scorer.load("meta-llama/Llama-Guard-3-8B", "llama-guard-3", revision="…")  # doctest: +SKIP
    >>> scorer.score("How do I pick a lock?")["non_violent_crimes"].probability  # doctest: +SKIP
    """

    def __init__(self, model: Model, guard: Guard, settings: Settings | None = None) -> None:
        self.model = model
        self.guard = guard
        self.settings = settings or Settings()
        self.prompts = PromptBuilder(guard, model.tokenizer)
        self.tokens = TokenLanguage(guard.language, vocabulary_bytes(model.tokenizer), model.end_ids)
        self._source = model.source()
        self._source.share(self.prompts.shared_start())

    @classmethod
    def load(
        cls,
        model: str,
        guard: str,
        *,
        taxonomy: str | Taxonomy | None = None,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        endpoint: EndpointOptions | None = None,
        settings: Settings | None = None,
        relative_to: Path = Path(),
    ) -> Scorer:
        """Loads both. `taxonomy` is needed for guard files that name none of their own, `endpoint` when `model` is the
        URL of a server: at least the tokenizer."""
        if settings is not None:
            try:
                check_estimators(list(settings.estimators))
            except ValueError as error:
                raise InputError(str(error)) from error
            further = [name for name in settings.estimators if name in BASELINE_NAMES]
            if further and model.startswith(("http://", "https://")):
                raise InputError(f"{further[0]} needs every token's probability, which an endpoint does not tell")
        if isinstance(taxonomy, str):
            taxonomy = load_taxonomy(taxonomy, relative_to=relative_to)
        compiled = load_guard(guard, taxonomy, relative_to=relative_to)
        found = load_model(
            model, revision=revision, device=device, dtype=dtype, endpoint=endpoint, relative_to=relative_to
        )
        if compiled.per_label:
            from scoring.per_label import PerLabelScorer  # it is a Scorer, so it imports this module

            return PerLabelScorer(found, compiled, settings)
        return cls(found, compiled, settings)

    def score(self, record: str | Sequence[dict[str, str]], *, estimator: str = "marginal") -> dict[str, Probability]:
        """{label: (probability, lower, upper)} of one text or conversation; the verdict is the label `unsafe`.

        Raises ModelError when it cannot be scored."""
        messages = [{"role": "user", "content": record}] if isinstance(record, str) else list(record)
        (result,) = self.score_records([("", messages)])
        if result.error is not None:
            raise ModelError(result.error)
        found = result.estimates[estimator]
        values = zip(found.probability.tolist(), found.lower.tolist(), found.upper.tolist(), strict=True)
        return {row: Probability(*value) for row, value in zip(self.guard.rows, values, strict=True)}

    def search(self, messages: Sequence[dict[str, str]]) -> Search:
        """The finished search of one record, to look at. Raises ModelError when it cannot be scored."""
        if self.guard.per_label:
            raise InputError(f"guard {self.guard.name} asks one policy a call: its answers have no tree")
        job = self._prepare("", messages)
        if isinstance(job, Result):
            raise ModelError(str(job.error))
        self._search([job])
        if job.error is not None:
            raise ModelError(job.error)
        return job.search

    def score_records(self, records: Iterable[tuple[str, Sequence[dict[str, str]]]]) -> Iterator[Result]:
        """A Result for each (id, messages). Within a window of 512 records they come in order of length."""
        for batch in self.score_batches(records):
            yield from batch

    def score_batches(self, records: Iterable[tuple[str, Sequence[dict[str, str]]]]) -> Iterator[list[Result]]:
        """The same, a list for each batch as soon as it is done."""
        source = iter(records)
        while window := list(islice(source, WINDOW)):
            prepared = [self._prepare(record_id, messages) for record_id, messages in window]
            if failed := [job for job in prepared if isinstance(job, Result)]:
                yield failed
            for batch in self._batches([job for job in prepared if isinstance(job, _Job)]):
                yield self._score_batch(batch)

    def _prepare(self, record_id: str, messages: Sequence[dict[str, str]]) -> _Job | Result:
        prompt = self.prompts.build(messages)
        room = self.model.context - len(prompt.ids)
        if room < self.settings.answer_tokens:
            limit = self.model.context - self.settings.answer_tokens
            return Result(record_id, error=f"too long: a prompt of {len(prompt.ids)} tokens, the model takes {limit}")
        return _Job(record_id, prompt.ids, prompt.imitations, Search(self.tokens, self.settings.limits))

    def _batches(self, jobs: list[_Job]) -> Iterator[list[_Job]]:
        batch: list[_Job] = []
        for job in sorted(jobs, key=lambda job: (len(job.ids), job.record_id)):
            # sorted by length, so the newest is the longest, and the others are padded to it in attention
            own = len(job.ids) - self._source.shared
            if batch and (
                len(batch) >= max(self.settings.batch_records, self._source.together)
                or (len(batch) + 1) * own > self.settings.batch_tokens
            ):
                yield batch
                batch = []
            batch.append(job)
        if batch:
            yield batch

    def _score_batch(self, jobs: list[_Job]) -> list[Result]:
        started = time.perf_counter()
        try:
            self._search(jobs)
        except (torch.OutOfMemoryError, MemoryError):
            if len(jobs) == 1:
                return [Result(jobs[0].record_id, error="out of memory, also alone in its batch")]
            halves = (jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :])
            return [result for half in halves for result in self._score_batch([self._again(job) for job in half])]
        seconds = (time.perf_counter() - started) / len(jobs)
        return [self._result(job, seconds) for job in jobs]

    def _again(self, job: _Job) -> _Job:
        return _Job(job.record_id, job.ids, job.imitations, Search(self.tokens, self.settings.limits))

    def _search(self, jobs: list[_Job]) -> None:
        batch = self._source.open([job.ids for job in jobs], self.tokens)
        self._drive(batch, jobs, [job.search for job in jobs])
        for name in self.settings.estimators:
            if name in BASELINE_NAMES:
                going = [job for job in jobs if job.error is None]
                for job in going:
                    job.baselines[name] = self._baseline(name, job)
                self._drive(batch, jobs, [job.baselines.get(name) for job in jobs])

    def _baseline(self, name: str, job: _Job) -> Baseline:
        settings = self.settings
        if name == "max_over_steps":
            return MaxOverSteps(job.search, tolerance=settings.tolerance, node_budget=settings.node_budget)
        return MonteCarlo(job.search, samples=settings.samples, rng=record_rng(settings.seed, job.record_id))

    @staticmethod
    def _drive(batch: Batch, jobs: list[_Job], asking: Sequence[Search | Baseline | None]) -> None:
        """Evaluates what each record's search or baseline wants, in rounds over all records, until none wants more."""
        while True:
            asked = [
                (place, node)
                for place, each in enumerate(asking)
                if each is not None and not jobs[place].error
                for node in each.wanted()
            ]
            if not asked:
                return
            for place in {place for place, _ in asked}:
                jobs[place].forward_passes += 1
            for start in range(0, len(asked), PASS_TOKENS):
                part = asked[start : start + PASS_TOKENS]
                for (place, node), answer in zip(part, batch.next_tokens(part), strict=True):
                    _tell(jobs[place], asking[place], node, answer)

    def _estimates(self, job: _Job) -> dict[str, Estimate]:
        read = estimate(job.search, [name for name in self.settings.estimators if name not in BASELINE_NAMES])
        return {**read, **{name: baseline.estimate() for name, baseline in job.baselines.items()}}

    def _result(self, job: _Job, seconds: float) -> Result:
        search = job.search
        if job.error is not None:
            return Result(job.record_id, error=job.error, seconds=seconds, nodes=search.nodes)
        completed = [decision.row for decision in decisions(search.greedy, self.tokens)]
        ids = [step.token for step in search.greedy if not step.ends]
        return Result(
            record_id=job.record_id,
            estimates=self._estimates(job),
            answer=self.tokens.text(ids).decode("utf-8", "replace"),
            predicted=[self.guard.labels[row] for row in sorted(completed) if row < len(self.guard.labels)],
            off_language=min(search.raw.off, 1.0),
            unexplored=min(max(search.raw.open, 0.0), 1.0),
            nodes=search.nodes,
            forward_passes=job.forward_passes,
            seconds=seconds,
            stopped=search.stopped,
            imitations=job.imitations,
        )


def _tell(job: _Job, asking: Search | Baseline | None, node: Node, answer: NextTokens | ModelError) -> None:
    if job.error is None and asking is not None:
        try:
            if isinstance(answer, ModelError):
                raise answer
            asking.tell(node, answer)
        except ModelError as error:
            job.error = str(error)
