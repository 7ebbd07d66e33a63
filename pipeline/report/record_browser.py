"""The record browser's data: judged records with text, gold, votes and probabilities, the most informative first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from marginalia.pipeline.evaluation.guard_tables import BoundedLabels, GuardTable
from marginalia.pipeline.report.decision import chosen_threshold, precision_target
from marginalia.pipeline.report.page_script import json_data
from marginalia.pipeline.report.report_data import ReportData, headlined, recommended_estimator
from marginalia.schemas.evaluation_json import EstimatorEvaluation, GuardEvaluation
from marginalia.scoring.measures.intervals import Array, Flags

MOST_RECORDS = 2_000
MOST_BYTES = 3_300_000  # of all records as JSON, so that the page stays under 5 MB
MOST_CHARACTERS = 1_500  # of one record's texts
FIRST = 10
NEAR = 0.05  # a probability at most this far from the threshold, or with bounds around it, is near the threshold
LEAST_NEAR = 0.01  # but never one below this: near a low threshold nearly every record would be
SCALE = 10_000  # bounds are integers in the page, to keep it small
DIGITS = 6  # of a probability in the page, significant ones; as many as a threshold is compared with


@dataclass(frozen=True)
class ShownRecord:
    """A record without its text; for each guard: (its name, labels missed, labels flagged wrongly)."""

    id: str
    split: str
    guards: list[tuple[str, list[str], list[str]]]


@dataclass(frozen=True)
class RecordBrowser:
    """`data` is JSON for the page's script; `shown` of the `judged` records are in it."""

    data: Markup
    shown: int
    judged: int
    shortened: int  # records whose text is longer than MOST_CHARACTERS
    first: list[ShownRecord]  # for readers without scripts, and for print


@dataclass(frozen=True)
class _Decisions:
    """One guard's recommended estimator: its decisions at the thresholds, and how informative each record is.

    A wrong decision counts more than a right one: more so the further its probability is from the threshold. A right
    one counts more, the closer its probability is."""

    table: GuardTable
    estimator: str
    thresholds: Array  # (L,)
    scores: Array  # (n, L)
    bounds: tuple[Array, Array]
    bounded: BoundedLabels | None  # with the bounds of this estimator
    kinds: np.ndarray  # (n, L): a letter, see _kinds
    informative: Array  # (n,)

    @property
    def bounded_labels(self) -> list[str]:
        """Ids of the labels with only bounds, which come after the others in the page."""
        return self.bounded.labels if self.bounded is not None else []


def record_browser(data: ReportData) -> RecordBrowser | None:
    """The judged records of all guards with a recommended estimator; None without any."""
    tables = {table.guard: table for table in data.tables}
    found = [
        _decisions(tables[guard.guard], guard, best)
        for guard in data.evaluation.guards
        if guard.guard in tables
        and (best := recommended_estimator(guard)) is not None
        and best.estimator in tables[guard.guard].scores
    ]
    order = _order(found)
    if not order:
        return None
    gold = {row["id"]: row for row in data.gold.filter(pl.col("id").is_in(order)).iter_rows(named=True)}
    rows_of = [{record: row for row, record in enumerate(decisions.table.ids)} for decisions in found]
    shown: list[dict[str, Any]] = []
    size, shortened = 0, 0
    for record in order[:MOST_RECORDS]:
        messages, cut = _messages(gold[record]["messages"])
        item = {
            "id": record,
            "split": gold[record]["split"],
            "messages": messages,
            "gold": [data.label_names.get(label, label) for label in gold[record]["labels"]],
            "guards": [
                _cells(decisions, rows[record]) if record in rows else None
                for decisions, rows in zip(found, rows_of, strict=True)
            ],
        }
        size += len(json.dumps(item, ensure_ascii=False).encode())
        if size > MOST_BYTES:
            break
        shown.append(item)
        shortened += cut
    guards = [
        {
            "guard": decisions.table.guard,
            "ids": (ids := [*decisions.table.labels, *decisions.bounded_labels]),
            "labels": [data.label_names.get(label, label) for label in ids],
            "thresholds": [*decisions.thresholds.tolist(), *[None] * len(decisions.bounded_labels)],
        }
        for decisions in found
    ]
    first = [_without_text(data, gold[record], found, rows_of) for record in order[:FIRST]]
    return RecordBrowser(
        json_data({"near": NEAR, "least": LEAST_NEAR, "guards": guards, "records": shown}),
        len(shown),
        len(order),
        shortened,
        first,
    )


