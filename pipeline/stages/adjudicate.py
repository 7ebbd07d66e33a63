"""adjudicate: records that need a decision → a second Argilla dataset for an expert. `pull` then fetches the answers
under the round `adjudicate`, and `reconcile` lets them win."""

from __future__ import annotations

from datetime import UTC, datetime

from annotation.access import admit, connect, experts_workspace
from annotation.adjudication import adjudication_payloads, to_adjudicate
from annotation.client.datasets import ensure_dataset
from annotation.client.push import push_records
from pipeline.run import Run
from pipeline.stage import Outcome, Stage
from pipeline.stages.pull import ADJUDICATION
from pipeline.stages.push import HOME
from schemas.artifacts import Answer, GoldRecord
from schemas.files import content_hash, read_frame, write_json
from schemas.pushed import Pushed


def work(run: Run) -> Outcome:
    section = run.config.annotation
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by=run.command("reconcile"))
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by=run.command("pull"))
    open_records = to_adjudicate(gold)
    name = f"{section.dataset or run.name}-adjudication"
    workspace = experts_workspace(section)
    with connect(section, run.path(HOME)) as connection:
        admit(connection, section, run.path(HOME))
        dataset = ensure_dataset(connection, workspace, name, run.taxonomy, section, adjudication=True)
        payloads = adjudication_payloads(open_records, answers, run.taxonomy)
        counts = push_records(connection, dataset, payloads, batch=section.batch, replace=True)
        pushed = Pushed(
            url=connection.url,
            workspace=workspace,
            dataset=name,
            dataset_id=dataset.id,
            round="adjudicate",
            records=counts.sent + counts.updated + counts.there + counts.others,
            annotators=1,
            taxonomy=run.taxonomy.id,
            labels=run.taxonomy.ids,
            taxonomy_sha256=content_hash(run.taxonomy.model_dump(mode="json")),
            suggestions=False,
            pushed_at=datetime.now(UTC),
        )
    write_json(run.path(ADJUDICATION), pushed.model_dump(mode="json"))
    return Outcome(
        counts_in={"records": gold.height, "needs_adjudication": open_records.height},
        counts_out={"sent": counts.sent, "updated": counts.updated, "already_there": counts.there},
        facts={"url": pushed.url, "dataset": name, "simulated": run.config.simulated},
    )


STAGE = Stage(
    name="adjudicate",
    summary="put records that annotators could not settle before an expert",
    inputs=lambda run: ["gold.parquet", "annotations.parquet"],
    outputs=lambda run: [ADJUDICATION],
    sections=("annotation",),
    work=work,
    live=True,
)
