"""Scorer: computes label probabilities of records with one model and one guard."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marginalia.schemas.data_frames import is_frame, like
from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
from marginalia.scoring.answer_tokens import answer_tokens
from marginalia.scoring.covered_estimates import labels_in, of_labels
from marginalia.scoring.guard import Guard
from marginalia.scoring.guard_argument import guard_argument
from marginalia.scoring.language.token_language import TokenLanguage, check_ids, vocabulary_bytes
from marginalia.scoring.marginal.answer_search import MARGINALS, Limits, Search
from marginalia.scoring.marginal.baselines import Baseline, MaxOverSteps, MonteCarlo, record_rng
from marginalia.scoring.marginal.estimators import (
    LabelEstimates,
    decisions,
    estimate,
    expected_values,
    without_hidden_rows,
)
from marginalia.scoring.marginal.model_protocol import Model, Source
from marginalia.scoring.marginal.record_batches import RecordBatches, RecordJob
from marginalia.scoring.models.load_model import load_model
from marginalia.scoring.prompt import PromptBuilder, check_messages
from marginalia.scoring.reasoning.reasoned_scores import ReasonedScores
from marginalia.scoring.record_errors import record_error
from marginalia.scoring.record_scores import RecordScores, not_computed
from marginalia.scoring.record_stream import scored_in_order, with_progress
from marginalia.scoring.score_request import BASELINE_NAMES, EndpointOptions, ScoreRequest, Settings, fields_of
from marginalia.scoring.score_sources.load_source import ScoreSource, load_source
from marginalia.scoring.score_sources.source_guard import AnyGuard, SourceGuard, load_any_guard
from marginalia.scoring.scored_frames import long_frame, records_in, wide_frame
from marginalia.scoring.scored_record import Level, LevelEntry, Probability, Result
from marginalia.scoring.several_calls import PerLabelCalls, SeveralCalls, TwoCalls

__all__ = ["Level", "Probability", "Result", "Scorer", "Settings", "SourceScorer"]

KNOWN_MESSAGES = ({"role": "user", "content": "A"},)  # a record that every scorer can score
WINDOW = 512  # records sorted by length at a time: bounds memory, keeps batches even


class Scorer:
    """Scores records with one guard on one model.

        scorer = Scorer.load("meta-llama/Llama-Guard-3-8B", "llama-guard-3", revision="…")
        scorer.score("How do I pick a lock?")["non_violent_crimes"].probability

    `notes`: what readers of the scores should know about their numbers. `prompts`, `tokens`: how prompts are built, and
    the language of the answers; those of the first call where the guard is asked several times about each record.
    `calls`: the scorers of these calls, by name. `first`: for one of them, the scorer of the first one.

    Raises ModelError when the model cannot score any record with this guard."""

    def __init__(
        self, model: Model, guard: Guard, settings: Settings | None = None, *, first: Scorer | None = None
    ) -> None:
        self.model = model
        self.guard = guard
        self.settings = settings or Settings()
        self.notes: list[str] = []
        self.prompts: PromptBuilder
        self.tokens: TokenLanguage
        self._source: Source
        self.calls: dict[str, Scorer] = {}
        self._several: SeveralCalls | None = None
        for name, call in guard.calls.items():
            self.calls[name] = Scorer(model, call, self.settings, first=next(iter(self.calls.values()), None))
        if self.calls:
            first = next(iter(self.calls.values()))
            self.prompts, self.tokens, self._source = first.prompts, first.tokens, first._source
            self._several = (PerLabelCalls if guard.per_label else TwoCalls)(guard, self.calls)
            self._reasoning = self._reasoned()
            return
        self.prompts = PromptBuilder(guard, model.tokenizer)
        same_language = first is not None and first.guard.language is guard.language
        special_ids = answer_tokens(guard, model.tokenizer, model.end_ids)
        self.tokens = (
            first.tokens
            if first is not None and same_language
            else TokenLanguage(guard.language, vocabulary_bytes(model.tokenizer), model.end_ids, special_ids)
        )
        shared = self._checked_start()
        self._source = model.source() if first is None else first._source
        self._source.add_shared_start(shared)
        self._reasoning = self._reasoned()

    def _reasoned(self) -> ReasonedScores | None:
        spec = self.guard.file.reasoning
        if spec is None:
            return None
        reasoned = ReasonedScores(self, spec)
        self.notes = [reasoned.note]
        return reasoned

    def _checked_start(self) -> list[int]:
        """The ids that all prompts start with. Raises ModelError when the model cannot process any prompt of the
        guard, InputError when no prompt can fit next to answer_tokens."""
        model = self.model
        if (answer_tokens := self.settings.answer_tokens) >= model.context:
            raise InputError(
                f"answer_tokens is {answer_tokens}, and the model's context has only {model.context} tokens",
                hint="give a smaller answer_tokens (--answer-tokens)",
            )
        check_ids(model.end_ids, model.token_ids, model.tokenizer, "the end of an answer")
        check_ids(self.tokens.usable, model.token_ids, model.tokenizer, "an answer")
        ids = self.prompts.build(KNOWN_MESSAGES).ids
        check_ids(ids, model.token_ids, model.tokenizer, "every prompt")
        if len(ids) + self.settings.answer_tokens > model.context:
            raise ModelError(f"guard {self.guard.name}: no record fits into the model's context: {self._too_long(ids)}")
        return self.prompts.shared_start()

    @property
    def prompt_notes(self) -> list[str]:
        """Where the guard's prompts and the model's tokenizer do not fit together."""
        scorers = [*self.calls.values()] or [self]
        return list(dict.fromkeys(note for scorer in scorers for note in scorer.prompts.notes))

    def _too_long(self, ids: Sequence[int]) -> str:
        limit = self.model.context - self.settings.answer_tokens
        reason = f" ({self.model.context_reason})" if self.model.context_reason else ""
        return f"too long: the prompt has {len(ids)} tokens, and the model accepts {limit}{reason}"

    @classmethod
    def load(
        cls,
        model: str | PathLike[str] | list[str],
        guard: str | PathLike[str] | None = None,
        *,
        taxonomy: str | PathLike[str] | Taxonomy | None = None,
        categories: str | Mapping[str, Any] | None = None,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        endpoint: EndpointOptions | None = None,
        settings: Settings | None = None,
        relative_to: Path = Path(),
    ) -> Scorer:
        """Loads a model and a guard. ScoreRequest documents and validates the arguments.

            Scorer.load("bundled-guard")                                        # the demo guard, for support tickets
            Scorer.load("./Llama-Guard-3-8B", "llama-guard-3")                  # a shipped guard, a model folder
            Scorer.load("./my-model", "instruct", taxonomy="taxonomy.yaml")     # a policy prompt for your labels
            Scorer.load("http://…/v1", "systemone", taxonomy="taxonomy.yaml")   # a server's own numbers

        `model` is a folder, a .gguf file, a bundled model, a Hub id with `revision`, or the URL of a server. `guard` is
        a shipped guard's name or the path of a guard file: how the model is asked and what its answers mean. Only
        "bundled-guard" has a default. `taxonomy` is required for guards without one of their own; `endpoint`, with at
        least the tokenizer, when `model` is a URL and the guard is generative. `categories` says which of the guard's
        own categories each label of `taxonomy` consists of, where they differ: `{"violence": ["violent_crimes",
        "indiscriminate_weapons"]}`, or the path of a YAML file with the same content. Relative paths start from
        `relative_to`.

        Raises InputError for wrong arguments and files, ModelError and ServiceError for a model that cannot be used."""
        model = model if isinstance(model, list) else fspath(model)
        guard = guard_argument(model, None if guard is None else fspath(guard))
        taxonomy = fspath(taxonomy) if isinstance(taxonomy, PathLike) else taxonomy
        try:
            request = ScoreRequest.model_validate(
                {
                    **fields_of(EndpointOptions, endpoint or EndpointOptions()),
                    "model": model,
                    "guard": guard,
                    "taxonomy": taxonomy,
                    "categories": categories,
                    "revision": revision,
                    "device": device,
                    "dtype": dtype,
                    "settings": settings or Settings(),
                    "folder": relative_to,
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            message, hint = first["msg"].removeprefix("Value error, "), first.get("ctx", {}).get("hint")
            raise InputError(f"{first['loc'][0]}: {message}", hint=hint) from None
        return cls.from_request(request)

    @classmethod
    def from_request(cls, request: ScoreRequest) -> Scorer:
        """Loads the model and the guard of a request. Raises what `load` raises."""
        guard = _guard(request)
        if isinstance(guard, SourceGuard):
            return SourceScorer(load_source(request, guard, request.settings), guard, request.settings)
        baselines = [name for name in request.settings.estimators if name in BASELINE_NAMES]
        if baselines and request.model.startswith(("http://", "https://")):
            raise InputError(f"{baselines[0]} needs the probability of every token, which an endpoint does not return")
        return cls(load_model(request, relative_to=request.folder), guard, request.settings)

    def score(self, record: str | Sequence[dict[str, str]], *, estimator: str | None = None) -> RecordScores:
        """The scores of one text or conversation: {label: (probability, lower, upper)}, with the verdict under
        `unsafe`, by `estimator` (default: marginal, or else the first that the scorer computes). The
        probability of a label with only bounds (`categories`) is None.

        Raises InputError for invalid messages, ModelError when the record cannot be scored."""
        messages = [{"role": "user", "content": record}] if isinstance(record, str) else record
        if not isinstance(messages, Sequence) or not all(isinstance(message, dict) for message in messages):
            raise InputError("score takes a text, or the messages of a conversation", hint="score_many takes many")
        check_messages(messages)
        shown = self._shown_estimator(estimator)
        (result,) = self.score_records([("", messages)])
        if result.error is not None:
            raise ModelError(result.error)
        return RecordScores(result, self.guard.rows, shown)

    def score_many(
        self, records: Iterable[Any], *, estimator: str | None = None, progress: bool | None = None
    ) -> Iterator[RecordScores]:
        """Yields the scores of each record, in the order of `records`, which may be a generator of any length: at most
        512 are in memory.

        A record is a text, the messages of a conversation, a pair (id, either of these), or a dict with `text` or
        `messages` and perhaps `id`. The default id is the position, from 0. A record that cannot be scored, for any
        reason, is yielded with an `error`, and the others go on. `progress`: None shows a bar on a terminal only.

        Raises InputError for an estimator that is not computed, and at once for one text in place of many."""
        if isinstance(records, str | bytes):
            raise InputError("score_many takes many records", hint="score takes one text")
        if is_frame(records):
            raise InputError("score_many takes an iterable of records", hint="score_frame takes a data frame")
        shown = self._shown_estimator(estimator)
        results = with_progress(scored_in_order(records, self.score_records, WINDOW), records, progress)
        return (RecordScores(result, self.guard.rows, shown) for result in results)

    def score_frame(
        self,
        frame: Any,
        text: str | None = None,
        *,
        id: str | None = None,
        estimator: str | None = None,
        wide: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """The scores of a polars or pandas frame, as a frame of the same kind.

        `text` names the column of texts or conversations (default: `messages`, or else `text`), `id` that of the ids
        (default: `id`, or else the row number). The result is long, with the columns and rows of scores/GUARD.parquet:
        record_id, estimator, label, probability, lower, upper. That keeps the bounds, and `evaluate` takes it. With
        `wide` it has one row per record: record_id, `unsafe`, a probability per label, error.

        `estimator` selects one (default: all that the scorer computes; wide: as for `score`). Raises InputError for a
        column or an estimator that does not exist."""
        records = records_in(frame, text, id)
        scored = self.score_many(records, estimator=estimator, progress=progress)
        if wide:
            return like(frame, wide_frame(scored, self.guard.rows))
        return like(frame, long_frame(scored, self.settings.estimators if estimator is None else [estimator]))

    def _shown_estimator(self, name: str | None) -> str:
        computed = self.settings.estimators
        if name is None:
            return "marginal" if "marginal" in computed else computed[0]
        if name not in computed:
            raise not_computed(name, computed)
        return name

    def search(self, messages: Sequence[dict[str, str]]) -> Search:
        """The finished search of one record, to inspect its answers. Raises ModelError when it cannot be scored,
        InputError for invalid messages and for a guard with several calls per record."""
        if self._reasoning is not None:
            raise InputError(f"guard {self.guard.name} reasons first, so a record has no single tree of answers")
        if self._several is not None:
            asks = "asks one policy per call" if self.guard.per_label else "is asked twice about each record"
            raise InputError(f"guard {self.guard.name} {asks}, so a record has no single tree of answers")
        check_messages(messages)
        prepared = self.prepare("", messages)
        if isinstance(prepared, Result):
            raise ModelError(str(prepared.error))
        ((job,),) = self.record_batches().run([prepared])
        if job.error is not None:
            raise ModelError(job.error)
        return job.search

    def score_records(self, records: Iterable[tuple[str, Sequence[dict[str, str]]]]) -> Iterator[Result]:
        """Yields a Result for each (id, messages) as it is done. Within each 512 records, shorter ones come first.

        A record that cannot be scored has a result with an `error`. Raises ServiceError and ModelError only for what
        concerns all records, such as a server that is down."""
        for batch in self.score_batches(records):
            yield from batch

    def score_batches(
        self, records: Iterable[tuple[str, Sequence[dict[str, str]]]], journalled: Container[str] = ()
    ) -> Iterator[list[Result]]:
        """Yields lists of results that are done at the same time. Records whose ids are in `journalled` are left
        out."""
        if self._reasoning is not None:
            yield from self._reasoning.score_batches(records, journalled)
            return
        source = iter(records)
        while window := list(islice(source, WINDOW)):
            if self._source.batch_invariant or all(record_id in journalled for record_id, _ in window):
                window = [record for record in window if record[0] not in journalled]
            if self._several is not None:
                yield from self._several.score(window, self.record_batches(), journalled)
                continue
            prepared = [self.prepare(record_id, messages) for record_id, messages in window]
            if failed := [job for job in prepared if isinstance(job, Result)]:
                yield failed
            for done in self.record_batches().run((job for job in prepared if isinstance(job, RecordJob)), journalled):
                yield [self.result(job) for job in done]

    def measure(self, records: Sequence[tuple[str, Sequence[dict[str, str]]]]) -> None:
        """Measures on a few of the records how much a 16-bit model's numbers depend on how they are computed, and adds
        the result to `notes`. Does nothing for float32 models, endpoints, and guards that reason first; of several
        calls, it measures the first."""
        if self._source.batch_invariant or not records or self._reasoning is not None:
            return
        if self.calls:
            first = next(iter(self.calls.values()))
            first.measure(records)
            self.notes = first.notes
            return
        from marginalia.scoring.models.local_model import LocalModel
        from marginalia.scoring.models.rounding_check import evenly_spaced, measure

        if isinstance(self.model, LocalModel) and self.model.dtype != "float32":
            prepared = [self.prepare(*record) for record in evenly_spaced(records)]
            numerics = measure(
                self.model, self.record_batches(), [job for job in prepared if isinstance(job, RecordJob)]
            )
            self.notes = [str(numerics)] if numerics is not None else []

    @property
    def batch_invariant(self) -> bool:
        """Whether a record's numbers are independent of the records that are scored with it."""
        return self._source.batch_invariant

    @property
    def source(self) -> Source:
        """The source of next-token probabilities."""
        return self._source

    @property
    def call_scorers(self) -> Mapping[str, Scorer]:
        """The scorers of several calls per record, by name."""
        return self.calls

    def record_batches(self) -> RecordBatches:
        """Runs jobs over the source, with the settings as they are."""
        settings = self.settings
        if self._several is not None:
            self._several.use(settings)
        first = next(iter(self.calls.values()), self)
        return RecordBatches(
            self._source,
            self.tokens if self._several is None else self._several.language,
            records=settings.batch_records,
            tokens=settings.batch_tokens,
            known_job=partial(first._job, "", KNOWN_MESSAGES),
        )

    def prepare(self, record_id: str, messages: Sequence[dict[str, str]]) -> RecordJob | Result:
        """The job for one record, or its result where the prompt cannot be built."""
        try:
            return self._job(record_id, messages)
        except BaseException as error:
            failed = record_error(error, "its prompt cannot be built")
            return Result(record_id, error=failed.message, is_temporary=failed.is_temporary)

    def _job(self, record_id: str, messages: Sequence[dict[str, str]]) -> RecordJob:
        prompt = self.prompts.build(messages)
        if len(prompt.ids) + self.settings.answer_tokens > self.model.context:
            raise ModelError(self._too_long(prompt.ids))
        check_ids(prompt.ids, self.model.token_ids, self.model.tokenizer, "the record")
        baselines = {
            name: partial(self._baseline, name, record_id)
            for name in self.settings.estimators
            if name in BASELINE_NAMES
        }
        return RecordJob(record_id, prompt.ids, prompt.imitations, partial(Search, self.tokens, self.limits), baselines)

    @property
    def limits(self) -> Limits:
        """When a search stops."""
        settings = self.settings
        return Limits(
            marginals=tuple(name for name in settings.estimators if name in MARGINALS),
            tolerance=settings.tolerance,
            node_budget=settings.node_budget,
            answer_tokens=settings.answer_tokens,
            constrained_greedy=any(
                name in settings.estimators for name in ("conditional_constrained", "joint_constrained")
            ),
        )

    def _baseline(self, name: str, record_id: str, search: Search) -> Baseline:
        settings = self.settings
        if name == "max_over_steps":
            return MaxOverSteps(search, tolerance=settings.tolerance, node_budget=settings.node_budget)
        # the second answer is sampled independently of the first
        stream = record_id if self.guard.verdict is None else f"{record_id}\0second"
        return MonteCarlo(search, samples=settings.samples, rng=record_rng(settings.seed, stream))

    def _estimates(self, job: RecordJob) -> dict[str, LabelEstimates]:
        """The estimates of all rows of the search."""
        from_search = estimate(job.search, [name for name in self.settings.estimators if name not in BASELINE_NAMES])
        return {**from_search, **{name: baseline.estimate() for name, baseline in job.baselines.items()}}

    def _guard_rows(self, rows: LabelEstimates) -> LabelEstimates:
        """The estimates of the guard's rows, from those of the search."""
        if self.guard.is_call:
            return rows  # of which the results of all calls are made
        if self.guard.covered is not None:
            return of_labels(rows, self.guard.covered)
        return without_hidden_rows(rows, self.guard.language)

    def _levels(self, estimates: Mapping[str, LabelEstimates]) -> list[LevelEntry] | None:
        """The expected levels and integers, by each marginal; None for a guard that has none."""
        if not self.guard.language.scales:
            return None
        return [
            LevelEntry(name=scale.name, estimator=estimator, expected=expected, lower=lower, upper=upper)
            for estimator in MARGINALS
            if estimator in estimates
            for scale, expected, lower, upper in expected_values(estimates[estimator], self.guard.language)
        ]

    def _predicted(self, search: Search) -> list[str]:
        """The labels that the greedy answer completes."""
        completed = {decision.row for decision in decisions(search.greedy, self.tokens, search.begun)}
        if self.guard.covered is not None:
            return labels_in(completed, self.guard.covered)
        return [label for row, label in enumerate(self.guard.labels) if row in completed]

    def result(self, job: RecordJob) -> Result:
        """The result of a finished job."""
        if job.error is None:
            try:
                return self._scores(job)
            except BaseException as error:
                job.fail(error)
        failed = Result(job.record_id, error=job.error, is_temporary=job.is_temporary)
        return replace(failed, seconds=job.seconds, nodes=job.search.nodes)

    def _scores(self, job: RecordJob) -> Result:
        search, estimates = job.search, self._estimates(job)
        ids = [step.token for step in search.greedy if step.token not in self.tokens.end_ids]
        return Result(
            record_id=job.record_id,
            estimates={name: self._guard_rows(rows) for name, rows in estimates.items()},
            answer=(search.begun + self.tokens.text(ids)).decode("utf-8", "replace"),
            predicted=self._predicted(search),
            off_language=min(search.raw.off, 1.0),
            unexplored=min(max(search.raw.open, 0.0), 1.0),
            nodes=search.nodes,
            forward_passes=job.forward_passes,
            seconds=job.seconds,
            stopped=search.stopped,
            imitations=job.imitations,
            levels=self._levels(estimates),
        )


