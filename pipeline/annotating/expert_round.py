"""A round for experts: sends records of gold to a separate Argilla dataset, with the annotators' votes as counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import polars as pl

from marginalia.annotation.client.argilla_access import admit, connect, experts_workspace
from marginalia.annotation.client.datasets import ensure_dataset
from marginalia.annotation.client.expert_payloads import adjudication_payloads
from marginalia.annotation.client.push_records import PushedCounts, push_records
from marginalia.pipeline.annotating.push_stage import HOME
from marginalia.pipeline.core.artifacts import ADJUDICATED, ANSWERS, AUDIT_PUSHED
from marginalia.pipeline.core.run import Run
from marginalia.schemas.errors import InputError
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import content_hash

ExpertRound = Literal["adjudicate", "audit"]
ARTIFACTS = {"adjudicate": ADJUDICATED, "audit": AUDIT_PUSHED}
SUFFIXES: dict[ExpertRound, str] = {"adjudicate": "adjudication", "audit": "audit"}  # of the datasets' names


def send_to_experts(
    run: Run, round: ExpertRound, gold: pl.DataFrame, answers: pl.DataFrame
) -> tuple[Pushed, PushedCounts]:
    """Pushes the records of `gold` (GoldRecord), in their order, and writes the round's artifact. `answers`: the
    `Answer` rows of the run. A record whose votes have changed since an earlier push is sent again. Raises
    InputError when the answers were imported: pull would replace them by those of the experts."""
    if ANSWERS.maker(run) == "import":
        problem = f"{run.folder}: its {ANSWERS.name} was imported, and experts' answers cannot be added to it"
        raise InputError(problem, hint="add an annotator who decides to your source, or set reconcile.tie to yes or no")
    section = run.config.annotation
    name, workspace = f"{section.dataset or run.name}-{SUFFIXES[round]}", experts_workspace(section)
    with connect(section, run.path(HOME)) as connection:
        admit(connection, section, run.path(HOME))
        dataset = ensure_dataset(connection, workspace, name, run.taxonomy, section, adjudication=True)
        payloads = adjudication_payloads(gold, answers, run.taxonomy)
        counts = push_records(connection, dataset, payloads, batch=section.batch, replace=True)
        pushed = Pushed(
            url=connection.url,
            workspace=workspace,
            dataset=name,
            dataset_id=dataset.id,
            round=round,
            records=counts.sent + counts.updated + counts.unchanged + counts.others,
            annotators=1,
            taxonomy=run.taxonomy.id,
            labels=run.taxonomy.ids,
            taxonomy_sha256=content_hash(run.taxonomy.model_dump(mode="json")),
            suggestions=False,
            pushed_at=datetime.now(UTC),
        )
    ARTIFACTS[round].write(run, pushed)
    return pushed, counts
