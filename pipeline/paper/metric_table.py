"""The table of `marginalia paper`: micro F1, Hamming loss and micro ROC AUC, for the paper's strategies and ours."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.evaluation_json import Metric
from marginalia.schemas.terminal import table, wrapped
from marginalia.schemas.text_checks import not_a_formula
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric
from marginalia.scoring.measures.jackknife import variance
from marginalia.scoring.measures.metrics import Measure, bootstrap, decisions, ranking
from marginalia.scoring.measures.thresholds import best_f1

RESAMPLES, SEED, CONFIDENCE = 1000, 2026, 0.95
NO_SCORE = "labels without scores have no ROC AUC"
METRICS = {"micro_f1": "micro F1", "hamming_loss": "Hamming loss", "micro_roc_auc": "micro ROC AUC"}


class TableLine(StrictModel):
    """One strategy of the paper or one of our estimators."""

    name: str
    source: Literal["paper", "marginalia"]
    threshold: float | None = Field(
        description="a label is predicted if its score is at least this; null: the strategy gives labels, no scores"
    )
    micro_f1: Metric
    hamming_loss: Metric
    micro_roc_auc: Metric
    best_f1: float | None = Field(
        description="micro F1 at the best threshold for these records, chosen on them: an upper limit"
    )
    best_threshold: float | None
    reason: str | None = Field(default=None, description="why the line has no numbers")

    @property
    def metrics(self) -> list[Metric]:
        """The metrics of the line, in the order of METRICS."""
        return [getattr(self, name) for name in METRICS]


class Cost(StrictModel):
    """Cost per record, as means over the records."""

    any_place_passes: float = Field(
        description="prefixes that any place evaluates; as published, each takes a forward pass over the whole prompt"
    )
    published_seconds: float = Field(description="all strategies of the paper together, with one key-value cache")
    marginalia_passes: float
    marginalia_nodes: float
    marginalia_seconds: float


class PaperTable(StrictModel):
    """The whole of paper.json."""

    model: str
    guard: str
    labels: list[str]
    records: int
    failed: int = Field(
        description="records that could not be scored by the paper's strategies or by ours; left out of every line"
    )
    top_p: float
    eps: float
    tolerance: float
    node_budget: int
    off_language: float = Field(description="mean probability of answers outside the guard's format")
    widest: float = Field(description="largest upper - lower of the marginal's bounds")
    lines: list[TableLine]
    cost: Cost
    notes: list[str]

    def csv(self) -> str:
        """The table as CSV: one row per strategy or estimator, with columns for the ends of the intervals."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        columns = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
        writer.writerow(["name", "source", "records", "threshold", *columns, "best_f1", "best_threshold"])
        for line in self.lines:
            numbers = [value for metric in line.metrics for value in (metric.value, metric.low, metric.high)]
            row = [self.records, line.threshold, *numbers, line.best_f1, line.best_threshold]
            writer.writerow(
                [
                    not_a_formula(line.name),
                    not_a_formula(line.source),
                    *("" if value is None else value for value in row),
                ]
            )
        return out.getvalue()

    def __str__(self) -> str:
        lines = [
            f"{self.records} records, {len(self.labels)} labels; model {self.model}, guard {self.guard}; "
            f"top_p {self.top_p:g}, eps {self.eps:g}; tolerance {self.tolerance:g}",
            "",
            table(["strategy", "of", "at", *METRICS.values(), "best F1*"], map(_cells, self.lines)),
            "",
            *(f"{line.name}: {line.reason}" for line in self.lines if line.reason is not None),
        ]
        cost = self.cost
        lines += [
            "* at the best threshold for these records, chosen on them: an upper limit",
            f"in brackets: {CONFIDENCE:.0%} intervals over records",
            f"any place: {cost.any_place_passes:.0f} passes per record (as published, each over the whole prompt); "
            f"all the paper's strategies with one cache: {cost.published_seconds:.2f} s per record",
            f"Marginalia: {cost.marginalia_nodes:.0f} prefixes in {cost.marginalia_passes:.0f} passes per record, "
            f"{cost.marginalia_seconds:.2f} s; widest bounds of the marginal {self.widest:.3f}",
            f"mean probability of answers outside the guard's format: {self.off_language:.3f}",
            *(f"note: {note}" for note in self.notes),
        ]
        return wrapped("\n".join(lines))


