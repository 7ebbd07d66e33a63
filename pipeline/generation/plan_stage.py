"""plan: what to write."""

from __future__ import annotations

from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.pipeline.generation.plan_coverage import Coverage, coverage
from marginalia.schemas.storage.files import read_frame, write_frame
from marginalia.schemas.tables import PlannedSlot


def _work(run: Run) -> StageOutcome:
    from marginalia.pipeline.generation.plan_slots import plan_slots

    plan = plan_slots(run.config.plan, run.taxonomy, run.config.seed)
    write_frame(run.path("plan.parquet"), plan, PlannedSlot)
    covered = coverage(plan, run.taxonomy)
    return StageOutcome(
        counts_in={"labels": len(run.taxonomy.labels), "writable labels": len(run.taxonomy.writable)},
        counts_out={"planned": plan.height, **{f"with {size} labels": n for size, n in covered.sizes.items()}},
        facts={"pairs allowed": covered.allowed_pairs, "pairs covered": covered.allowed_pairs - len(covered.uncovered)},
    )


def show(run: Run) -> Coverage:
    """The coverage of the run's plan, for `plan --show`. Raises ArtifactError when there is no plan yet."""
    plan = read_frame(run.path("plan.parquet"), PlannedSlot, made_by=run.command("plan"))
    return coverage(plan, run.taxonomy)


STAGE = Stage(
    name="plan",
    summary="decide what to write: label sets, near misses, attributes",
    inputs=lambda run: (),
    outputs=lambda run: ("plan.parquet",),
    sections=("plan",),
    work=_work,
)
