"""adjudicate: sends records that need a decision to a second Argilla dataset, for experts. `pull` then reads their
answers as the round `adjudicate`, and in `reconcile` they override the annotators' answers."""

from __future__ import annotations

from marginalia.annotation.client.expert_payloads import to_adjudicate
from marginalia.pipeline.annotating.expert_round import send_to_experts
from marginalia.pipeline.core.artifacts import ADJUDICATED, ANSWERS, GOLD
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome


def _work(run: Run) -> StageOutcome:
    gold = GOLD.read(run)
    answers = ANSWERS.read(run)
    unsettled = to_adjudicate(gold)
    pushed, counts = send_to_experts(run, "adjudicate", unsettled, answers)
    return StageOutcome(
        counts_in={"records": gold.height, "needs_adjudication": unsettled.height},
        counts_out={"sent": counts.sent, "updated": counts.updated, "already_there": counts.unchanged},
        facts={"url": pushed.url, "dataset": pushed.dataset, "simulated": run.config.simulated},
    )


STAGE = Stage(
    name="adjudicate",
    inputs=lambda run: [GOLD.name, ANSWERS.name],
    outputs=lambda run: [ADJUDICATED.name],
    sections=("annotation",),
    work=_work,
    live=True,
)
