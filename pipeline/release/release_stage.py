"""release: the folder that the Hub will hold, from what a run has made so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import polars as pl
from pydantic import BaseModel

from marginalia.pipeline.annotating.reconcile_stage import GOLD_SEVERITY
from marginalia.pipeline.annotating.suspect_labels import change_rates, gold_error_rate
from marginalia.pipeline.core.checked_tables import read_gold, read_scores
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, read_manifest
from marginalia.pipeline.evaluation.evaluate_stage import CALIBRATION, EVALUATION, THRESHOLDS
from marginalia.pipeline.evaluation.guard_tables import count_gold
from marginalia.pipeline.release.card_charts import charts
from marginalia.pipeline.release.dataset_card import CardFacts, card
from marginalia.pipeline.release.release_folder import read_release, write_release
from marginalia.pipeline.release.release_tables import release_tables
from marginalia.pipeline.release.release_versions import ReleaseHistory, next_versions
from marginalia.pipeline.report.report_data import ReportData
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import CalibrationFile, Evaluation, ThresholdsFile
from marginalia.schemas.storage.files import read_frame, read_model
from marginalia.schemas.tables import Answer, AuditedRecord, GoldSeverity, PlannedSlot, PromptRecord, RejectedAttempt

ModelT = TypeVar("ModelT", bound=BaseModel)
LINE = ("import", "plan", "generate", "push", "pull", "adjudicate", "reconcile", "score", "evaluate")


def _inputs(run: Run) -> list[str]:
    optional = [
        "annotations.parquet",
        "agreement.json",
        "audit.parquet",
        "rejected.parquet",
        "prompts.parquet",
        *(f"scores/{guard}.parquet" for guard in _scored(run)),
    ]
    if run.config.annotation.severity:  # without it an older run of reconcile may have left the file
        optional.append(GOLD_SEVERITY)
    optional += ["plan.parquet", EVALUATION, THRESHOLDS, CALIBRATION]
    return ["gold.parquet", *(name for name in optional if run.path(name).exists())]


def _scored(run: Run) -> list[str]:
    """Of the guards in the config: a file of a guard that was taken out of it stays at home."""
    names = [guard.name for guard in run.config.score.guards]
    return [name for name in names if run.path(f"scores/{name}.parquet").exists()]


def _work(run: Run) -> StageOutcome:
    names = _inputs(run)
    gold = read_gold(run)
    annotations = _optional(run, "annotations.parquet", Answer, "pull", names)
    rejected = _optional(run, "rejected.parquet", RejectedAttempt, "generate", names)
    audited = _optional(run, "audit.parquet", AuditedRecord, "audit", names)
    agreement = _model(run, "agreement.json", Agreement, "reconcile")
    evaluation = _model(run, EVALUATION, Evaluation, "evaluate")
    documents = {
        name.removesuffix(".json"): found
        for name, model in ((THRESHOLDS, ThresholdsFile), (CALIBRATION, CalibrationFile))
        if (found := _model(run, name, model, "evaluate")) is not None
    }
    prompts = _optional(run, "prompts.parquet", PromptRecord, "generate", names)
    scores = {guard: read_scores(run, guard) for guard in _scored(run)}
    severity = _optional(run, GOLD_SEVERITY, GoldSeverity, "reconcile", names)
    tables = release_tables(gold, annotations, scores, rejected, severity)
    records = sum(table.height for path, table in tables.items() if path.startswith("data/gold/"))
    if records == 0:
        raise InputError(f"{run.path('gold.parquet')}: no record has settled labels", hint=run.command("status"))
    before = read_release(run.path("release"), made_by=f"{run.command('release')} after deleting the folder release")
    versions = next_versions(before[0].versions if before else [], before[1] if before else None, tables)
    history = ReleaseHistory(name=run.name, simulated=run.config.simulated, versions=versions)
    manifests = [made for stage in LINE if (made := read_manifest(run, stage)) is not None]
    shown = charts(
        ReportData(
            name=run.name,
            seed=run.config.seed,
            simulated=run.config.simulated,
            taxonomy=run.taxonomy,
            evaluation=evaluation or _unjudged(run, gold),
            gold=gold,
            agreement=agreement,
            manifests=manifests,
            plan=_optional(run, "plan.parquet", PlannedSlot, "plan", names),
            prompts=prompts,
        )
    )
    facts = CardFacts(
        run=run.name,
        taxonomy=run.taxonomy,
        tables=tables,
        history=history,
        manifests=manifests,
        unsettled=_counts(gold.filter(pl.col("status") != "final")["status"]),
        languages=_languages(run, prompts, gold),
        generators=_counts(_released(prompts, gold)["generator"]) if prompts is not None else {},
        agreement=agreement,
        evaluation=evaluation,
        charts=shown,
        documents=list(documents),
        audit=[rate for rate in change_rates(audited) if rate.seen] if audited is not None else [],
        gold_errors=gold_error_rate(audited) if audited is not None else None,
    )
    section = run.config.release
    text = card(section, facts)
    write_release(run.path("release"), text, tables, history, run.taxonomy, documents=documents, charts=shown)
    return StageOutcome(
        counts_in={"records": gold.height},
        counts_out={
            "records": records,
            "tables": len(tables),
            **({"left out, not final": gold.height - records} if gold.height > records else {}),
        },
        facts={
            "version": history.latest.version,
            "license": section.license,
            "simulated": history.simulated,
            "warnings": equal_texts(gold).warnings,
        },
    )


def _optional(run: Run, name: str, model: type, stage: str, names: Sequence[str]) -> pl.DataFrame | None:
    return read_frame(run.path(name), model, made_by=run.command(stage)) if name in names else None


def _model(run: Run, name: str, model: type[ModelT], stage: str) -> ModelT | None:
    path = run.path(name)
    return read_model(path, model, made_by=run.command(stage)) if path.exists() else None


def _unjudged(run: Run, gold: pl.DataFrame) -> Evaluation:
    """What is known of gold that no guard was judged on."""
    config, ids = run.config.evaluate, run.taxonomy.ids
    return Evaluation(
        simulated=run.config.simulated,
        taxonomy=run.taxonomy.id,
        confidence=config.confidence,
        resamples=config.resamples,
        seed=run.config.seed,
        gold=count_gold(gold, ids),
        guards=[],
    )


def _released(prompts: pl.DataFrame, gold: pl.DataFrame) -> pl.DataFrame:
    return prompts.filter(pl.col("id").is_in(gold.filter(pl.col("status") == "final")["id"].to_list()))


def _languages(run: Run, prompts: pl.DataFrame | None, gold: pl.DataFrame) -> list[str]:
    """Languages that the records' attributes name, or the taxonomy's."""
    if prompts is None:
        return [run.taxonomy.language]
    attributes = [item for row in _released(prompts, gold)["attributes"].to_list() for item in row]
    return sorted({item["value"] for item in attributes if item["name"] == "language"}) or [run.taxonomy.language]


def _counts(column: pl.Series) -> dict[str, int]:
    counted = column.value_counts(sort=True).sort(pl.col("count"), column.name, descending=[True, False])
    return dict(counted.iter_rows())


STAGE = Stage(
    name="release",
    summary="write the folder that the Hub will hold: Parquet, card, changelog, JSON Schemas",
    inputs=_inputs,
    outputs=lambda run: ["release"],
    sections=("release",),
    work=_work,
)
