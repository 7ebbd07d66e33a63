"""Results as data frames: long, as scores/GUARD.parquet, or wide, with one column per label."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from marginalia.schemas.data_frames import KINDS, column_values, columns_of, is_frame
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.tables import LabelScore
from marginalia.scoring.record_scores import RecordScores

CHUNK = 1000  # records whose rows are Python values at a time


def records_in(frame: Any, text: str | None, record_id: str | None) -> list[tuple[Any, Any]]:
    """(id, text or messages) of each row. Columns that are not named are `messages` or else `text`, and `id` where the
    frame has it. Raises InputError when the frame has none of these columns."""
    if not is_frame(frame):
        raise InputError(f"score_frame takes {KINDS}, saw {type(frame).__name__}", hint="score_many takes an iterable")
    columns = columns_of(frame)
    if text is None:
        text = next((name for name in ("messages", "text") if name in columns), "text")
    if record_id is None and "id" in columns:
        record_id = "id"
    for name, option in ((text, "text"), (record_id, "id")):
        if name is not None and name not in columns:
            near = did_you_mean(name, columns) or f"; it has {', '.join(columns)}"
            hint = f"name the column: score_frame(frame, {option}=…)"
            raise InputError(f"the frame has no column '{name}'{near}", hint=hint)
    cells = column_values(frame, text)
    ids = column_values(frame, record_id) if record_id is not None else [str(row) for row in range(len(cells))]
    return list(zip(ids, cells, strict=True))


def long_frame(scored: Iterable[RecordScores], estimators: Sequence[str]) -> pl.DataFrame:
    """One row per record × estimator × label (LabelScore). Records without scores have no row; a warning says so."""
    parts = [LabelScore.frame([])]
    columns = _empty()
    unscored: list[RecordScores] = []
    records = 0
    for records, scores in enumerate(scored, start=1):
        if scores.error is not None:
            unscored.append(scores)
        else:
            _add_rows(columns, scores, estimators)
        if records % CHUNK == 0:
            parts.append(_label_scores(columns))
            columns = _empty()
    parts.append(_label_scores(columns))
    if unscored:
        first = unscored[0]
        warnings.warn(
            f"{len(unscored)} of {records} records were not scored and have no row; the first is '{first.record_id}': "
            f"{first.error} (wide=True has a column with the errors)",
            stacklevel=3,
        )
    return pl.concat(parts)


def all_estimators_frame(scored: Iterable[RecordScores]) -> pl.DataFrame:
    """The same rows, of all estimators that each record has; without a warning of records without scores."""
    columns = _empty()
    for scores in scored:
        _add_rows(columns, scores, list(scores.result.estimates))
    return _label_scores(columns)


def _add_rows(columns: dict[str, list[Any]], scores: RecordScores, estimators: Sequence[str]) -> None:
    for estimator in estimators:
        estimates = scores.result.estimates[estimator]
        columns["record_id"] += [scores.record_id] * len(scores.rows)
        columns["estimator"] += [estimator] * len(scores.rows)
        columns["label"] += scores.rows
        columns["probability"] += estimates.probability.tolist()
        columns["lower"] += estimates.lower.tolist()
        columns["upper"] += estimates.upper.tolist()


def _label_scores(columns: dict[str, list[Any]]) -> pl.DataFrame:
    frame = pl.DataFrame(columns, schema=LabelScore.polars_schema())
    return frame.with_columns(pl.col("probability").fill_nan(None))  # a label that is known only within bounds


def _empty() -> dict[str, list[Any]]:
    return {name: [] for name in LabelScore.model_fields}


def wide_frame(scored: Iterable[RecordScores], rows: Sequence[str]) -> pl.DataFrame:
    """One row per record, in the order of the records: record_id, the verdict, a probability per label, error."""
    if taken := {"record_id", "error"} & set(rows):
        raise InputError(f"a label is named '{min(taken)}', as a column of the wide frame", hint="leave out wide=True")
    labels = [UNSAFE, *(row for row in rows if row != UNSAFE)]
    schema = {"record_id": pl.String(), **dict.fromkeys(labels, pl.Float64()), "error": pl.String()}
    values = [
        (
            scores.record_id,
            *(scores[label].probability if scores.error is None else None for label in labels),
            scores.error,
        )
        for scores in scored
    ]
    return pl.DataFrame(values, schema=schema, orient="row")
