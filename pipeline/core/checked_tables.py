"""Checks of a run's tables beyond their columns: known labels, consistent statuses, valid probabilities."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from marginalia.pipeline.config.generation import PLAN_COLUMNS
from marginalia.pipeline.core.run import Run
from marginalia.schemas.errors import ArtifactError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.taxonomy import Taxonomy

ROUNDING = 1e-9  # by which a bound may be exceeded
BOUNDS = ("lower", "probability", "upper")


def check_plan(run: Run, path: Path, plan: pl.DataFrame, command: str) -> None:
    """Raises ArtifactError for a missing column, a null, and a label that is unknown, withheld from generation or
    forbidden together with another, so that no model is asked for such a text. Only `generate` calls it: a report may
    show an older plan."""
    taxonomy, hint = run.taxonomy, f"{command} --force"
    for name in PLAN_COLUMNS:
        if name not in plan.columns:
            raise ArtifactError.at(path, f"column {name!r} is missing; it has {', '.join(plan.columns)}", hint=hint)
        if name != "near_miss_of" and plan[name].null_count():
            raise ArtifactError.at(path, f"column {name!r} has {plan[name].null_count()} nulls", hint=hint)
    _refuse_unknown(path, plan.rename({"slot_id": "id"}), "slot", taxonomy, hint)
    forbidden = {frozenset(pair) for pair in taxonomy.forbidden_pairs}
    for slot, labels, resembled in plan.select("slot_id", "labels", "near_miss_of").iter_rows():
        for label in [*labels, *([resembled] if resembled is not None else [])]:
            if label not in taxonomy.writable:
                raise ArtifactError.at(path, f"slot '{slot}': '{label}' is withheld from generation", hint=hint)
        if pair := next((pair for pair in forbidden if pair <= set(labels)), None):
            raise ArtifactError.at(path, f"slot '{slot}': {' and '.join(sorted(pair))} are a forbidden pair", hint=hint)


def check_gold(run: Run, path: Path, gold: pl.DataFrame, command: str) -> None:
    """Raises ArtifactError for an unknown label, a final record with null labels, a record that has labels but is not
    final, and one with a label that was not judged."""
    hint = f"rebuild it with {command} --force"
    for record, status, labels in wrongly_settled(gold).select("id", "status", "labels").head(1).iter_rows():
        has = "no labels" if labels is None else f"labels {labels}"
        raise ArtifactError.at(path, f"record '{record}' is {status} and has {has}", hint=hint)
    _refuse_unknown(path, gold.drop_nulls("labels"), "record", run.taxonomy, hint)
    judged = gold.drop_nulls("judged")
    _refuse_unknown(path, judged.select("id", labels="judged"), "record", run.taxonomy, hint)
    for record, label in labels_not_judged(judged).select("id", "label").head(1).iter_rows():
        raise ArtifactError.at(path, f"record '{record}' has the label '{label}', which 'judged' leaves out", hint=hint)


def check_answers(run: Run, path: Path, answers: pl.DataFrame, command: str) -> None:
    """Raises ArtifactError for an answer that gives a label which its annotator was not asked about, and for one that
    was asked about an unknown label."""
    hint = f"rebuild it with {command} --force"
    asked = answers.drop_nulls("judged").rename({"record_id": "id"})
    _refuse_unknown(path, asked.select("id", labels="judged"), "record", run.taxonomy, hint)
    for record, label in labels_not_judged(asked).select("id", "label").head(1).iter_rows():
        problem = f"an answer to record '{record}' has the label '{label}', which 'judged' leaves out"
        raise ArtifactError.at(path, problem, hint=hint)


def labels_not_judged(gold: pl.DataFrame) -> pl.DataFrame:
    """One row (id, label) for each label in `labels` that the row's `judged` leaves out."""
    partly = gold.drop_nulls("judged").select("id", label=pl.col("labels").list.set_difference("judged"))
    return partly.explode("label").drop_nulls("label")


def wrongly_settled(gold: pl.DataFrame) -> pl.DataFrame:
    """The rows that are final with null labels, or not final with labels."""
    return gold.filter((pl.col("status") == "final") == pl.col("labels").is_null())


def check_scores(run: Run, path: Path, scores: pl.DataFrame, command: str) -> None:
    """Raises ArtifactError for an unknown label, and for a value that is not a probability or is outside its bounds."""
    hint = f"{command} --force"
    for label in unknown_score_labels(scores, run.taxonomy):
        near = did_you_mean(label, [*run.taxonomy.ids, UNSAFE])
        problem = f"unknown label '{label}', which the taxonomy {run.taxonomy.id} does not have{near}"
        raise ArtifactError.at(path, problem, hint=hint)
    for row in outside_bounds(scores).head(1).iter_rows(named=True):
        problem = f"record '{row['record_id']}', estimator '{row['estimator']}', label '{row['label']}': expected "
        values = (f"{value:g}" for name in BOUNDS if (value := row[name]) is not None)
        seen = f"0 ≤ lower ≤ probability ≤ upper ≤ 1, saw {', '.join(values)}"
        raise ArtifactError.at(path, problem + seen, hint=hint)


def unknown_score_labels(scores: pl.DataFrame, taxonomy: Taxonomy) -> list[str]:
    """The labels in `scores` that are neither in the taxonomy nor `unsafe`, sorted."""
    return sorted(set(scores["label"].unique()) - {*taxonomy.ids, UNSAFE})


def outside_bounds(scores: pl.DataFrame) -> pl.DataFrame:
    """The rows that violate 0 ≤ lower ≤ probability ≤ upper ≤ 1 by more than ROUNDING; the probability may be null."""
    low, high = pl.col("lower"), pl.col("upper")
    value = pl.col("probability").fill_null(low)
    inside = (low >= -ROUNDING) & (low <= value + ROUNDING) & (value <= high + ROUNDING) & (high <= 1 + ROUNDING)
    return scores.filter(~inside)


def _refuse_unknown(path: Path, frame: pl.DataFrame, row_name: str, taxonomy: Taxonomy, hint: str) -> None:
    """Raises ArtifactError for an unknown label in the columns `id` and `labels`."""
    rows = frame.select("id", "labels").explode("labels").drop_nulls("labels")
    for record, label in rows.filter(~pl.col("labels").is_in(taxonomy.ids)).head(1).iter_rows():
        near = did_you_mean(label, taxonomy.ids)
        problem = (
            f"{row_name} '{record}': unknown label '{label}', which the taxonomy {taxonomy.id} does not have{near}"
        )
        raise ArtifactError.at(path, problem, hint=hint)
