"""Checks that the counts agree from gold to the evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from marginalia.pipeline.core.artifacts import (
    CALIBRATION,
    EVALUATION,
    GOLD,
    PROMPTS,
    SCORE_JOURNAL,
    SCORED_RECORDS,
    SCORES,
    THRESHOLDS,
)
from marginalia.pipeline.core.checked_tables import (
    labels_not_judged,
    outside_bounds,
    unknown_score_labels,
    wrongly_settled,
)
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.run_contents import Contents
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.storage.journal import read_journal
from marginalia.scoring.score_journal_entry import check_entry


def check_gold(contents: Contents, verification: Verification) -> None:
    """Gold has the records of the prompts; a record has labels, all known, if and only if it is final; and only labels
    that were judged."""
    gold, prompts = contents.table(GOLD), contents.table(PROMPTS)
    if gold is None:
        return
    maker = contents.maker(GOLD)
    fix = contents.run.command(maker)
    problems = []
    if prompts is not None:
        in_gold, in_prompts = set(gold["id"]), set(prompts["id"])
        problems += [f"record '{record}' is in gold but not in prompts" for record in sorted(in_gold - in_prompts)]
        problems += [f"record '{record}' is in prompts but not in gold" for record in sorted(in_prompts - in_gold)]
    problems += [
        f"record '{record}' is final without labels, or has labels but is not final"
        for record in wrongly_settled(gold)["id"]
    ]
    problems += list(_judged_problems(gold))
    labels = {*gold["labels"].explode().drop_nulls(), *gold["judged"].explode().drop_nulls()}
    problems += [f"unknown label '{label}'" for label in sorted(labels - set(contents.run.taxonomy.ids))]
    if across := equal_texts(gold).across_splits:
        problems.append(f"{across:,} texts are in more than one split")
    statuses = dict(gold["status"].value_counts().sort("status").iter_rows())
    summary = " + ".join(f"{n:,} {status.replace('_', ' ')}" for status, n in statuses.items())
    verification.add(maker, "counts", f"{summary or 'no'} = {gold.height:,} records", problems, f"{fix} --force")


def _judged_problems(gold: pl.DataFrame) -> Iterator[str]:
    for record, label in labels_not_judged(gold).iter_rows():
        yield f"record '{record}' has the label '{label}', which 'judged' leaves out"
    partly = gold.filter(pl.col("status") == "final").drop_nulls("judged")
    for record in partly.filter(pl.col("judged").list.len() == 0)["id"]:
        yield f"record '{record}' is final, but none of its labels was judged"
    soft = partly.select("id", "judged", soft=pl.col("soft_labels").list.eval(pl.element().struct.field("label")))
    outside = soft.with_columns(pl.col("soft").list.set_difference("judged")).explode("soft").drop_nulls("soft")
    for record, label in outside.select("id", "soft").iter_rows():
        yield f"record '{record}' has a soft label of '{label}', which 'judged' leaves out"


def check_scores(contents: Contents, verification: Verification) -> None:
    """Every gold record has an error, or for each estimator × label a probability within its bounds or only bounds."""
    gold = contents.table(GOLD)
    for guard in contents.guards:
        scores = contents.table(SCORES.of(guard))
        records = contents.table(SCORED_RECORDS.of(guard))
        if gold is not None and scores is not None and records is not None:
            problems = _score_problems(gold, scores, records)
            problems += [f"unknown label '{label}'" for label in unknown_score_labels(scores, contents.run.taxonomy)]
            failed = records["error"].count()
            per_record = scores.select("estimator", "label").unique().height
            scored = records.height - failed
            summary = f"{guard}: {scored:,} records × {per_record} numbers + {failed:,} failed = {gold.height:,}"
            verification.add("score", "counts", summary, problems, f"{contents.run.command('score')} --force")
            _check_score_journal(contents, guard, scores, records, verification)


def _score_problems(gold: pl.DataFrame, scores: pl.DataFrame, records: pl.DataFrame) -> list[str]:
    scored, in_gold = set(records["record_id"]), set(gold["id"])
    problems = [f"gold record '{record}' was not scored" for record in sorted(in_gold - scored)]
    problems += [f"record '{record}' was scored but is not in gold" for record in sorted(scored - in_gold)]
    per_record = scores.select("estimator", "label").unique().height
    numbers = scores.group_by("record_id").len("n")
    joined = records.select("record_id", "error").join(numbers, on="record_id", how="full", coalesce=True)
    expected = pl.when(pl.col("error").is_null()).then(per_record).otherwise(0)
    wrong = joined.filter(pl.col("n").fill_null(0) != expected).sort("record_id")
    problems += [
        f"record '{record}' has {n or 0} of {per_record} numbers{' and an error' if error else ''}"
        for record, error, n in wrong.rows()
    ]
    outside = outside_bounds(scores)
    return [
        *problems,
        *(f"{row} is outside its bounds" for row in outside.select(pl.exclude("lower", "upper")).rows()),
    ]


def _check_score_journal(
    contents: Contents, guard: str, scores: pl.DataFrame, records: pl.DataFrame, verification: Verification
) -> None:
    """The tables agree with the latest entry of each record: the same error, and numbers with the same sum."""
    path = SCORE_JOURNAL.of(guard).path(contents.run)
    if not path.exists():
        return
    fix = f"delete {path}, then {contents.run.command('score')} --force"
    with verification.failing("score", "journal", fix):
        latest: dict[str, tuple[str | None, float]] = {}
        for entry in read_journal(path, check=check_entry):
            total = sum(value for numbers in entry["scores"].values() for value in numbers[0] if value is not None)
            latest[entry["id"]] = (entry["error"], total)
        sums = dict(scores.group_by("record_id").agg(pl.col("probability").sum()).iter_rows())
        problems = []
        for record, error in records.select("record_id", "error").iter_rows():
            error_in_journal, total = latest.get(record, (None, -1.0))
            if record not in latest:
                problems.append(f"record '{record}' of {guard} is not in the journal")
                continue
            other_sum = scores.height and abs(total - sums.get(record, 0.0)) > 1e-6 * max(1.0, total)
            if error_in_journal != error or other_sum:
                problems.append(f"record '{record}' of {guard} differs between journal and table")
        verification.add("score", "journal", f"{guard}: {len(latest):,} records, as in the tables", problems, fix)


def check_evaluation(contents: Contents, verification: Verification) -> None:
    """Judged + left out = final records, and thresholds and calibration are of the same guards."""
    gold, evaluation = contents.table(GOLD), contents.document(EVALUATION)
    if gold is None or evaluation is None:
        return
    final = gold.filter(pl.col("status") == "final").height
    problems = []
    if (evaluation.gold.records, evaluation.gold.final) != (gold.height, final):
        counted = f"{evaluation.gold.final:,} final of {evaluation.gold.records:,} gold records"
        problems.append(f"evaluation.json counts {counted}, gold.parquet has {final:,} of {gold.height:,}")
    without_labels = sum(evaluation.gold.left_out.values())
    if without_labels != gold.height - final:
        problems.append(
            f"evaluation.json leaves out {without_labels:,} open records, but {gold.height - final:,} are open"
        )
    judged_guards = [page.guard for page in evaluation.guards]
    if judged_guards != contents.guards:
        problems.append(f"evaluation.json judges these guards: {', '.join(judged_guards) or 'none'}")
    for page in evaluation.guards:
        left_out = sum(page.left_out.values())
        if page.records + left_out != final:
            problems.append(f"{page.guard}: {page.records:,} judged + {left_out:,} left out, but {final:,} are final")
    thresholds = contents.document(THRESHOLDS)
    calibration = contents.document(CALIBRATION)
    if thresholds is not None and thresholds.guards.keys() != set(judged_guards):
        problems.append("thresholds.json has other guards")
    if calibration is not None and not {item.guard for item in calibration.calibrations} <= set(judged_guards):
        problems.append("calibration.json has other guards")
    judged = max((page.records for page in evaluation.guards), default=0)
    summary = f"{judged:,} judged of {final:,} final, {gold.height - final:,} open left out"
    verification.add("evaluate", "counts", summary, problems, f"{contents.run.command('evaluate')} --force")