def _guard(request: ScoreRequest) -> AnyGuard:
    taxonomy = request.taxonomy
    if isinstance(taxonomy, str):
        taxonomy = load_taxonomy(taxonomy, relative_to=request.folder)
    categories = request.categories
    if request.guard_text is None:
        return load_any_guard(request.guard, taxonomy, relative_to=request.folder, categories=categories)
    with tempfile.TemporaryDirectory(prefix="marginalia-") as folder:
        path = Path(folder) / f"{Path(request.guard).stem}.yaml"
        path.write_text(request.guard_text, encoding="utf-8")
        return load_any_guard(str(path), taxonomy, categories=categories, own_taxonomy=request.own_taxonomy)


class SourceScorer(Scorer):
    """A Scorer for a guard whose probabilities come from a server or a classification head.

    It computes one estimator, whatever the settings ask for: `server` or `classifier`, without bounds. `answer` and
    `unexplored` are None."""

    model: Any  # a ScoreSource, where others have a Model
    guard: Any  # a SourceGuard
    prompts: Any  # its inputs

    def __init__(self, source: ScoreSource, guard: SourceGuard, settings: Settings | None = None) -> None:
        self.model = source
        self.guard = guard
        self.settings = (settings or Settings()).model_copy(update={"estimators": (guard.estimator,)})
        self.prompts = source.inputs
        self.notes = []
        self.calls = {}

    @property
    def prompt_notes(self) -> list[str]:
        """None: there are no templates."""
        return []

    @property
    def batch_invariant(self) -> bool:
        """Whether a record's numbers are independent of the records that are scored with it."""
        return bool(self.model.batch_invariant)

    def measure(self, records: Sequence[tuple[str, Sequence[dict[str, str]]]]) -> None:
        """Does nothing: a source does not compute a search."""

    def search(self, messages: Sequence[dict[str, str]]) -> Search:
        """Raises InputError: there is no tree of answers."""
        raise InputError(
            f"guard {self.guard.name} (kind: {self.guard.file.kind}) gives numbers and no answers to explain"
        )

    def score_batches(
        self, records: Iterable[tuple[str, Sequence[dict[str, str]]]], journalled: Container[str] = ()
    ) -> Iterator[list[Result]]:
        """Yields lists of results that are done at the same time. Records whose ids are in `journalled` are left
        out."""
        source = iter(records)
        while window := list(islice(source, WINDOW)):
            yield from self.model.score_batches(window, journalled)
