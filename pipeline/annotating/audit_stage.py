"""audit: gold labels that a confident guard disputes, and a random sample of the others → audit.parquet; with `push`,
a third Argilla dataset in which experts look again, blind to the guard. `pull` fetches what they say, and audit then
marks what they would change. gold.parquet stays as it was before the audit, and so do all headline numbers."""

from __future__ import annotations

import polars as pl

from marginalia.pipeline.annotating.expert_round import put_before_experts
from marginalia.pipeline.annotating.pull_stage import AUDIT
from marginalia.pipeline.annotating.suspect_labels import change_rates, gold_error_rate, select, with_answers
from marginalia.pipeline.core.checked_tables import read_gold, read_scores
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.errors import InputError
from marginalia.schemas.manifest_json import Missing
from marginalia.schemas.storage.files import read_frame, write_frame
from marginalia.schemas.tables import Answer, AuditedRecord

TABLE = "audit.parquet"


def guard_name(run: Run, guard: str | None) -> str:
    """The guard whose word is taken. Raises InputError when it is not one of the run's."""
    names = [one.name for one in run.config.score.guards]
    if guard is None and names:
        return names[0]
    if guard not in names:
        raise InputError(f"the run has no guard '{guard}'", hint=f"one of: {', '.join(names) or 'none is configured'}")
    return guard


def work(run: Run, *, guard: str, estimator: str, top: int, control: int, push: bool) -> StageOutcome:
    gold = read_gold(run)
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by=run.command("pull"))
    missing: list[Missing] = []
    if run.path(AUDIT).exists() and run.path(TABLE).exists():  # experts have the selection before them: it stays
        selected = read_frame(run.path(TABLE), AuditedRecord, made_by=run.command("audit"))
    else:
        scores = read_scores(run, guard)
        ours = scores.filter(pl.col("estimator") == estimator)
        if ours.is_empty():
            raise InputError(
                f"scores/{guard}.parquet has no estimator '{estimator}'",
                hint=f"one of: {', '.join(sorted(scores['estimator'].unique()))}",
            )
        final = gold.filter(pl.col("status") == "final")["id"]
        if unscored := final.len() - final.is_in(ours["record_id"].unique().implode()).sum():
            what = f"{unscored:,} of {final.len():,} final records have no score by {guard} and were not looked at"
            missing.append(Missing(what=what, how=f"{run.command('score')}, then: {run.command('audit')}"))
        selected = select(gold, ours, run.taxonomy.ids, top=top, control=control, seed=run.config.seed)
    audited = with_answers(selected, answers)
    write_frame(run.path(TABLE), audited, AuditedRecord)
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
    run: Run, *, guard: str | None = None, estimator: str = "marginal", top: int = 50, control: int = 50, push: bool
) -> Stage:
    """The stage for one guard of the run."""
    name = guard_name(run, guard)
    return Stage(
        name="audit",
        summary="list gold labels that a confident guard disputes, for a second look",
        inputs=lambda run: ["gold.parquet", "annotations.parquet", f"scores/{name}.parquet"],
        outputs=lambda run: [TABLE, *([AUDIT] if run.path(AUDIT).exists() else [])],
        sections=("annotation",),
        work=lambda run: work(run, guard=name, estimator=estimator, top=top, control=control, push=push),
        live=True,
    )


def listing(run: Run) -> str:
    """The disputed records for people, how often experts changed them and the random sample, and the error rate of all
    gold that follows."""
    audited = read_frame(run.path(TABLE), AuditedRecord, made_by=run.command("audit"))
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
