"""push: sends prompts.parquet to an Argilla dataset, and writes push.json, which says where that is."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import polars as pl

from marginalia.annotation.client.argilla_access import admit, connect
from marginalia.annotation.client.datasets import Dataset, ensure_dataset, missing_on_server
from marginalia.annotation.client.push_records import payload, push_records, suggestion
from marginalia.annotation.client.suggestions import recorded, suggested
from marginalia.annotation.gold.gold_questions import GoldQuestions, choose, mixed, read_gold_questions
from marginalia.pipeline.core.artifacts import CHECKS, GOLD_QUESTIONS, PROMPTS, PUSHED, SUGGESTIONS
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, read_manifest
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import content_hash, read_model

HOME = "argilla"  # the local server's folder inside the run


def _work(run: Run, *, more: int = 0) -> StageOutcome:
    section = run.config.annotation
    all_prompts = prompts = PROMPTS.read(run)
    asked = _asked(run, all_prompts.height, more)
    if asked is not None:
        prompts = all_prompts.filter(pl.col("id").is_in(_sample(all_prompts["id"].to_list(), asked, run)))
    with connect(section, run.path(HOME)) as connection:
        admit(connection, section, run.path(HOME))
        name = section.dataset or run.name
        dataset = ensure_dataset(connection, section.workspace, name, run.taxonomy, section)
        questions = _gold_questions(run, prompts["id"].to_list())
        suggestions = _suggested(run, prompts)
        records = _payloads(run, dataset, prompts, suggestions, questions)
        counts = push_records(
            connection,
            dataset,
            records,
            batch=section.batch,
            before=lambda new: _write_suggestions(run, suggestions, new),
        )
        pushed = Pushed(
            url=connection.url,
            workspace=section.workspace,
            dataset=name,
            dataset_id=dataset.id,
            round="annotate",
            records=len(records),
            annotators=section.annotators,
            taxonomy=run.taxonomy.id,
            labels=run.taxonomy.ids,
            taxonomy_sha256=content_hash(run.taxonomy.model_dump(mode="json")),
            suggestions=section.suggestions,
            control_share=section.control_share if section.suggestions else 0.0,
            asked=asked,
            pushed_at=datetime.now(UTC),
        )
    PUSHED.write(run, pushed)
    return StageOutcome(
        counts_in={
            "records": all_prompts.height,
            "asked": prompts.height,
            "gold_questions": len(records) - prompts.height,
        },
        counts_out={"sent": counts.sent, "already_there": counts.unchanged, "on_server_only": counts.others},
        facts={"url": pushed.url, "dataset": name, "simulated": run.config.simulated},
    )


def _gold_questions(run: Run, ids: list[str]) -> GoldQuestions:
    """The gold questions to push now. gold_questions.json, with all that were ever pushed, is written before any of
    them is sent: an answer to one can never count as an answer to a record."""
    section = run.config.annotation
    if section.gold_questions is None:
        return GoldQuestions()
    path = run.path(section.gold_questions)
    questions = choose(path, run.taxonomy, ids, section.gold_share, run.config.seed)
    before = read_gold_questions(GOLD_QUESTIONS.path(run))
    GOLD_QUESTIONS.write(run, GoldQuestions(questions={**before.questions, **questions.questions}))
    return questions


def _suggested(run: Run, prompts: pl.DataFrame) -> pl.DataFrame:
    section = run.config.annotation
    checks = CHECKS.read(run) if section.suggestions == "check" else None
    return suggested(prompts, checks, section, run.config.seed)


def _write_suggestions(run: Run, suggestions: pl.DataFrame, new: list[str]) -> None:
    """Writes suggestions.parquet. Called before any record is sent, so that it has all records on the server. `new`:
    ids of the records that will be sent."""
    before = SUGGESTIONS.read_if_present(run)
    if run.config.annotation.suggestions or before is not None:
        SUGGESTIONS.write(run, recorded(before, suggestions, set(new)))


def _payloads(
    run: Run, dataset: Dataset, prompts: pl.DataFrame, suggestions: pl.DataFrame, questions: GoldQuestions
) -> list[dict[str, Any]]:
    """The records to push, with the gold questions among them. `suggestions` (SuggestedRecord): one row per row of
    `prompts`, in the same order."""
    records = []
    rows = zip(prompts.select("id", "messages").iter_rows(), suggestions.iter_rows(named=True), strict=True)
    for (record, messages), row in rows:
        ticked = suggestion(dataset, row["labels"], row["source"]) if row["shown"] else None
        records.append(payload(record, messages, suggestion=ticked))
    gold = [payload(record, list(question.messages)) for record, question in questions.questions.items()]
    return mixed(records, gold, run.config.seed)


def _inputs(run: Run) -> list[str]:
    section = run.config.annotation
    questions = [section.gold_questions] if section.gold_questions is not None else []
    return [PROMPTS.name, *questions, *([CHECKS.name] if section.suggestions == "check" else [])]


def _outputs(run: Run) -> list[str]:
    questions = [GOLD_QUESTIONS.name] if run.config.annotation.gold_questions is not None else []
    suggestions = [SUGGESTIONS.name] if run.config.annotation.suggestions or SUGGESTIONS.exists(run) else []
    return [PUSHED.name, *questions, *suggestions]


def _asked(run: Run, records: int, more: int) -> int | None:
    """The number of records that the server should have; None for all. It never decreases from one push to the next."""
    path, first = PUSHED.path(run), run.config.annotation.first
    if first is None:
        return None
    hint = f"{run.command('push')} --more N, after deleting it; N less {first} were asked for before"
    before = read_model(path, Pushed, made_by=hint).asked if path.exists() else 0
    if before is None:
        return None
    asked = max(first, before) + more
    return asked if asked < records else None


def _sample(ids: list[str], size: int, run: Run) -> list[str]:
    """A seeded random sample of `ids`; a larger one contains every smaller one."""
    prefix = f"{run.config.seed}:push"
    return sorted(ids, key=lambda record: hashlib.sha256(f"{prefix}:{record}".encode()).digest())[:size]


def _missing_on_server(run: Run) -> str | None:
    """Why records must be sent again: somebody deleted them, or the dataset, on the server."""
    manifest = read_manifest(run, "push")
    if manifest is None:
        return None
    section = run.config.annotation
    with connect(section, run.path(HOME)) as connection:
        return missing_on_server(connection, PUSHED.read(run).dataset_id, sum(manifest.counts_out.values()))


def stage(*, more: int = 0) -> Stage:
    """The stage; `more`: how many records to push in addition to those of earlier pushes (at first
    annotation.first)."""
    return Stage(
        name="push",
        inputs=_inputs,
        outputs=_outputs,
        sections=("annotation",),
        work=lambda run: _work(run, more=more),
        live=more > 0,
        changed_elsewhere=_missing_on_server,
    )


STAGE = stage()
