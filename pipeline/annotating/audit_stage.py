"""audit: gold labels that a confident guard disputes, and a random sample of the others → audit.parquet; with `push`,
a third Argilla dataset in which experts look again, blind to the guard. `pull` fetches what they say, and audit then
marks what they would change. gold.parquet stays as it was before the audit, and so do all headline numbers."""

from __future__ import annotations

import polars as pl

from marginalia.pipeline.annotating.expert_round import put_before_experts
from marginalia.pipeline.annotating.suspect_labels import change_rates, gold_error_rate, select, with_answers
from marginalia.pipeline.core.artifacts import ANSWERS, AUDIT, AUDIT_PUSHED, GOLD, SCORES
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.errors import InputError
from marginalia.schemas.manifest_json import Missing


def guard_name(run: Run, guard: str | None) -> str:
    """The guard whose word is taken. Raises InputError when it is not one of the run's."""
    names = [one.name for one in run.config.score.guards]
    if guard is None and names:
        return names[0]
    if guard not in names:
        raise InputError(f"the run has no guard '{guard}'", hint=f"one of: {', '.join(names) or 'none is configured'}")
    return guard


def work(run: Run, *, guard: str, estimator: str, top: int, control: int, push: bool) -> StageOutcome:
    gold = GOLD.read(run)
    answers = ANSWERS.read(run)
    missing: list[Missing] = []
    if AUDIT_PUSHED.exists(run) and AUDIT.exists(run):  # experts have the selection before them: it stays
        selected = AUDIT.read(run)
    else:
        scores = SCORES.of(guard).read(run)
        ours = scores.filter(pl.col("estimator") == estimator)
        if ours.is_empty():
            raise InputError(
                f"{SCORES.of(guard).name} has no estimator '{estimator}'",
                hint=f"one of: {', '.join(sorted(scores['estimator'].unique()))}",
            )
        final = gold.filter(pl.col("status") == "final")["id"]
        if unscored := final.len() - final.is_in(ours["record_id"].unique().implode()).sum():
            what = f"{unscored:,} of {final.len():,} final records have no score by {guard} and were not looked at"
            missing.append(Missing(what=what, how=f"{run.command('score')}, then: {run.command('audit')}"))
        selected = select(gold, ours, run.taxonomy.ids, top=top, control=control, seed=run.config.seed)
    audited = with_answers(selected, answers)
    AUDIT.write(run, audited)
    facts = {"guard": guard, "estimator": estimator, "simulated": run.config.simulated}
    sent = _push(run, gold, answers, audited) if push else 0
    counts = {
        f"{rate.why}_{name}": getattr(rate, name) for rate in change_rates(audited) for name in ("seen", "changed")
    }
    return StageOutcome(
        counts_in={"gold": gold.height},
        counts_out={"selected": audited.height, "sent": sent, **counts},
        facts=facts,
        missing=missing,
    )


def _push(run: Run, gold: pl.DataFrame, answers: pl.DataFrame, selected: pl.DataFrame) -> int:
    chosen = selected.select("id").join(gold, on="id", maintain_order="left")
    _, counts = put_before_experts(run, "audit", chosen, answers)
    return counts.sent


def stage(
    *, guard: str | None = None, estimator: str = "marginal", top: int = 50, control: int = 50, push: bool = False
) -> Stage:
    """The stage for one guard of the run; None is its first."""
    return Stage(
        name="audit",
        inputs=lambda run: [GOLD.name, ANSWERS.name, SCORES.of(guard_name(run, guard)).name],
        outputs=lambda run: [one.name for one in (AUDIT, AUDIT_PUSHED) if one is AUDIT or one.exists(run)],
        sections=("annotation",),
        work=lambda run: work(
            run, guard=guard_name(run, guard), estimator=estimator, top=top, control=control, push=push
        ),
        live=True,
    )


STAGE = stage()


def listing(run: Run) -> str:
    """The disputed records for people, how often experts changed them and the random sample, and the error rate of all
    gold that follows."""
    audited = AUDIT.read(run)
    disputed = audited.filter(pl.col("why") == "guard").sort("support")
    lines = [f"{disputed.height} records where guard and gold disagree most:"]
    for row in disputed.iter_rows(named=True):
        said = "without" if row["label"] not in row["gold_labels"] else "with"
        changed = "" if row["changed"] is None else "  changed" if row["changed"] else "  confirmed"
        lines.append(f"  {row['id']}  {row['label']}: guard {row['probability']:.3f}, gold {said}{changed}")
    for rate in change_rates(audited):
        if rate.seen:
            what = "disputed by the guard" if rate.why == "guard" else "of the random sample of the others"
            lines.append(f"{rate.changed} of {rate.seen} records {what} were changed by an expert")
    whole = gold_error_rate(audited)
    if whole is not None:
        lines.append(
            f"of all final gold records, experts would change {whole.value:.1%} [{whole.low:.1%}, {whole.high:.1%}]"
        )
    return "\n".join(lines)
