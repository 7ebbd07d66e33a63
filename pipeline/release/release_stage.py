"""Stage release: the files of a run → release/, the folder that publish uploads."""

from __future__ import annotations

import polars as pl

from marginalia.pipeline.annotating.suspect_labels import change_rates, gold_error_rate
from marginalia.pipeline.core.artifacts import (
    AGREEMENT,
    ANSWERS,
    AUDIT,
    CALIBRATION,
    EVALUATION,
    GOLD,
    GOLD_SEVERITY,
    PLAN,
    PROMPTS,
    REJECTED,
    RELEASE,
    SCORES,
    THRESHOLDS,
    Artifact,
)
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_order import stages_before
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, read_manifest
from marginalia.pipeline.evaluation.guard_tables import count_gold
from marginalia.pipeline.release.card_charts import charts
from marginalia.pipeline.release.card_sources import record_sources
from marginalia.pipeline.release.croissant import croissant
from marginalia.pipeline.release.dataset_card import CardFacts, card
from marginalia.pipeline.release.release_folder import read_release, write_release
from marginalia.pipeline.release.release_tables import release_tables
from marginalia.pipeline.release.release_versions import ReleaseHistory, next_versions
from marginalia.pipeline.report.report_data import ReportData
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import Evaluation

OPTIONAL_FILES: tuple[Artifact, ...] = (
    ANSWERS,
    AGREEMENT,
    AUDIT,
    REJECTED,
    PROMPTS,
    PLAN,
    EVALUATION,
    THRESHOLDS,
    CALIBRATION,
)  # where the run has them


def _inputs(run: Run) -> list[str]:
    optional = [*OPTIONAL_FILES, *(SCORES.of(guard) for guard in _scored_guards(run))]
    if run.config.annotation.severity:  # the file may be left from a config that had severity levels
        optional.append(GOLD_SEVERITY)
    return [GOLD.name, *(artifact.name for artifact in optional if artifact.exists(run))]


def _scored_guards(run: Run) -> list[str]:
    """Guards of the config that have scores. Scores of guards that were removed from the config are not released."""
    names = [guard.name for guard in run.config.score.guards]
    return [name for name in names if SCORES.of(name).exists(run)]


def _work(run: Run) -> StageOutcome:
    gold = GOLD.read(run)
    annotations = ANSWERS.read_if_present(run)
    rejected = REJECTED.read_if_present(run)
    audited = AUDIT.read_if_present(run)
    agreement = AGREEMENT.read_if_present(run)
    evaluation = EVALUATION.read_if_present(run)
    documents = {
        name: document
        for name, document in (
            ("thresholds", THRESHOLDS.read_if_present(run)),
            ("calibration", CALIBRATION.read_if_present(run)),
        )
        if document is not None
    }
    prompts = PROMPTS.read_if_present(run)
    scores = {guard: SCORES.of(guard).read(run) for guard in _scored_guards(run)}
    severity = GOLD_SEVERITY.read_if_present(run) if run.config.annotation.severity else None
    tables = release_tables(gold, annotations, scores, rejected, severity, labels=run.taxonomy.ids)
    records = sum(table.height for path, table in tables.items() if path.startswith("data/gold/"))
    if records == 0:
        raise InputError(f"{run.path('gold.parquet')}: no record has settled labels", hint=run.command("status"))
    previous = read_release(RELEASE.path(run), made_by=f"{run.command('release')} after deleting the folder release")
    versions = next_versions(previous[0].versions if previous else [], previous[1] if previous else None, tables)
    history = ReleaseHistory(name=run.name, simulated=run.config.simulated, versions=versions)
    manifests = [manifest for stage in stages_before("report") if (manifest := read_manifest(run, stage)) is not None]
    card_charts = charts(
        ReportData(
            name=run.name,
            seed=run.config.seed,
            simulated=run.config.simulated,
            taxonomy=run.taxonomy,
            evaluation=evaluation or _evaluation_of_gold(run, gold),
            gold=gold,
            agreement=agreement,
            manifests=manifests,
            plan=PLAN.read_if_present(run),
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
        sources=record_sources(run, _final_prompts(prompts, gold) if prompts is not None else None),
        agreement=agreement,
        evaluation=evaluation,
        charts=card_charts,
        documents=list(documents),
        audit=[rate for rate in change_rates(audited) if rate.seen] if audited is not None else [],
        audited_partly=audited["judged"].count() if audited is not None else 0,
        gold_errors=gold_error_rate(audited) if audited is not None else None,
    )
    section = run.config.release
    card_text = card(section, facts)
    write_release(
        RELEASE.path(run),
        card_text,
        tables,
        history,
        run.taxonomy,
        documents=documents,
        charts=card_charts,
        description=lambda folder: croissant(section, facts, folder),
    )
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
        },
        warnings=equal_texts(gold).warnings,
    )


def _evaluation_of_gold(run: Run, gold: pl.DataFrame) -> Evaluation:
    """An evaluation without guards, for a run that was not evaluated: the charts need its counts of gold."""
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


def _final_prompts(prompts: pl.DataFrame, gold: pl.DataFrame) -> pl.DataFrame:
    return prompts.filter(pl.col("id").is_in(gold.filter(pl.col("status") == "final")["id"].to_list()))


def _languages(run: Run, prompts: pl.DataFrame | None, gold: pl.DataFrame) -> list[str]:
    """The languages in the records' attributes, or else that of the taxonomy."""
    if prompts is None:
        return [run.taxonomy.language]
    attributes = [item for row in _final_prompts(prompts, gold)["attributes"].to_list() for item in row]
    return sorted({item["value"] for item in attributes if item["name"] == "language"}) or [run.taxonomy.language]


def _counts(column: pl.Series) -> dict[str, int]:
    counted = column.value_counts(sort=True).sort(pl.col("count"), column.name, descending=[True, False])
    return dict(counted.iter_rows())


STAGE = Stage(
    name="release",
    inputs=_inputs,
    outputs=lambda run: [RELEASE.name],
    sections=("release",),
    work=_work,
)
