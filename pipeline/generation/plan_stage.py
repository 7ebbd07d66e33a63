"""plan: which texts to write."""

from __future__ import annotations

from marginalia.pipeline.core.artifacts import PLAN
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.pipeline.generation.plan_coverage import coverage


def _work(run: Run) -> StageOutcome:
    from marginalia.pipeline.generation.plan_slots import plan_slots

    plan = plan_slots(run.config.plan, run.taxonomy, run.config.seed)
    PLAN.write(run, plan)
    covered = coverage(plan, run.taxonomy)
    return StageOutcome(
        counts_in={"labels": len(run.taxonomy.labels), "writable labels": len(run.taxonomy.writable)},
        counts_out={"planned": plan.height, **{f"with {size} labels": n for size, n in covered.sizes.items()}},
        facts={"pairs allowed": covered.allowed_pairs, "pairs covered": covered.allowed_pairs - len(covered.uncovered)},
    )


STAGE = Stage(
    name="plan",
    inputs=lambda run: (),
    outputs=lambda run: (PLAN.name,),
    sections=("plan",),
    work=_work,
)
