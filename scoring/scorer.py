"""Records in, probabilities out: batches of searches over one model and one guard."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.language.token_language import TokenLanguage, check_ids, vocabulary_bytes
from marginalia.scoring.marginal.answer_search import MARGINALS, Limits, Search
from marginalia.scoring.marginal.baselines import Baseline, MaxOverSteps, MonteCarlo, record_rng
from marginalia.scoring.marginal.estimators import LabelEstimates, decisions, estimate
from marginalia.scoring.marginal.model_protocol import Model
from marginalia.scoring.marginal.record_batches import RecordBatches, RecordJob
from marginalia.scoring.models.load_model import load_model
from marginalia.scoring.per_label_results import combine
from marginalia.scoring.prompt import PromptBuilder
from marginalia.scoring.score_request import BASELINE_NAMES, EndpointOptions, ScoreRequest, Settings, fields_of
from marginalia.scoring.scored_record import Probability, Result

__all__ = ["PerLabelScorer", "Probability", "Result", "Scorer", "Settings"]

WINDOW = 512  # records sorted by length at a time: bounds memory, keeps batches even


class Scorer:
    """A guard over a model. Two lines are enough:

    scorer = Scorer.load("meta-llama/Llama-Guard-3-8B", "llama-guard-3", revision="…")
    scorer.score("How do I pick a lock?")["non_violent_crimes"].probability
    """

    def __init__(self, model: Model, guard: Guard, settings: Settings | None = None) -> None:
        self.model = model
        self.guard = guard
        self.settings = settings or Settings()
        self.prompts = PromptBuilder(guard, model.tokenizer)
        self.tokens = TokenLanguage(guard.language, vocabulary_bytes(model.tokenizer), model.end_ids)
        shared = self._checked_start()
        self.notes: list[str] = []
        self._source = model.source()
        self._source.share(shared)

    def _checked_start(self) -> list[int]:
        """The ids that all prompts start with. Raises ModelError when the model cannot take any prompt of the guard."""
        model = self.model
        check_ids(model.end_ids, model.token_ids, model.tokenizer, "the end of an answer")
        check_ids(self.tokens.usable, model.token_ids, model.tokenizer, "an answer")
        ids = self.prompts.build([{"role": "user", "content": "A"}]).ids
        check_ids(ids, model.token_ids, model.tokenizer, "every prompt")
        if len(ids) + self.settings.answer_tokens > model.context:
            raise ModelError(f"guard {self.guard.name}: no record fits into the model's context: {self._too_long(ids)}")
        return self.prompts.shared_start()

    def _too_long(self, ids: Sequence[int]) -> str:
        limit = self.model.context - self.settings.answer_tokens
        reason = f" ({self.model.context_reason})" if self.model.context_reason else ""
        return f"too long: a prompt of {len(ids)} tokens, the model takes {limit}{reason}"

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
        URL of a server: at least the tokenizer. ScoreRequest says what each means and refuses what cannot be.

        Raises InputError for wrong arguments and files, ModelError and ServiceError for a model that cannot be used."""
        try:
            request = ScoreRequest.model_validate(
                {
                    **fields_of(EndpointOptions, endpoint or EndpointOptions()),
                    "model": model,
                    "guard": guard,
                    "taxonomy": taxonomy,
                    "revision": revision,
                    "device": device,
                    "dtype": dtype,
                    "settings": settings or Settings(),
                    "folder": relative_to,
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InputError(f"{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from None
        return cls.from_request(request)

    @classmethod
    def from_request(cls, request: ScoreRequest) -> Scorer:
        """Loads what the request names. Raises what `load` raises."""
        further = [name for name in request.settings.estimators if name in BASELINE_NAMES]
        if further and request.model.startswith(("http://", "https://")):
            raise InputError(f"{further[0]} needs every token's probability, which an endpoint does not tell")
        guard = _guard(request)
        made = PerLabelScorer if guard.per_label else cls
        return made(load_model(request, relative_to=request.folder), guard, request.settings)

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
        prepared = self._prepare("", messages)
        if isinstance(prepared, Result):
            raise ModelError(str(prepared.error))
        ((job,),) = self._flow().run([prepared])
        if job.error is not None:
            raise ModelError(job.error)
        return job.search

    def score_records(self, records: Iterable[tuple[str, Sequence[dict[str, str]]]]) -> Iterator[Result]:
        """A Result for each (id, messages), as they get done; within a window of 512 records the shorter come first."""
        for batch in self.score_batches(records):
            yield from batch

    def score_batches(
        self, records: Iterable[tuple[str, Sequence[dict[str, str]]]], held: Container[str] = ()
    ) -> Iterator[list[Result]]:
        """The same, a list of those that one pass has finished; the ids `held` are left out."""
        source = iter(records)
        while window := list(islice(source, WINDOW)):
            if self._source.alone or all(record_id in held for record_id, _ in window):
                window = [record for record in window if record[0] not in held]
            prepared = [self._prepare(record_id, messages) for record_id, messages in window]
            if failed := [job for job in prepared if isinstance(job, Result)]:
                yield failed
            for done in self._flow().run((job for job in prepared if isinstance(job, RecordJob)), held):
                yield [self._result(job) for job in done]

    def measure(self, records: Sequence[tuple[str, Sequence[dict[str, str]]]]) -> None:
        """Adds to `notes` by how much a 16-bit model's numbers depend on how they are computed, measured on a few of
        the records. Does nothing for float32 and for endpoints."""
        if self._source.alone or not records:
            return
        from marginalia.scoring.models.local_model import LocalModel
        from marginalia.scoring.models.rounding_check import evenly_spaced, measure

        if isinstance(self.model, LocalModel) and self.model.dtype != "float32":
            prepared = [self._prepare(*record) for record in evenly_spaced(records)]
            found = measure(self.model, self._flow(), [job for job in prepared if isinstance(job, RecordJob)])
            self.notes = [str(found)] if found is not None else []

    @property
    def alone(self) -> bool:
        """Whether a record's numbers do not depend on which others are scored with it."""
        return self._source.alone

    def _flow(self) -> RecordBatches:
        settings = self.settings
        return RecordBatches(self._source, self.tokens, records=settings.batch_records, tokens=settings.batch_tokens)

    def _prepare(self, record_id: str, messages: Sequence[dict[str, str]]) -> RecordJob | Result:
        prompt = self.prompts.build(messages)
        if len(prompt.ids) + self.settings.answer_tokens > self.model.context:
            return Result(record_id, error=self._too_long(prompt.ids))
        try:
            check_ids(prompt.ids, self.model.token_ids, self.model.tokenizer, "the record")
        except ModelError as error:
            return Result(record_id, error=str(error))
        limits = _limits(self.settings)
        baselines = {
            name: partial(self._baseline, name, record_id)
            for name in self.settings.estimators
            if name in BASELINE_NAMES
        }
        return RecordJob(record_id, prompt.ids, prompt.imitations, partial(Search, self.tokens, limits), baselines)

    def _baseline(self, name: str, record_id: str, search: Search) -> Baseline:
        settings = self.settings
        if name == "max_over_steps":
            return MaxOverSteps(search, tolerance=settings.tolerance, node_budget=settings.node_budget)
        return MonteCarlo(search, samples=settings.samples, rng=record_rng(settings.seed, record_id))

    def _estimates(self, job: RecordJob) -> dict[str, LabelEstimates]:
        read = estimate(job.search, [name for name in self.settings.estimators if name not in BASELINE_NAMES])
        return {**read, **{name: baseline.estimate() for name, baseline in job.baselines.items()}}

    def _result(self, job: RecordJob) -> Result:
        search = job.search
        if job.error is not None:
            failed = Result(job.record_id, error=job.error, passing=job.passing)
            return replace(failed, seconds=job.seconds, nodes=search.nodes)
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
            seconds=job.seconds,
            stopped=search.stopped,
            imitations=job.imitations,
        )


def _guard(request: ScoreRequest) -> Guard:
    taxonomy = request.taxonomy
    if isinstance(taxonomy, str):
        taxonomy = load_taxonomy(taxonomy, relative_to=request.folder)
    if request.guard_text is None:
        return load_guard(request.guard, taxonomy, relative_to=request.folder)
    with tempfile.TemporaryDirectory(prefix="marginalia-") as folder:
        path = Path(folder) / f"{Path(request.guard).stem}.yaml"
        path.write_text(request.guard_text, encoding="utf-8")
        return load_guard(str(path), taxonomy)


def _limits(settings: Settings) -> Limits:
    return Limits(
        marginals=tuple(name for name in settings.estimators if name in MARGINALS),
        tolerance=settings.tolerance,
        node_budget=settings.node_budget,
        answer_tokens=settings.answer_tokens,
        constrained_greedy=any(
            name in settings.estimators for name in ("conditional_constrained", "joint_constrained")
        ),
    )


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
