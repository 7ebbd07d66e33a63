"""Do the counts add up from gold to the release?"""

from __future__ import annotations

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
from marginalia.pipeline.core.checked_tables import outside_bounds, unknown_score_labels, wrongly_settled
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.run_contents import Contents
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.storage.journal import read_journal
from marginalia.scoring.score_journal_entry import check_entry


def check_gold(contents: Contents, found: Verification) -> None:
    """Gold has the prompts' records, each with labels of the taxonomy exactly when it is final."""
    gold, prompts = contents.table(GOLD), contents.table(PROMPTS)
    if gold is None:
        return
    maker = contents.maker(GOLD)
    mend = contents.run.command(maker)
    problems = []
    if prompts is not None:
        ours, theirs = set(gold["id"]), set(prompts["id"])
        problems += [f"record '{record}' is in gold and not in prompts" for record in sorted(ours - theirs)]
        problems += [f"record '{record}' is in prompts and not in gold" for record in sorted(theirs - ours)]
    wrong = wrongly_settled(gold)["id"]
    problems += [f"record '{record}' is final without labels, or open with them" for record in wrong]
    labels = set(gold["labels"].explode().drop_nulls())
    problems += [f"unknown label '{label}'" for label in sorted(labels - set(contents.run.taxonomy.ids))]
    if across := equal_texts(gold).across_splits:
        problems.append(f"{across:,} texts are in more than one split")
    statuses = dict(gold["status"].value_counts().sort("status").iter_rows())
    seen = " + ".join(f"{n:,} {status.replace('_', ' ')}" for status, n in statuses.items())
    found.add(maker, "counts", f"{seen or 'no'} = {gold.height:,} records", problems, f"{mend} --force")


def check_scores(contents: Contents, found: Verification) -> None:
    """Every gold record × estimator × label has a probability inside its bounds, or the record has an error."""
    gold = contents.table(GOLD)
    for guard in contents.guards:
        scores = contents.table(SCORES.of(guard))
        records = contents.table(SCORED_RECORDS.of(guard))
        if gold is not None and scores is not None and records is not None:
            problems = _score_problems(gold, scores, records)
            problems += [f"unknown label '{label}'" for label in unknown_score_labels(scores, contents.run.taxonomy)]
            failed = records["error"].count()
            each = scores.select("estimator", "label").unique().height
            seen = (
                f"{guard}: {records.height - failed:,} records × {each} numbers + {failed:,} failed = {gold.height:,}"
            )
            found.add("score", "counts", seen, problems, f"{contents.run.command('score')} --force")
            _check_score_journal(contents, guard, scores, records, found)


def _score_problems(gold: pl.DataFrame, scores: pl.DataFrame, records: pl.DataFrame) -> list[str]:
    ours, theirs = set(records["record_id"]), set(gold["id"])
    problems = [f"gold record '{record}' was not scored" for record in sorted(theirs - ours)]
    problems += [f"record '{record}' was scored and is not in gold" for record in sorted(ours - theirs)]
    every = scores.select("estimator", "label").unique().height
    numbers = scores.group_by("record_id").len("n")
    joined = records.select("record_id", "error").join(numbers, on="record_id", how="full", coalesce=True)
    expected = pl.when(pl.col("error").is_null()).then(every).otherwise(0)
    wrong = joined.filter(pl.col("n").fill_null(0) != expected).sort("record_id")
    problems += [
        f"record '{record}' has {n or 0} of {every} numbers{' and an error' if error else ''}"
        for record, error, n in wrong.rows()
    ]
    outside = outside_bounds(scores)
    return [
        *problems,
        *(f"{row} lies outside its bounds" for row in outside.select(pl.exclude("lower", "upper")).rows()),
    ]


def _check_score_journal(
    contents: Contents, guard: str, scores: pl.DataFrame, records: pl.DataFrame, found: Verification
) -> None:
    """The tables hold what the latest entry of each record says: the same error, and numbers with the same sum."""
    path = SCORE_JOURNAL.of(guard).path(contents.run)
    if not path.exists():
        return
    mend = f"delete {path}, then {contents.run.command('score')} --force"
    with found.failing("score", "journal", mend):
        latest: dict[str, tuple[str | None, float]] = {}
        for entry in read_journal(path, check=check_entry):
            total = sum(sum(numbers[0]) for numbers in entry["scores"].values())
            latest[entry["id"]] = (entry["error"], total)
        sums = dict(scores.group_by("record_id").agg(pl.col("probability").sum()).iter_rows())
        problems = []
        for record, error in records.select("record_id", "error").iter_rows():
            told, total = latest.get(record, (None, -1.0))
            kept = set(scores["estimator"])
            if record not in latest:
                problems.append(f"record '{record}' of {guard} is not in it")
            elif told != error or (kept and abs(total - sums.get(record, 0.0)) > 1e-6 * max(1.0, total)):
                problems.append(f"record '{record}' of {guard} reads differently in the table")
        found.add("score", "journal", f"{guard}: {len(latest):,} records, the tables hold their latest", problems, mend)


def check_evaluation(contents: Contents, found: Verification) -> None:
    """records judged + left out = final, and thresholds and calibration are those of the same guards."""
    gold, evaluation = contents.table(GOLD), contents.document(EVALUATION)
    if gold is None or evaluation is None:
        return
    final = gold.filter(pl.col("status") == "final").height
    problems = []
    if (evaluation.gold.records, evaluation.gold.final) != (gold.height, final):
        problems.append(f"it counts {evaluation.gold.final:,} final of {evaluation.gold.records:,} gold records")
    if sum(evaluation.gold.left_out.values()) != gold.height - final:
        problems.append(f"it leaves out {evaluation.gold.left_out} of {gold.height - final:,} open records")
    if [page.guard for page in evaluation.guards] != contents.guards:
        problems.append(f"it judges the guards {', '.join(page.guard for page in evaluation.guards) or 'none'}")
    for page in evaluation.guards:
        left = sum(page.left_out.values())
        if page.records + left != final:
            problems.append(f"{page.guard}: {page.records:,} judged + {left:,} left out, {final:,} are final")
    names = {page.guard for page in evaluation.guards}
    thresholds = contents.document(THRESHOLDS)
    calibration = contents.document(CALIBRATION)
    if thresholds is not None and thresholds.guards.keys() != names:
        problems.append("thresholds.json is of other guards")
    if calibration is not None and not {item.guard for item in calibration.calibrations} <= names:
        problems.append("calibration.json is of other guards")
    judged = max((page.records for page in evaluation.guards), default=0)
    seen = f"{judged:,} judged of {final:,} final, {gold.height - final:,} open left out"
    found.add("evaluate", "counts", seen, problems, f"{contents.run.command('evaluate')} --force")
