"""adjudicate: records that need a decision → a second Argilla dataset for an expert. `pull` then fetches the answers
under the round `adjudicate`, and `reconcile` lets them win."""

from __future__ import annotations

from marginalia.annotation.client.expert_payloads import to_adjudicate
from marginalia.pipeline.annotating.expert_round import put_before_experts
from marginalia.pipeline.core.artifacts import ADJUDICATED, ANSWERS, GOLD
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome


def work(run: Run) -> StageOutcome:
    gold = GOLD.read(run)
    answers = ANSWERS.read(run)
    open_records = to_adjudicate(gold)
    pushed, counts = put_before_experts(run, "adjudicate", open_records, answers)
    return StageOutcome(
        counts_in={"records": gold.height, "needs_adjudication": open_records.height},
        counts_out={"sent": counts.sent, "updated": counts.updated, "already_there": counts.there},
        facts={"url": pushed.url, "dataset": pushed.dataset, "simulated": run.config.simulated},
    )


STAGE = Stage(
    name="adjudicate",
    inputs=lambda run: [GOLD.name, ANSWERS.name],
    outputs=lambda run: [ADJUDICATED.name],
    sections=("annotation",),
    work=work,
    live=True,
)
