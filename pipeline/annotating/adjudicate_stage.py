"""adjudicate: records that need a decision → a second Argilla dataset for an expert. `pull` then fetches the answers
under the round `adjudicate`, and `reconcile` lets them win."""

from __future__ import annotations

from annotation.adjudication import to_adjudicate
from pipeline.expert_round import put_before_experts
from pipeline.run import Run
from pipeline.stage import Outcome, Stage
from pipeline.stages.pull import ADJUDICATION
from schemas.artifacts import Answer, GoldRecord
from schemas.files import read_frame


def work(run: Run) -> Outcome:
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by=run.command("reconcile"))
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by=run.command("pull"))
    open_records = to_adjudicate(gold)
    pushed, counts = put_before_experts(run, "adjudicate", open_records, answers)
    return Outcome(
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
