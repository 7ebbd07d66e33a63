"""reconcile: answers → gold.parquet and agreement.json, and gold_severity.parquet where severity was asked for."""

from __future__ import annotations

import polars as pl

from marginalia.annotation.client.suggestions import FILE as SUGGESTIONS
from marginalia.annotation.gold.agreement import agreement_of
from marginalia.annotation.gold.anchoring import anchoring
from marginalia.annotation.gold.answer_arrays import answer_arrays
from marginalia.annotation.gold.gold_questions import FILE, ROUND, accuracy, read_gold_questions
from marginalia.annotation.gold.reconcile import compare_methods, reconcile_with_notes
from marginalia.annotation.gold.severity import gold_severity, severity_of
from marginalia.pipeline.annotating.pull_stage import SEVERITY
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.agreement_json import Anchoring, Severity
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame, write_frame, write_json
from marginalia.schemas.tables import Answer, GoldRecord, GoldSeverity, PromptRecord, SeverityAnswer, SuggestedRecord


def work(run: Run) -> StageOutcome:
    section, seed, labels = run.config.reconcile, run.config.seed, run.taxonomy.ids
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by=run.command("generate"))
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by=run.command("pull"))
    asked = pl.col("round") == ROUND
    ours = answers.filter(pl.col("record_id").is_in(prompts["id"].implode()) & ~asked)
    to_questions = answers.filter(asked)
    try:
        gold, notes = reconcile_with_notes(prompts, ours, labels, section, seed=seed)
    except InputError as error:  # an answer that this taxonomy cannot have
        raise InputError.at(run.path("annotations.parquet"), error.message, hint=error.hint) from error
    agreement = agreement_of(ours, labels, section, seed=seed, taxonomy=run.taxonomy.id, simulated=run.config.simulated)
    known = read_gold_questions(run.path(FILE)).known
    methods = compare_methods(answer_arrays(ours, labels), section, seed)
    agreement = agreement.model_copy(
        update={
            "methods": methods,
            "gold_questions": accuracy(to_questions, known),
            "anchoring": _anchoring(run, ours),
            "severity": _severity(run, gold),
            "notes": [*agreement.notes, *notes],
        }
    )
    write_frame(run.path("gold.parquet"), gold, GoldRecord)
    write_json(run.path("agreement.json"), agreement.model_dump(mode="json"))
    statuses = {name: gold.filter(pl.col("status") == name).height for name in STATUSES}
    equal = equal_texts(gold)
    return StageOutcome(
        counts_in={
            "records": prompts.height,
            "answers": answers.height,
            "answers_to_gold_questions": to_questions.height,
            "answers_elsewhere": answers.height - ours.height - to_questions.height,
        },
        counts_out={"records": gold.height, **statuses, "adjudicated": int(gold["adjudicated"].sum()), **equal.counts},
        facts={
            "method": section.method,
            "alpha_masi": agreement.alpha_masi.value,
            "simulated": run.config.simulated,
            "warnings": equal.warnings,
        },
    )


def _severity(run: Run, gold: pl.DataFrame) -> Severity | None:
    """Writes gold_severity.parquet; None where nobody was asked."""
    levels = run.config.annotation.severity
    if not levels:
        return None
    every = read_frame(run.path(SEVERITY), SeverityAnswer, made_by=run.command("pull"))
    ours = every.filter(pl.col("record_id").is_in(gold["id"].implode()))
    write_frame(run.path(GOLD_SEVERITY), gold_severity(gold, ours), GoldSeverity)
    section, seed = run.config.reconcile, run.config.seed
    return severity_of(ours, run.taxonomy.ids, levels, section.bootstrap, seed=f"{seed}:severity")


def _anchoring(run: Run, answers: pl.DataFrame) -> Anchoring | None:
    if not run.path(SUGGESTIONS).exists():
        return None
    suggestions = read_frame(run.path(SUGGESTIONS), SuggestedRecord, made_by=run.command("push"))
    return anchoring(answers, suggestions, run.config.reconcile.bootstrap, seed=f"{run.config.seed}:anchoring")


def _inputs(run: Run) -> list[str]:
    questions = [FILE] if run.path(FILE).exists() else []
    suggestions = [SUGGESTIONS] if run.config.annotation.suggestions or run.path(SUGGESTIONS).exists() else []
    severity = [SEVERITY] if run.config.annotation.severity else []
    return ["prompts.parquet", "annotations.parquet", *severity, *questions, *suggestions]


GOLD_SEVERITY = "gold_severity.parquet"
STATUSES = ("final", "needs_answers", "needs_adjudication")

STAGE = Stage(
    name="reconcile",
    summary="make gold labels of people's answers, and measure how far they agree",
    inputs=_inputs,
    outputs=lambda run: [
        "gold.parquet",
        "agreement.json",
        *([GOLD_SEVERITY] if run.config.annotation.severity else []),
    ],
    sections=("reconcile",),
    work=work,
)
