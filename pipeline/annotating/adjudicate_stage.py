"""adjudicate: records that need a decision → a second Argilla dataset for an expert. `pull` then fetches the answers
under the round `adjudicate`, and `reconcile` lets them win."""

from __future__ import annotations

from marginalia.annotation.client.expert_payloads import to_adjudicate
from marginalia.pipeline.annotating.expert_round import put_before_experts
from marginalia.pipeline.annotating.pull_stage import ADJUDICATION
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.tables import Answer, GoldRecord


def work(run: Run) -> StageOutcome:
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by=run.command("reconcile"))
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by=run.command("pull"))
    open_records = to_adjudicate(gold)
    pushed, counts = put_before_experts(run, "adjudicate", open_records, answers)
    return StageOutcome(
        counts_in={"records": gold.height, "needs_adjudication": open_records.height},
        counts_out={"sent": counts.sent, "updated": counts.updated, "already_there": counts.there},
        facts={"url": pushed.url, "dataset": pushed.dataset, "simulated": run.config.simulated},
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
