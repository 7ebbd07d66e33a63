"""reconcile: answers → gold.parquet and agreement.json."""

from __future__ import annotations

import polars as pl

from annotation.agreement import agreement_of
from annotation.gold_questions import FILE, ROUND, accuracy, read_gold_questions
from annotation.reconcile import compare_methods, reconcile
from annotation.ticks import ticks_of
from pipeline.run import Run
from pipeline.stage import Outcome, Stage
from schemas.artifacts import Answer, GoldRecord, PromptRecord
from schemas.files import read_frame, write_frame, write_json


def work(run: Run) -> Outcome:
    section, seed, labels = run.config.reconcile, run.config.seed, run.taxonomy.ids
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by=run.command("generate"))
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by=run.command("pull"))
    asked = pl.col("round") == ROUND
    ours = answers.filter(pl.col("record_id").is_in(prompts["id"].implode()) & ~asked)
    to_questions = answers.filter(asked)
    gold = reconcile(prompts, ours, labels, section, seed=seed)
    agreement = agreement_of(ours, labels, section, seed=seed, taxonomy=run.taxonomy.id, simulated=run.config.simulated)
    known = read_gold_questions(run.path(FILE)).known
    methods = compare_methods(ticks_of(ours, labels), section, seed)
    agreement = agreement.model_copy(update={"methods": methods, "gold_questions": accuracy(to_questions, known)})
    write_frame(run.path("gold.parquet"), gold, GoldRecord)
    write_json(run.path("agreement.json"), agreement.model_dump(mode="json"))
    statuses = {name: gold.filter(pl.col("status") == name).height for name in STATUSES}
    return Outcome(
        counts_in={
            "records": prompts.height,
            "answers": answers.height,
            "answers_to_gold_questions": to_questions.height,
            "answers_elsewhere": answers.height - ours.height - to_questions.height,
        },
        counts_out={"records": gold.height, **statuses, "adjudicated": int(gold["adjudicated"].sum())},
        facts={"method": section.method, "alpha_masi": agreement.alpha_masi.value, "simulated": run.config.simulated},
    )


STATUSES = ("final", "needs_answers", "needs_adjudication")

STAGE = Stage(
    name="reconcile",
    summary="make gold labels of people's answers, and measure how far they agree",
    inputs=lambda run: ["prompts.parquet", "annotations.parquet", *([FILE] if run.path(FILE).exists() else [])],
    outputs=lambda run: ["gold.parquet", "agreement.json"],
    sections=("reconcile",),
    work=work,
)
