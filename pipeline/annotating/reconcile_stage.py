"""reconcile: computes gold.parquet and agreement.json from the answers and, with annotation.severity,
gold_severity.parquet."""

from __future__ import annotations

import polars as pl

from marginalia.annotation.gold.agreement import agreement_of
from marginalia.annotation.gold.anchoring import anchoring
from marginalia.annotation.gold.gold_questions import ROUND, accuracy, read_gold_questions
from marginalia.annotation.gold.reconcile import compare_methods, reconcile_with_notes
from marginalia.annotation.gold.severity import gold_severity, severity_of
from marginalia.annotation.gold.votes import votes_of
from marginalia.pipeline.core.artifacts import (
    AGREEMENT,
    ANSWERS,
    GOLD,
    GOLD_QUESTIONS,
    GOLD_SEVERITY,
    PROMPTS,
    SEVERITY,
    SUGGESTIONS,
)
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.agreement_json import Anchoring, Severity
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.errors import InputError


def _work(run: Run) -> StageOutcome:
    section, seed, labels = run.config.reconcile, run.config.seed, run.taxonomy.ids
    prompts = PROMPTS.read(run)
    answers = ANSWERS.read(run)
    is_gold_question = pl.col("round") == ROUND
    to_records = answers.filter(pl.col("record_id").is_in(prompts["id"].implode()) & ~is_gold_question)
    to_questions = answers.filter(is_gold_question)
    try:
        gold, notes = reconcile_with_notes(prompts, to_records, labels, section, seed=seed)
    except InputError as error:  # an answer with a label that is not in the taxonomy
        raise InputError.at(ANSWERS.path(run), error.message, hint=error.hint) from error
    agreement = agreement_of(
        to_records, labels, section, seed=seed, taxonomy=run.taxonomy.id, simulated=run.config.simulated
    )
    known = read_gold_questions(GOLD_QUESTIONS.path(run)).known
    methods = compare_methods(votes_of(to_records, labels), section, seed)
    agreement = agreement.model_copy(
        update={
            "methods": methods,
            "gold_questions": accuracy(to_questions, known),
            "anchoring": _anchoring(run, to_records),
            "severity": _severity(run, gold),
            "notes": [*agreement.notes, *notes],
        }
    )
    GOLD.write(run, gold)
    AGREEMENT.write(run, agreement)
    statuses = {name: gold.filter(pl.col("status") == name).height for name in STATUSES}
    partly = gold["judged"].count()
    equal = equal_texts(gold)
    return StageOutcome(
        counts_in={
            "records": prompts.height,
            "answers": answers.height,
            "answers_to_gold_questions": to_questions.height,
            "answers_elsewhere": answers.height - to_records.height - to_questions.height,
        },
        counts_out={
            "records": gold.height,
            **statuses,
            "adjudicated": int(gold["adjudicated"].sum()),
            **({"partly_judged": partly} if partly else {}),
            **equal.counts,
        },
        facts={
            "method": section.method,
            "alpha_masi": agreement.alpha_masi.value,
            "simulated": run.config.simulated,
        },
        warnings=equal.warnings,
    )


def _severity(run: Run, gold: pl.DataFrame) -> Severity | None:
    """Agreement on severity, and writes gold_severity.parquet; None without annotation.severity and for imported
    answers."""
    levels = run.config.annotation.severity
    if not levels or _is_imported(run):
        return None
    given = SEVERITY.read(run)
    given = given.filter(pl.col("record_id").is_in(gold["id"].implode()))  # without answers to gold questions
    GOLD_SEVERITY.write(run, gold_severity(gold, given))
    section, seed = run.config.reconcile, run.config.seed
    return severity_of(given, run.taxonomy.ids, levels, section.bootstrap, seed=f"{seed}:severity")


def _anchoring(run: Run, answers: pl.DataFrame) -> Anchoring | None:
    suggestions = None if _is_imported(run) else SUGGESTIONS.read_if_present(run)
    if suggestions is None:
        return None
    return anchoring(answers, suggestions, run.config.reconcile.bootstrap, seed=f"{run.config.seed}:anchoring")


def _is_imported(run: Run) -> bool:
    """Whether the answers were imported: they have no severity, and nobody saw suggestions of this run."""
    return ANSWERS.maker(run) == "import"


def _inputs(run: Run) -> list[str]:
    questions = [GOLD_QUESTIONS.name] if GOLD_QUESTIONS.exists(run) else []
    if _is_imported(run):
        return [PROMPTS.name, ANSWERS.name, *questions]
    suggestions = [SUGGESTIONS.name] if run.config.annotation.suggestions or SUGGESTIONS.exists(run) else []
    severity = [SEVERITY.name] if run.config.annotation.severity else []
    return [PROMPTS.name, ANSWERS.name, *severity, *questions, *suggestions]


def _outputs(run: Run) -> list[str]:
    severity = run.config.annotation.severity and not _is_imported(run)
    return [GOLD.name, AGREEMENT.name, *([GOLD_SEVERITY.name] if severity else [])]


STATUSES = ("final", "needs_answers", "needs_adjudication")

STAGE = Stage(
    name="reconcile",
    inputs=_inputs,
    outputs=_outputs,
    sections=("reconcile",),
    work=_work,
)