def _cells(line: TableLine) -> list[str]:
    at = "–" if line.threshold is None else f"{line.threshold:g}"
    best = "–" if line.best_f1 is None else f"{line.best_f1:.3f} at {line.best_threshold:.3g}"
    return [line.name, line.source, at, *map(_metric, line.metrics), best]


def _metric(metric: Metric) -> str:
    if metric.value is None:
        return "–"
    return f"{metric.value:.3f}" + ("" if metric.low is None else f" [{metric.low:.2f}, {metric.high:.2f}]")


def scored_line(
    name: str, source: Literal["paper", "marginalia"], truth: Flags, judged: Flags, scores: Array, at: float
) -> TableLine:
    """The line of (n, L) scores, which may exceed 1. A label is predicted if its score is at least `at`. Cells that
    were not `judged` (n, L) are left out."""
    best = best_f1(truth[judged], scores[judged])
    every = np.ones((1, len(truth)))
    top = None if best is None else decisions(truth, scores >= best, judged)(every).pooled["micro_f1"][0]
    metrics = _with_intervals(decisions(truth, scores >= at, judged), len(truth), "micro_f1", "hamming_loss")
    metrics |= _with_intervals(ranking(truth, scores, judged), len(truth), "micro_roc_auc")
    return TableLine(
        name=name,
        source=source,
        threshold=at,
        micro_f1=metrics["micro_f1"],
        hamming_loss=metrics["hamming_loss"],
        micro_roc_auc=metrics["micro_roc_auc"],
        best_f1=None if top is None else float(top),
        best_threshold=best,
    )


def labelled_line(name: str, truth: Flags, judged: Flags, predicted: Flags) -> TableLine:
    """The line of a strategy of the paper that gives labels and no scores. All arrays are (n, L)."""
    metrics = _with_intervals(decisions(truth, predicted, judged), len(truth), "micro_f1", "hamming_loss")
    return _line_without_scores(name, metrics | {"micro_roc_auc": Metric(value=None, n=len(truth), reason=NO_SCORE)})


def empty_line(name: str, n: int, reason: str) -> TableLine:
    """The line of a strategy of the paper that this guard or these records do not allow."""
    return _line_without_scores(name, dict.fromkeys(METRICS, Metric(value=None, n=n, reason=reason)), reason)


def _line_without_scores(name: str, metrics: Mapping[str, Metric], reason: str | None = None) -> TableLine:
    return TableLine(
        name=name,
        source="paper",
        threshold=None,
        micro_f1=metrics["micro_f1"],
        hamming_loss=metrics["hamming_loss"],
        micro_roc_auc=metrics["micro_roc_auc"],
        best_f1=None,
        best_threshold=None,
        reason=reason,
    )


def _with_intervals(measure: Measure, n: int, *names: str) -> dict[str, Metric]:
    """Name → metric with its interval over `n` records."""
    bootstrapped = bootstrap(measure, n, resamples=RESAMPLES, seed=SEED, left_out=True)
    return {
        name: bootstrap_metric(
            float(bootstrapped.value.pooled[name][0]),
            bootstrapped.replicates.pooled[name],
            n,
            confidence=CONFIDENCE,
            undefined="no records" if name == "hamming_loss" else "no record has a label",
            variance=variance(bootstrapped, name),
        )
        for name in names
    }


def matrix(scores: Sequence[Mapping[str, float]], columns: Sequence[str]) -> Array:
    """Scores as an (n, L) array; a missing score is 0."""
    return np.array([[row.get(column, 0.0) for column in columns] for row in scores], dtype=np.float64)


def flags(labels: Sequence[Sequence[str]], columns: Sequence[str]) -> Flags:
    """Each record's labels as an (n, L) array."""
    return np.array([[column in row for column in columns] for row in labels], dtype=bool)
