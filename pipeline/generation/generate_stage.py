"""generate: the planned texts are written by an LLM, and labelled by another one where the config asks for it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from marginalia.pipeline.config.generation import GenerateSection, unreadable_path
from marginalia.pipeline.core.artifacts import CHECK_JOURNAL, CHECKS, GENERATION, PLAN, PROMPTS, REJECTED, RESPONSES
from marginalia.pipeline.core.checked_tables import check_plan
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.progress import progress
from marginalia.schemas.storage.run_lock import run_lock

if TYPE_CHECKING:
    import polars as pl

    from marginalia.pipeline.generation.blind_check import BlindCheckResult
    from marginalia.pipeline.generation.embedding import Embedder
    from marginalia.pipeline.generation.generation_result import GenerationResult
    from marginalia.pipeline.generation.preview import Preview
    from marginalia.pipeline.generation.writer_templates import Templates
    from marginalia.schemas.generation_json import Diversity


def _work(run: Run) -> StageOutcome:
    import polars as pl

    from marginalia.pipeline.generation.diversity import diversity
    from marginalia.pipeline.generation.included_records import with_included
    from marginalia.pipeline.generation.record_tables import prompts_frames, rejected_frames
    from marginalia.pipeline.generation.unfinished_work import missing_checks, missing_texts
    from marginalia.pipeline.generation.writer_templates import load_templates
    from marginalia.schemas.generation_json import Generation
    from marginalia.schemas.storage.large_tables import write_frames

    section, seed = run.config.generate, run.config.seed
    plan = _plan(run)
    templates = load_templates(_template_folder(run))
    embed = _embedder(run)
    result = _write_texts(run, section, plan, templates, embed)
    written = prompts_frames(result, section.endpoint.model)
    if section.include is not None:
        written = with_included(written, run.path(section.include), run.taxonomy)
    records = write_frames(PROMPTS.path(run), written, PROMPTS.row)
    write_frames(REJECTED.path(run), rejected_frames(result), REJECTED.row)
    checked = _run_check(run, section)
    varied = diversity(pl.scan_parquet(PROMPTS.path(run)), run.taxonomy.writable, seed, embed=embed)
    missing = missing_texts(section, result, run.command("generate"))
    if checked is not None:
        missing += missing_checks(section, checked, run.command("generate"))
    GENERATION.write(run, Generation(diversity=varied, check=checked.check if checked else None))
    outcome = _Outcome(result, checked, varied)
    return StageOutcome(
        counts_in={"planned": plan.height},
        counts_out=outcome.counts(records if section.include is not None else None),
        tokens=outcome.tokens(),
        cost=_cost(section, result, checked),
        models={section.endpoint.model: section.endpoint.address, **_check_model(section)},
        facts=outcome.facts(section, seed, templates, embed),
        missing=missing,
    )


@dataclass(frozen=True)
class _Outcome:
    """What the stage did, for its manifest."""

    result: GenerationResult
    checked: BlindCheckResult | None
    diversity: list[Diversity]

    def counts(self, records: int | None) -> dict[str, int]:
        """Counts of the output. `records` are those of prompts.parquet when others were included, else None."""
        result, accepted = self.result, len(self.result.accepted)
        return {
            "accepted": accepted,
            "open": result.open,
            **({"included": records - accepted} if records is not None else {}),
            "rejected attempts": len(result.rejected),
            **{f"rejected: {reason}": count for reason, count in result.rejected.reasons().items()},
            **self._check_counts(),
        }

    def _check_counts(self) -> dict[str, int]:
        if self.checked is None:
            return {}
        check = self.checked.check
        unlabelled = {"check unreadable": check.unreadable, "check failed": check.failed}
        counts = {name: count for name, count in unlabelled.items() if count}
        return {"checked": check.labelled, "check differs": check.differ, **counts}

    def tokens(self) -> dict[str, int]:
        """Prompt and completion tokens of writer and check."""
        tokens = {"prompt": self.result.prompt_tokens, "completion": self.result.completion_tokens}
        if self.checked is not None:
            tokens["check prompt"] = self.checked.prompt_tokens
            tokens["check completion"] = self.checked.completion_tokens
        return tokens

    def facts(
        self, section: GenerateSection, seed: int, templates: Templates, embed: Embedder | None
    ) -> dict[str, Any]:
        """The facts of the manifest."""
        result, checked, first = self.result, self.checked, self.diversity[0] if self.diversity else None
        return {
            "templates_sha256": templates.sha256,
            "currency": section.prices.currency if section.prices else None,
            "seed": seed,
            "temperature": section.temperature,
            "asked now": result.asked_now,
            "read from the journal": result.from_journal,
            "answers without usage": result.without_usage,
            "unreadable answers": result.unreadable + (checked.unreadable if checked else 0),
            "guessed share of the cost": _guessed(section, result, checked),
            "answering models": dict(sorted(result.models.items())),
            "torn bytes cut from the journal": result.torn_bytes,
            **({"endpoints": result.endpoints} if result.endpoints else {}),
            "stopped early by": result.stopped or ("budget" if checked and checked.stopped else None),
            "distinct-1": first.distinct_1 if first else None,
            "distinct-2": first.distinct_2 if first else None,
            "self-BLEU": first.self_bleu if first else None,
            **({"embeddings": section.duplicates.model, "embeddings revision": embed.revision} if embed else {}),
            **({"check asked now": checked.asked_now, "check obedience": checked.check.obedience} if checked else {}),
        }


def _guessed(section: GenerateSection, result: GenerationResult, checked: BlindCheckResult | None) -> float | None:
    return None if section.prices is None else round(result.guessed + (checked.guessed if checked else 0.0), 6)


def _cost(section: GenerateSection, result: GenerationResult, checked: BlindCheckResult | None) -> float | None:
    """What the answers of writer and check cost; an upper bound where the endpoint did not report usage."""
    if section.prices is None:
        return None
    of_check = checked.cost(section.check.prices or section.prices) if checked is not None else 0.0
    return result.cost(section.prices) + of_check


def _check_model(section: GenerateSection) -> dict[str, str]:
    endpoint = section.check.endpoint
    return {endpoint.model: endpoint.address} if section.check.enabled and endpoint is not None else {}


def with_budget(run: Run, budget: float) -> Run:
    """The run with another generate.budget. Raises InputError when it is not above 0, or when there are no prices."""
    section = run.config.generate
    if budget <= 0:
        raise InputError(f"--budget {budget:g}: expected an amount above 0")
    if section.prices is None:
        hint = "marginalia config --explain generate.prices"
        raise InputError("--budget requires generate.prices", hint=hint)
    generate = section.model_copy(update={"budget": budget})
    return replace(run, config=run.config.model_copy(update={"generate": generate}))


def preview(run: Run, records: int) -> Preview:
    """Asks for the texts of the first `records` slots of the plan. Writes only the journal, from which `generate` takes
    these answers."""
    from marginalia.pipeline.generation.preview import Preview
    from marginalia.pipeline.generation.unfinished_work import missing_texts
    from marginalia.pipeline.generation.writer_templates import load_templates

    section = run.config.generate
    with run_lock(run.folder, "marginalia preview"):
        plan = _plan(run)
        first = plan.head(records)
        # one wave, so that no prompt shows texts of other slots: as in `generate`, whose first wave has these slots
        one_wave = section.model_copy(update={"waves": 1})
        result = _write_texts(run, one_wave, first, load_templates(_template_folder(run)), _embedder(run))
    prices = section.prices
    spent, currency = (result.cost(prices), prices.currency) if prices else (None, "")
    missing = missing_texts(section, result, run.command("preview"))
    return Preview(list(first.iter_rows(named=True)), result, plan.height, spent, currency, missing)


def _embedder(run: Run) -> Embedder | None:
    """The model that finds duplicates by meaning, loaded before anything is paid for."""
    section = run.config.generate.duplicates
    if section.method != "embeddings":
        return None
    from marginalia.pipeline.generation.embedding import Embedder

    return Embedder(section, relative_to=run.folder)


def _write_texts(
    run: Run, section: GenerateSection, plan: pl.DataFrame, templates: Templates, embed: Embedder | None
) -> GenerationResult:
    from marginalia.pipeline.generation.acceptance.answer_acceptance import AnswerAcceptance
    from marginalia.pipeline.generation.blind_check import section_for_check
    from marginalia.pipeline.generation.budget import paid_for
    from marginalia.pipeline.generation.endpoint.lazy_writer import LazyWriter
    from marginalia.pipeline.generation.slot_writing import SlotWriting
    from marginalia.pipeline.generation.writer_requests import RequestBuilder
    from marginalia.schemas.storage.temporary_rows import TemporaryRows

    seed = run.config.seed
    writing = SlotWriting(
        section,
        RequestBuilder(section, run.taxonomy, templates, seed),
        AnswerAcceptance(
            section,
            run.taxonomy,
            embed=embed,
            expected_texts=plan.height,
            temporary_rows=TemporaryRows(run.folder),
        ),
        journal=RESPONSES.path(run),
        endpoint=section.endpoint.address,
        seed=seed,
        spent=paid_for(section_for_check(section), CHECK_JOURNAL.path(run)),
    )

    async def fill(progress: _Progress) -> GenerationResult:
        async with LazyWriter(section) as writer:
            result = await writing.fill(plan, writer, progress)
            result.endpoints = writer.report
        if result.stopped == "outage" and not result.models:
            hint = "no answer was received; check the server, then run the same command again"
            raise ServiceError(str(result.last_failure), hint=hint)
        return result

    with progress(total=0, what="generate", unit="answer") as bar:
        return asyncio.run(fill(_Progress(bar, section)))


def _run_check(run: Run, section: GenerateSection) -> BlindCheckResult | None:
    """The blind check of all records; writes checks.parquet. Without a check, removes the file of an earlier one."""
    from marginalia.pipeline.generation.blind_check import BlindCheck, section_for_check
    from marginalia.pipeline.generation.budget import paid_for
    from marginalia.pipeline.generation.endpoint.lazy_writer import LazyWriter

    if not section.check.enabled:
        CHECKS.path(run).unlink(missing_ok=True)
        return None
    prompts = PROMPTS.read(run)
    spent = paid_for(section, RESPONSES.path(run))
    check = BlindCheck(section, run.taxonomy, journal=CHECK_JOURNAL.path(run), seed=run.config.seed, spent=spent)

    async def label(bar: Any) -> BlindCheckResult:
        async with LazyWriter(section_for_check(section)) as checker:
            return await check.run(prompts, checker, lambda: bar.update(1))

    with progress(total=prompts.height, what="check", unit="record") as bar:
        checked = asyncio.run(label(bar))
    CHECKS.write(run, checked.frame)
    return checked


class _Progress:
    """A progress bar with tokens and cost. Its total grows with each round, because rejected slots are asked again."""

    def __init__(self, bar: Any, section: GenerateSection) -> None:
        self._bar = bar
        self._prices = section.prices
        self._updated = 0.0  # time.monotonic()

    def expect(self, questions: int) -> None:
        """Raises the total."""
        self._bar.total += questions

    def answered(self, result: GenerationResult) -> None:
        """Counts one answer; computes tokens and cost twice a second."""
        if time.monotonic() >= self._updated + 0.5:
            self._updated = time.monotonic()
            self._bar.set_postfix_str(self._spent(result), refresh=False)
        self._bar.update(1)

    def _spent(self, result: GenerationResult) -> str:
        usage = f"{result.prompt_tokens + result.completion_tokens:,} tokens"
        if self._prices is not None:
            usage += f", cost {result.cost(self._prices):.2f}"
        return usage


def _plan(run: Run) -> pl.DataFrame:
    """The plan, checked: it has only labels that a model may be asked for."""
    plan = PLAN.read(run)
    check_plan(run, PLAN.path(run), plan, PLAN.command(run))
    return plan


def _template_folder(run: Run) -> Any:
    from marginalia.pipeline.generation.writer_templates import template_folder

    return template_folder(run.config.generate.templates, relative_to=run.folder)


def _inputs(run: Run) -> tuple[str, ...]:
    # the user's own templates are an input: editing one makes the stage stale
    section = run.config.generate
    own_templates = [section.templates] if run.path(section.templates).is_dir() else []
    return (PLAN.name, *own_templates, *([section.include] if section.include is not None else []))


def _outputs(run: Run) -> tuple[str, ...]:
    checks = (CHECKS.name, CHECK_JOURNAL.name) if run.config.generate.check.enabled else ()
    journals = (RESPONSES.name, *checks[1:])
    unreadable = [path.name for path in map(unreadable_path, map(run.path, journals)) if path.exists()]
    return (PROMPTS.name, REJECTED.name, RESPONSES.name, GENERATION.name, *checks, *unreadable)


STAGE = Stage(
    name="generate",
    inputs=_inputs,
    outputs=_outputs,
    sections=("generate",),
    work=_work,
)
