"""The data of the threshold sliders: how many records of the test split each threshold flags, rightly and wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from marginalia.pipeline.evaluation.guard_tables import GuardTable
from marginalia.pipeline.report.decision import chosen_threshold, precision_target
from marginalia.pipeline.report.page_script import json_data
from marginalia.pipeline.report.report_data import ReportData, headlined, recommended_estimator
from marginalia.schemas.evaluation_json import UNSAFE, EstimatorEvaluation, Outcome
from marginalia.schemas.thresholds_json import EstimatorThresholds, GuardThresholds, ThresholdsFile
from marginalia.scoring.measures.conclusions import FEW_RECORDS
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.thresholds import outcome

TABLE_STEPS = (0.001, 0.01, *(round(0.05 * step, 2) for step in range(1, 20)))
PRINTED_STEPS = (0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
RECALL_GOAL = 0.8  # the page says which threshold finds this share of a label
MOST_STEPS = 1_500  # with more different scores, thresholds of a label are rounded up to multiples of 1 / GRID
GRID = 1_000
CHOSEN_ON = "by hand in the report, with the results on the test split in view"


@dataclass(frozen=True)
class SliderLabel:
    """A label with n judged test records. `start`: the threshold of the first screen. `table`: (threshold, its outcome)
    for each of TABLE_STEPS. `steps`: the number of the slider's positions. `finds`: the highest of these that finds at
    least RECALL_GOAL of the positives; None without positives."""

    name: str
    n: int
    positives: int
    start: float
    steps: int
    table: list[tuple[float, Outcome]]
    finds: tuple[float, Outcome] | None


@dataclass(frozen=True)
class GuardSliders:
    """The sliders of one guard's recommended estimator."""

    guard: str
    estimator: str
    labels: list[SliderLabel]


@dataclass(frozen=True)
class ThresholdSliders:
    """The sliders of all guards. `data`: JSON for the page's script."""

    guards: list[GuardSliders]
    data: Markup


def threshold_sliders(data: ReportData) -> ThresholdSliders | None:
    """A slider for each label with a threshold and judged test records; None without any."""
    tables = {table.guard: table for table in data.tables}
    shown: list[GuardSliders] = []
    encoded: list[dict[str, Any]] = []
    file = ThresholdsFile(
        simulated=data.simulated,
        taxonomy=data.taxonomy.id,
        confidence=data.evaluation.confidence,
        chosen_on=CHOSEN_ON,
        guards={},
    )
    for guard in data.evaluation.guards:
        best, table = recommended_estimator(guard), tables.get(guard.guard)
        if best is None or table is None or not headlined(guard) or best.estimator not in table.scores:
            continue
        pairs = [
            _label(data, table, best, label)
            for label in best.thresholds.labels
            if label in table.labels or (label == UNSAFE and best.estimator in table.verdicts)
        ]
        found = [pair for pair in pairs if pair is not None]
        if not found:
            continue
        shown.append(GuardSliders(guard.guard, best.estimator, [label for label, _ in found]))
        encoded.append({"guard": guard.guard, "estimator": best.estimator, "labels": [values for _, values in found]})
        estimators = {best.estimator: EstimatorThresholds(overall={}, labels={})}
        file.guards[guard.guard] = GuardThresholds(recommended=best.estimator, estimators=estimators)
    if not shown:
        return None
    content = {
        "confidence": data.evaluation.confidence,
        "few": FEW_RECORDS,
        "file": file.model_dump(mode="json"),
        "guards": encoded,
    }
    return ThresholdSliders(shown, json_data(content))


def _label(
    data: ReportData, table: GuardTable, best: EstimatorEvaluation, label: str
) -> tuple[SliderLabel, dict[str, Any]] | None:
    """A label's slider and its data; None without a threshold or without judged test records."""
    truth, p = _test_values(table, best.estimator, label)
    chosen = chosen_threshold(best.thresholds.labels[label], precision_target(best))
    if chosen is None or chosen.threshold is None or not len(truth):
        return None
    confidence = data.evaluation.confidence
    rows = [(step, outcome(truth, p, step, split="test", confidence=confidence)) for step in TABLE_STEPS]
    marked = [row.threshold for row in best.thresholds.labels[label] if row.threshold is not None]
    steps, grid = slider_steps(p, marked)
    flagged, right = (_at_least(values, steps) for values in (p, p[truth]))
    name = data.label_names.get(label, label) if label != UNSAFE else f"any label (verdict: {data.taxonomy.verdict})"
    found = max((step for step, hits in zip(steps.tolist(), right, strict=True) if hits >= RECALL_GOAL * truth.sum()))
    finds = (found, outcome(truth, p, found, split="test", confidence=confidence)) if truth.any() else None
    shown = SliderLabel(name, len(truth), int(truth.sum()), chosen.threshold, len(steps), rows, finds)
    return shown, {
        "id": label,
        "n": len(truth),
        "positives": int(truth.sum()),
        "start": chosen.threshold,
        "grid": grid,
        "thresholds": steps.tolist(),
        "flagged": flagged,
        "right": right,
    }


def _test_values(table: GuardTable, estimator: str, label: str) -> tuple[Flags, Array]:
    """(truth, p), each (n,), of the test records in which the label was judged."""
    if label == UNSAFE:
        rows = table.on(["test"]) & table.verdict_judged
        return table.any_label[rows], table.verdicts[estimator][rows]
    column = table.labels.index(label)
    rows = table.on(["test"]) & table.judged[:, column]
    return table.truth[rows, column], table.scores[estimator][rows, column]


def slider_steps(p: Array, marked: Sequence[float]) -> tuple[Array, int]:
    """(ascending thresholds, grid): the scores themselves with the `marked` thresholds, 0 and 1, and grid 0; for more
    than MOST_STEPS scores the multiples of 1 / grid instead of the scores.

    A threshold between two steps flags as much as the next higher step. With a grid, a threshold must be rounded up to
    a multiple first."""
    scores = np.unique(p)
    grid = GRID if len(scores) > MOST_STEPS else 0
    return np.unique(np.r_[np.arange(GRID + 1) / GRID if grid else scores, np.array(marked), 0.0, 1.0]), grid


def _at_least(p: Array, thresholds: Array) -> list[int]:
    """How many of `p` are at or above each threshold."""
    return [int(count) for count in len(p) - np.searchsorted(np.sort(p), thresholds, side="left")]