def _without_text(
    data: ReportData, row: dict[str, Any], found: Sequence[_Decisions], rows_of: Sequence[dict[str, int]]
) -> ShownRecord:
    names, guards, record = data.label_names, [], row["id"]
    for decisions, rows in zip(found, rows_of, strict=True):
        if record in rows:
            kinds = dict(
                zip(decisions.table.labels, np.char.lower(decisions.kinds[rows[record]]).tolist(), strict=True)
            )
            missed, wrong = ([names.get(label, label) for label in kinds if kinds[label] == kind] for kind in "ma")
            guards.append((decisions.table.guard, missed, wrong))
    return ShownRecord(record, row["split"], guards)


def _decisions(table: GuardTable, guard: GuardEvaluation, best: EstimatorEvaluation) -> _Decisions:
    scores = table.scores[best.estimator]
    lower, upper = table.bounds.get(best.estimator, (scores, scores))
    target = precision_target(best)
    chosen = {
        label: row.threshold
        for label, rows in best.thresholds.labels.items()
        if headlined(guard) and (row := chosen_threshold(rows, target)) is not None
    }
    values = [chosen.get(label) for label in table.labels]
    thresholds = np.array([best.threshold if value is None else value for value in values])
    bounded = table.bounded if table.bounded is not None and best.estimator in table.bounded.bounds else None
    distance = np.abs(scores - thresholds)
    near = ((distance <= NEAR) | ((lower < thresholds) & (thresholds <= upper))) & (upper >= LEAST_NEAR)
    kinds = _kinds(table.truth, scores >= thresholds, near, table.judged)
    wrong = (scores >= thresholds) != table.truth
    informative = np.where(table.judged, np.where(wrong, 1 + distance, 1 - distance), -1.0)
    return _Decisions(
        table, best.estimator, thresholds, scores, (lower, upper), bounded, kinds, informative.max(axis=1, initial=-1.0)
    )


def _kinds(truth: Flags, flagged: Flags, near: Flags, judged: Flags) -> np.ndarray:
    """(n, L): m miss, a false alarm, f found, r rightly not flagged, in capitals near the threshold; - not judged."""
    kinds = np.where(truth, np.where(flagged, "f", "m"), np.where(flagged, "a", "r"))
    return np.where(judged, np.where(near, np.char.upper(kinds), kinds), "-")


def _order(found: Sequence[_Decisions]) -> list[str]:
    """Ids of all records with a judged label, the most informative first."""
    best: dict[str, float] = {}
    for decisions in found:
        for record, value in zip(decisions.table.ids, decisions.informative.tolist(), strict=True):
            if value >= 0:
                best[record] = max(value, best.get(record, 0.0))
    return sorted(best, key=lambda record: (-best[record], record))


def _cells(decisions: _Decisions, row: int) -> dict[str, Any]:
    """What one record shows of a guard, in the order of its labels, those with only bounds last: `truth` (1, 0, or - if
    not judged), the probabilities (None where there are only bounds), bounds and votes.

    The page's script decides at the thresholds of its sliders, so decisions are not among the data."""
    table, bounded = decisions.table, decisions.bounded
    truth = _truth(table.truth[row], table.judged[row])
    p: list[float | None] = [float(f"{value:.{DIGITS}g}") for value in decisions.scores[row].tolist()]
    low, high = (_scaled(values[row]) for values in decisions.bounds)
    is_exact = (low, high) == (_scaled(decisions.scores[row]),) * 2
    if bounded is not None:
        truth += _truth(bounded.truth[row], bounded.judged[row])
        p += [None] * len(bounded.labels)
        for ends, values in zip((low, high), bounded.bounds[decisions.estimator], strict=True):
            ends += _scaled(values[row])
    cells: dict[str, Any] = {"truth": truth, "p": p}
    if not is_exact or bounded is not None:
        cells |= {"low": low, "high": high}
    if np.isfinite(table.answers[row]).any():
        cells |= {"yes": _counts(table.yes[row]), "answers": _counts(table.answers[row])}
    return cells


def _truth(truth: Flags, judged: Flags) -> str:
    return "".join(np.where(judged, np.where(truth, "1", "0"), "-").tolist())


def _scaled(values: Array) -> list[int | None]:
    return [round(value * SCALE) if np.isfinite(value) else None for value in values.tolist()]


def _counts(values: Array) -> list[int]:
    return [int(value) for value in np.nan_to_num(values, nan=0.0).tolist()]


def _messages(messages: Sequence[dict[str, str]]) -> tuple[list[list[str]], bool]:
    """(role and text of each message, whether some were shortened): at most MOST_CHARACTERS of text in all."""
    left, shown, cut = MOST_CHARACTERS, [], False
    for message in messages:
        text = shortened(message["content"], left)
        cut = cut or len(message["content"]) > left
        left = max(left - len(text), 0)
        shown.append([message["role"], text])
    return shown, cut


def shortened(text: str, most: int) -> str:
    """The first `most` characters of `text`, followed by a note of its full length if it is longer."""
    return text if len(text) <= most else f"{text[:most]}… (shortened; the text has {len(text):,} characters)"
