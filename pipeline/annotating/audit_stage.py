"""audit: writes to audit.parquet the gold labels that a confident guard disputes, and a random sample of the other
records. With `push` it sends them to a third Argilla dataset, where experts review them without seeing the guard's
answer. After `pull`, audit marks the labels that they would change. It never changes gold.parquet, nor any number that
is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from marginalia.pipeline.annotating.expert_round import send_to_experts
from marginalia.pipeline.annotating.suspect_labels import change_rates, gold_error_rate, select, with_answers
from marginalia.pipeline.core.artifacts import ANSWERS, AUDIT, AUDIT_PUSHED, GOLD, SCORES
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.errors import InputError
from marginalia.schemas.manifest_json import Missing
from marginalia.schemas.terminal import table, wrapped
from marginalia.scoring.guard_kinds import SOURCE_ESTIMATORS

DEFAULT = "marginal"  # the estimator, for guards that have it


def guard_name(run: Run, guard: str | None) -> str:
    """The guard of the audit: the one given, or the run's first. Raises InputError when the run does not have it."""
    names = [entry.name for entry in run.config.score.guards]
    if guard is None and names:
        return names[0]
    if guard not in names:
        raise InputError(f"the run has no guard '{guard}'", hint=f"one of: {', '.join(names) or 'none is configured'}")
    return guard


def _work(run: Run, *, guard: str, estimator: str, top: int, control: int, push: bool) -> StageOutcome:
    gold = GOLD.read(run)
    answers = ANSWERS.read(run)
    missing: list[Missing] = []
    if AUDIT_PUSHED.exists(run) and AUDIT.exists(run):  # the selection that experts are reviewing is kept
        selected = AUDIT.read(run)
    else:
        all_scores = SCORES.of(guard).read(run)
        only = all_scores["estimator"].unique().to_list()
        if estimator == DEFAULT and len(only) == 1 and only[0] in SOURCE_ESTIMATORS:
            estimator = only[0]
        scores = all_scores.filter(pl.col("estimator") == estimator)
        if scores.is_empty():
            raise InputError(
                f"{SCORES.of(guard).name} has no estimator '{estimator}'",
                hint=f"one of: {', '.join(sorted(all_scores['estimator'].unique()))}",
            )
        final = gold.filter(pl.col("status") == "final")["id"]
        if unscored := final.len() - final.is_in(scores["record_id"].unique().implode()).sum():
            have = "has" if unscored == 1 else "have"
            what = f"{unscored:,} of {final.len():,} final records {have} no score by {guard} and could not be audited"
            missing.append(Missing(what=what, how=f"{run.command('score')}, then: {run.command('audit')}"))
        selected = select(gold, scores, run.taxonomy.ids, top=top, control=control, seed=run.config.seed)
    audited = with_answers(selected, answers, run.taxonomy.ids)
    AUDIT.write(run, audited)
    sent = _push(run, gold, answers, audited) if push else 0
    counts = {
        f"{rate.why}_{name}": getattr(rate, name) for rate in change_rates(audited) for name in ("seen", "changed")
    }
    return StageOutcome(
        counts_in={"gold": gold.height},
        counts_out={"selected": audited.height, "sent": sent, **counts},
        facts={"guard": guard, "estimator": estimator, "simulated": run.config.simulated},
        missing=missing,
    )


def _push(run: Run, gold: pl.DataFrame, answers: pl.DataFrame, selected: pl.DataFrame) -> int:
    chosen = selected.select("id").join(gold, on="id", maintain_order="left")
    _, counts = send_to_experts(run, "audit", chosen, answers)
    return counts.sent


def stage(
    *, guard: str | None = None, estimator: str = DEFAULT, top: int = 50, control: int = 50, push: bool = False
) -> Stage:
    """The stage for one guard of the run (None: its first), with the `top` disputed records and `control` others."""
    return Stage(
        name="audit",
        inputs=lambda run: [GOLD.name, ANSWERS.name, SCORES.of(guard_name(run, guard)).name],
        outputs=lambda run: [AUDIT.name, *([AUDIT_PUSHED.name] if AUDIT_PUSHED.exists(run) else [])],
        sections=("annotation",),
        work=lambda run: _work(
            run, guard=guard_name(run, guard), estimator=estimator, top=top, control=control, push=push
        ),
        live=True,
    )


STAGE = stage()


def listed(run: Run) -> dict[str, Any]:
    """The records of audit.parquet and the error rate of all gold, for `--json`."""
    audited = AUDIT.read(run)
    error = gold_error_rate(audited)
    return {"records": audited.to_dicts(), "gold_error_rate": None if error is None else error.model_dump(mode="json")}


def listing(run: Run) -> str:
    """audit.parquet as text: the disputed records, how many of them and of the random sample experts changed, and the
    error rate of all gold that follows."""
    audited = AUDIT.read(run)
    disputed = audited.filter(pl.col("why") == "guard").sort("support")
    records = "record" if disputed.height == 1 else "records"
    lines = [f"{disputed.height} {records} where guard and gold disagree most:"]
    if disputed.height:
        lines.append(table(["record", "label", "guard", "gold", "expert"], map(_cells, disputed.iter_rows(named=True))))
    if partly := audited["judged"].count():
        lines.append(f"of {partly} of {audited.height} records gold judged only some labels: only these are reviewed")
    for rate in change_rates(audited):
        if rate.seen:
            group = "disputed by the guard" if rate.why == "guard" else "of the random sample of the others"
            lines.append(f"{rate.changed} of {rate.seen} records {group} were changed by an expert")
    error = gold_error_rate(audited)
    if error is not None:
        lines.append(
            f"of all final gold records, experts would change {error.value:.1%} [{error.low:.1%}, {error.high:.1%}]"
        )
    return wrapped("\n".join(lines))


def _cells(row: Mapping[str, Any]) -> list[str]:
    gold = "with" if row["label"] in row["gold_labels"] else "without"
    expert = "" if row["changed"] is None else "changed" if row["changed"] else "confirmed"
    return [row["id"], row["label"], f"{row['probability']:.3f}", gold, expert]
