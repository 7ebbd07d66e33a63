"""The table: micro F1, Hamming loss and micro ROC AUC of every strategy of the paper and of our estimators."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.evaluation_json import Metric
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric
from marginalia.scoring.measures.jackknife import variance
from marginalia.scoring.measures.metrics import Bootstrapped, bootstrap, decisions, ranking
from marginalia.scoring.measures.thresholds import best_f1

RESAMPLES, SEED, CONFIDENCE = 1000, 2026, 0.95
NO_SCORE = "labels without scores have no ROC AUC"
METRICS = {"micro_f1": "micro F1", "hamming_loss": "Hamming loss", "micro_roc_auc": "micro ROC AUC"}


class TableLine(StrictModel):
    """One strategy or estimator."""

    name: str
    source: Literal["paper", "marginalia"]
    threshold: float | None = Field(description="label counts at this score and above; null: labels, no scores")
    micro_f1: Metric
    hamming_loss: Metric
    micro_roc_auc: Metric
    best_f1: float | None = Field(description="micro F1 at the threshold that suits these very records best: a ceiling")
    best_threshold: float | None
    reason: str | None = Field(default=None, description="why the line has no numbers")


class Cost(StrictModel):
    """Means over the records."""

    any_place_passes: float = Field(description="prefixes evaluated; as published each is a pass over the whole prompt")
    published_seconds: float = Field(description="all strategies together, on one key-value cache")
    marginalia_passes: float
    marginalia_nodes: float
    marginalia_seconds: float


class PaperTable(StrictModel):
    """paper.json."""

    model: str
    guard: str
    labels: list[str]
    records: int
    failed: int = Field(description="records that one of the sides could not score; left out of every line")
    top_p: float
    eps: float
    tolerance: float
    node_budget: int
    off_language: float = Field(description="mean mass of answers outside the guard's format")
    widest: float = Field(description="widest bounds of the marginal, upper - lower")
    lines: list[TableLine]
    cost: Cost
    notes: list[str]

    def csv(self) -> str:
        """One line a strategy; intervals as columns of their own."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
        writer.writerow(["name", "source", "records", "threshold", *ends, "best_f1", "best_threshold"])
        for line in self.lines:
            metrics = [getattr(line, metric) for metric in METRICS]
            numbers = [value for one in metrics for value in (one.value, one.low, one.high)]
            row = [self.records, line.threshold, *numbers, line.best_f1, line.best_threshold]
            writer.writerow([_cell(line.name), _cell(line.source), *("" if value is None else value for value in row)])
        return out.getvalue()

    def __str__(self) -> str:
        lines = [
            f"{self.records} records, {len(self.labels)} labels; model {self.model}, guard {self.guard}; "
            f"top_p {self.top_p:g}, eps {self.eps:g}; tolerance {self.tolerance:g}",
            "",
            f"{'':24}{'at':>6}  {'micro F1':20}{'Hamming loss':22}{'micro ROC AUC':20}best F1*",
        ]
        for source, title in (("paper", "the paper's"), ("marginalia", "Marginalia's")):
            lines.append(title)
            lines += [_text(line) for line in self.lines if line.source == source]
        cost = self.cost
        lines += [
            "",
            "* at the threshold that suits these very records best: a ceiling, not a promise",
            f"in brackets: {CONFIDENCE:.0%} intervals, records resampled",
            f"any place: {cost.any_place_passes:.0f} passes a record (as published, each over the whole prompt); "
            f"all the paper's strategies on one cache: {cost.published_seconds:.2f} s a record",
            f"Marginalia: {cost.marginalia_nodes:.0f} prefixes in {cost.marginalia_passes:.0f} passes a record, "
            f"{cost.marginalia_seconds:.2f} s; widest bounds of the marginal {self.widest:.3f}",
            f"outside the guard's format: {self.off_language:.3f} of the mass, on average",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def _cell(text: str) -> str:
    """`text` as a spreadsheet must take it: as text, never as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def _text(line: TableLine) -> str:
    if line.reason is not None:
        return f"  {line.name:22}{'–':>6}  {line.reason}"
    at = "–" if line.threshold is None else f"{line.threshold:g}"
    best = "–" if line.best_f1 is None else f"{line.best_f1:.3f} at {line.best_threshold:.3g}"
    f1, hamming, auc = (_metric(getattr(line, metric)) for metric in METRICS)
    return f"  {line.name:22}{at:>6}  {f1:20}{hamming:22}{auc:20}{best}"


def _metric(metric: Metric) -> str:
    if metric.value is None:
        return "–"
    return f"{metric.value:.3f}" + ("" if metric.low is None else f" [{metric.low:.2f}, {metric.high:.2f}]")


def scored_line(name: str, source: Literal["paper", "marginalia"], truth: Flags, scores: Array, at: float) -> TableLine:
    """Of (n, L) scores, which may exceed 1. A label counts where its score is at least `at`."""
    micro_f1, hamming_loss = _decided(truth, scores >= at)
    best = best_f1(truth.ravel(), scores.ravel())
    top = None if best is None else decisions(truth, scores >= best)(np.ones((1, len(truth)))).pooled["micro_f1"][0]
    return TableLine(
        name=name,
        source=source,
        threshold=at,
        micro_f1=micro_f1,
        hamming_loss=hamming_loss,
        micro_roc_auc=_ranked(truth, scores),
        best_f1=None if top is None else float(top),
        best_threshold=best,
    )


def labelled_line(name: str, truth: Flags, predicted: Flags) -> TableLine:
    """Of the paper's strategies that give labels and no scores."""
    nothing = Metric(value=None, n=len(truth), reason=NO_SCORE)
    micro_f1, hamming_loss = _decided(truth, predicted)
    return TableLine(
        name=name,
        source="paper",
        threshold=None,
        micro_f1=micro_f1,
        hamming_loss=hamming_loss,
        micro_roc_auc=nothing,
        best_f1=None,
        best_threshold=None,
    )


def empty_line(name: str, n: int, reason: str) -> TableLine:
    """Of a strategy that cannot be had with this guard."""
    nothing = Metric(value=None, n=n, reason=reason)
    return TableLine(
        name=name,
        source="paper",
        threshold=None,
        micro_f1=nothing,
        hamming_loss=nothing,
        micro_roc_auc=nothing,
        best_f1=None,
        best_threshold=None,
        reason=reason,
    )


def _decided(truth: Flags, predicted: Flags) -> tuple[Metric, Metric]:
    """(micro F1, Hamming loss)"""
    found = bootstrap(decisions(truth, predicted), len(truth), resamples=RESAMPLES, seed=SEED, left_out=True)
    return _with_interval(found, "micro_f1", len(truth)), _with_interval(found, "hamming_loss", len(truth))


def _ranked(truth: Flags, scores: Array) -> Metric:
    found = bootstrap(ranking(truth, scores), len(truth), resamples=RESAMPLES, seed=SEED, left_out=True)
    return _with_interval(found, "micro_roc_auc", len(truth))


def _with_interval(found: Bootstrapped, name: str, n: int) -> Metric:
    undefined = "no record has a label" if name != "hamming_loss" else "no records"
    return bootstrap_metric(
        float(found.value.pooled[name][0]),
        found.replicates.pooled[name],
        n,
        confidence=CONFIDENCE,
        undefined=undefined,
        variance=variance(found, name),
    )


def matrix(scores: Sequence[Mapping[str, float]], columns: Sequence[str]) -> Array:
    """(n, L) of scores by label; what is not there is 0."""
    return np.array([[row.get(column, 0.0) for column in columns] for row in scores], dtype=np.float64)


def flags(chosen: Sequence[Sequence[str]], columns: Sequence[str]) -> Flags:
    """(n, L): which labels each record has."""
    return np.array([[column in row for column in columns] for row in chosen], dtype=bool)
