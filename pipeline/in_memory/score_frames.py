"""Scores from Python: long frames, or the results of `Scorer.score_many`, by the guard's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from marginalia.pipeline.core.checked_tables import BOUNDS, outside_bounds
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores
from marginalia.schemas.data_frames import as_polars, is_frame
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.tables import LabelScore, ScoredRecord
from marginalia.scoring.record_scores import RecordScores
from marginalia.scoring.scored_frames import all_estimators_frame

ONE_GUARD = "guard"  # the name of the only guard
FORM = "scores have the columns record_id, label and probability, and perhaps estimator, lower, upper: score_frame's"


def guard_scores(scores: Any) -> list[GuardScores]:
    """The scores of each guard. `scores` is a long frame, the results of score_many, a list of GuardScores, or a dict
    from a guard's name to one of the first two. Raises InputError for anything else and for invalid frames."""
    if isinstance(scores, Mapping):
        return [_of_guard(str(name), own) for name, own in scores.items()]
    if not is_frame(scores) and isinstance(scores, Iterable):
        items = list(scores)
        if items and all(isinstance(item, GuardScores) for item in items):
            return items
        return [_of_results(ONE_GUARD, items)]
    return [_of_guard(ONE_GUARD, scores)]


def _of_guard(name: str, scores: Any) -> GuardScores:
    if isinstance(scores, GuardScores):
        return scores
    if not is_frame(scores) and isinstance(scores, Iterable):
        return _of_results(name, list(scores))
    return _of_frame(name, as_polars(scores, "scores"))


def _of_frame(name: str, frame: pl.DataFrame) -> GuardScores:
    if "record_id" not in frame.columns and "id" in frame.columns:
        frame = frame.rename({"id": "record_id"})
    for column in ("record_id", "label", "probability"):
        if column not in frame.columns:
            near = did_you_mean(column, frame.columns) or f"; they have {', '.join(frame.columns)}"
            raise InputError(f"scores of {name}: no column '{column}'{near}", hint=f"{FORM} without wide=True")
    defaults = {"estimator": pl.lit("score"), "lower": pl.col("probability"), "upper": pl.col("probability")}
    frame = frame.with_columns(value.alias(column) for column, value in defaults.items() if column not in frame.columns)
    try:
        frame = frame.select(pl.col(column).cast(dtype) for column, dtype in LabelScore.polars_schema().items())
    except pl.exceptions.PolarsError as error:
        raise InputError(f"scores of {name}: a column has the wrong type: {error}", hint=FORM) from error
    frame = frame.with_columns(pl.col("probability").fill_nan(None))
    _check(name, frame)
    empty = dict.fromkeys(ScoredRecord.model_fields)
    ids = frame["record_id"].unique(maintain_order=True).to_list()
    records = [{**empty, "record_id": record, "nodes": 0, "forward_passes": 0, "seconds": 0.0} for record in ids]
    return GuardScores(name, frame, ScoredRecord.frame(records))


def _check(name: str, frame: pl.DataFrame) -> None:
    for column in ("record_id", "estimator", "label", "probability", "lower", "upper"):
        nulls = _unexpected_nulls(frame) if column == "probability" else frame[column].null_count()
        if nulls:
            raise InputError(f"scores of {name}: column '{column}' has nulls", hint="leave out records without scores")
    keys = list(LabelScore.key)
    for row in frame.filter(frame.select(keys).is_duplicated()).head(1).iter_rows(named=True):
        values = " × ".join(f"'{row[key]}'" for key in keys)
        raise InputError(f"scores of {name}: two rows for record × estimator × label {values}", hint="keep one of them")
    for row in outside_bounds(frame).head(1).iter_rows(named=True):
        seen = ", ".join(f"{column} {row[column]:g}" for column in BOUNDS if row[column] is not None)
        problem = f"scores of {name}: record '{row['record_id']}', label '{row['label']}': {seen}"
        raise InputError(problem, hint="expected 0 ≤ lower ≤ probability ≤ upper ≤ 1")


def _unexpected_nulls(frame: pl.DataFrame) -> int:
    """How many probabilities should not be null. A label that is known only within bounds has no probability in any
    record; the verdict always has one."""
    null = pl.col("probability").is_null()
    only_bounds = null.all().over("estimator", "label") & pl.col("lower").is_not_null() & (pl.col("label") != UNSAFE)
    return frame.filter(null & ~only_bounds).height


def _of_results(name: str, results: list[Any]) -> GuardScores:
    for item in results:
        if not isinstance(item, RecordScores):
            what = "a data frame, or the results of score_many; for several guards a dict {name: scores}"
            raise InputError(f"scores of {name}: expected {what}, saw {type(item).__name__}", hint=FORM)
    frame = all_estimators_frame(results)
    _check(name, frame)
    records = [{column: getattr(item.result, column) for column in ScoredRecord.model_fields} for item in results]
    return GuardScores(name, frame, ScoredRecord.frame(records))
