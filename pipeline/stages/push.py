"""push: prompts.parquet → an Argilla dataset, and push.json which says where it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl

from annotation.access import admit, connect
from annotation.client.datasets import Dataset, ensure_dataset
from annotation.client.push import has_control, intended, payload, push_records
from pipeline.run import Run
from pipeline.stage import Outcome, Stage
from schemas.artifacts import PromptRecord
from schemas.files import content_hash, read_frame, write_json
from schemas.pushed import Pushed

HOME = "argilla"  # the local server's folder inside the run


def work(run: Run) -> Outcome:
    section = run.config.annotation
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by=run.command("generate"))
    with connect(section, run.path(HOME)) as connection:
        admit(connection, section, run.path(HOME))
        name = section.dataset or run.name
        dataset = ensure_dataset(connection, section.workspace, name, run.taxonomy, section)
        counts = push_records(connection, dataset, _payloads(run, dataset, prompts), batch=section.batch)
        pushed = Pushed(
            url=connection.url,
            workspace=section.workspace,
            dataset=name,
            dataset_id=dataset.id,
            round="annotate",
            records=prompts.height,
            annotators=section.annotators,
            taxonomy=run.taxonomy.id,
            labels=run.taxonomy.ids,
            taxonomy_sha256=content_hash(run.taxonomy.model_dump(mode="json")),
            suggestions=section.suggestions,
            pushed_at=datetime.now(UTC),
        )
    write_json(run.path("push.json"), pushed.model_dump(mode="json"))
    return Outcome(
        counts_in={"records": prompts.height},
        counts_out={"sent": counts.sent, "already_there": counts.there, "on_server_only": counts.others},
        facts={"url": pushed.url, "dataset": name, "simulated": run.config.simulated},
    )


def _payloads(run: Run, dataset: Dataset, prompts: pl.DataFrame) -> list[dict[str, Any]]:
    section, seed = run.config.annotation, run.config.seed
    found = []
    for row in prompts.select("id", "messages", "intended_labels").iter_rows(named=True):
        shown = section.suggestions and not has_control(row["id"], seed, section.control_share)
        suggestion = intended(dataset, row["intended_labels"]) if shown else None
        found.append(payload(row["id"], row["messages"], suggestion=suggestion))
    return found


STAGE = Stage(
    name="push",
    summary="put the records before annotators in Argilla",
    inputs=lambda run: ["prompts.parquet"],
    outputs=lambda run: ["push.json"],
    sections=("annotation",),
    work=work,
)
