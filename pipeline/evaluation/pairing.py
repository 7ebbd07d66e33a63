"""Differences between two guards, of one run or of two, on the records that both judged and the same resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.config import EvaluateSection
from pipeline.evaluation.tables import GuardTable
from schemas.evaluation import EstimatorEvaluation, Finding, Metric
from scoring import metrics
from scoring.calibration import log_losses
from scoring.intervals import Array, Flags, bootstrap_metric
from scoring.metrics import Bootstrapped, Measure, Measured

TUNED, VERDICT = "tuned_", "verdict_"  # in front of a metric's name: at own thresholds; of the verdict
FORECAST = ("brier", "log_loss")
LOWER_IS_BETTER = (*metrics.LOWER_IS_BETTER, "ece", "false_positive_rate", *FORECAST)
ON_TEST = "test split"
ON_JUDGED = "judged splits"


@dataclass(frozen=True)
class Judged:
    """One estimator of one guard: its table and its page of evaluation.json."""

    table: GuardTable
    report: EstimatorEvaluation

    @property
    def scores(self) -> Array:
        return self.table.scores[self.report.estimator]

    @property
    def places(self) -> dict[str, int]:
        """Judged record → its row."""
        judged = self.table.on(self.report.splits)
        return {record: row for row, record in enumerate(self.table.ids) if judged[row]}

    def own_thresholds(self, labels: list[str]) -> Array | None:
        """(L,) thresholds of highest F1; None when one is missing."""
        found = [self.report.thresholds.labels[label][0].threshold for label in labels]
        return None if any(at is None for at in found) or not found else np.array(found, dtype=np.float64)


class Paired:
    """Differences over `records`, which both judged with the same gold; all of them are b less a."""

    def __init__(self, a: Judged, b: Judged, records: Sequence[str], config: EvaluateSection, seed: int) -> None:
        self._config, self._seed = config, seed
        self.labels = [label for label in a.table.labels if label in b.table.labels]
        places = [one.places for one in (a, b)]
        rows = [np.array([place[record] for record in records], dtype=np.int64) for place in places]
        columns = [np.array([one.table.labels.index(label) for label in self.labels], dtype=np.int64) for one in (a, b)]
        sides = list(zip((a, b), rows, columns, strict=True))
        self.truth = a.table.truth[np.ix_(rows[0], columns[0])]
        scores = [one.scores[np.ix_(row, column)] for one, row, column in sides]
        self.judged = [
            self._bootstrapped(
                metrics.together(
                    [
                        metrics.decisions(self.truth, p >= side.report.threshold),
                        metrics.ranking(self.truth, p),
                    ]
                ),
                len(self.truth),
            )
            for p, (side, _, _) in zip(scores, sides, strict=True)
        ]
        tested = (a.table.splits[rows[0]] == "test") & (b.table.splits[rows[1]] == "test")
        self.n_tested = int(tested.sum())
        self.tuned = self._tested(
            [
                metrics.decisions(self.truth[tested], p[tested] >= own) if own is not None else None
                for p, own in zip(scores, (one.own_thresholds(self.labels) for one in (a, b)), strict=True)
            ]
        )
        self.forecasts = self._tested([forecast(self.truth[tested], p[tested]) for p in scores])
        self.verdicts = [
            self._bootstrapped(verdict(a.table.any_label[rows[0]], p[row], one.report.threshold), len(row))
            for one, row, _ in sides
            if (p := one.table.verdicts.get(one.report.estimator)) is not None
        ]

    def _tested(self, measures: Sequence[Measure | None]) -> list[Bootstrapped]:
        known = [self._bootstrapped(one, self.n_tested) for one in measures if one is not None and self.n_tested]
        return known if len(known) == 2 else []

    def _bootstrapped(self, measure: Measure, n: int) -> Bootstrapped:
        return metrics.bootstrap(measure, n, resamples=self._config.resamples, seed=self._seed)

    def metric(self, name: str) -> Metric | None:
        """The difference in a metric; None where there is none, such as at own thresholds without test records."""
        if name.startswith(TUNED):
            return self._difference(self.tuned, name.removeprefix(TUNED), self.n_tested)
        if name.startswith(VERDICT):
            return self._difference(self.verdicts, name.removeprefix(VERDICT), len(self.truth))
        if name in FORECAST:
            return self._difference(self.forecasts, name, self.n_tested)
        return self._difference(self.judged, name, len(self.truth))

    def _difference(self, pair: list[Bootstrapped], metric: str, n: int) -> Metric | None:
        if len(pair) < 2 or metric not in pair[0].value.pooled:
            return None
        first, second = pair
        value = float(second.value.pooled[metric][0] - first.value.pooled[metric][0])
        return self._metric(value, second.replicates.pooled[metric] - first.replicates.pooled[metric], n)

    def label(self, label: str, metric: str) -> Metric:
        place = self.labels.index(label)
        first, second = self.judged
        value = float(second.value.labels[metric][0, place] - first.value.labels[metric][0, place])
        replicates = second.replicates.labels[metric][:, place] - first.replicates.labels[metric][:, place]
        positives = int(self.truth[:, place].sum())
        return self._metric(value, replicates, len(self.truth), min(positives, len(self.truth) - positives))

    def _metric(self, value: float, replicates: Array, n: int, rarest: int | None = None) -> Metric:
        usable = replicates[np.isfinite(replicates)]
        if value == 0 and len(usable) and not usable.any():
            return Metric(value=0.0, low=0.0, high=0.0, n=n, resamples=len(usable), reason="the same on every resample")
        undefined = "not defined for one of the two"
        confidence = self._config.confidence
        return bootstrap_metric(value, replicates, n, confidence=confidence, undefined=undefined, rarest=rarest)


def split_of(name: str) -> str:
    """What a metric is measured on."""
    return ON_TEST if name.startswith(TUNED) or name in (*FORECAST, "ece") else ON_JUDGED


def finding(name: str, difference: Metric | None) -> Finding:
    """What the difference in metric `name` says of b."""
    if difference is None or difference.low is None or difference.high is None:
        return "not known"
    if difference.low <= 0 <= difference.high:
        return "no clear difference"
    lower_is_better = name.removeprefix(TUNED).removeprefix(VERDICT) in LOWER_IS_BETTER
    return "better" if (difference.low > 0) != lower_is_better else "worse"


def forecast(truth: Flags, p: Array) -> Measure:
    """Brier score and log loss (nats), over all record x label values."""
    squared, losses = ((p - truth) ** 2).mean(1), log_losses(truth, p).mean(1)

    def measure(weights: Array) -> Measured:
        n = weights.sum(1)
        return Measured({"brier": weights @ squared / n, "log_loss": weights @ losses / n}, {})

    return measure


def verdict(truth: Flags, p: Array, threshold: float) -> Measure:
    """Of the verdict `p` (n,): ROC AUC, average precision, F1, precision, recall, false-positive rate, accuracy."""
    flagged = p >= threshold
    parts = metrics.together(
        [metrics.decisions(truth[:, None], flagged[:, None]), metrics.ranking(truth[:, None], p[:, None])]
    )
    wrong, safe, right = (flagged & ~truth).astype(float), (~truth).astype(float), (flagged == truth).astype(float)

    def measure(weights: Array) -> Measured:
        found = {name: values[:, 0] for name, values in parts(weights).labels.items()}
        below = weights @ safe
        with np.errstate(divide="ignore", invalid="ignore"):
            found["false_positive_rate"] = np.where(below > 0, weights @ wrong / below, np.nan)
        return Measured({**found, "accuracy": weights @ right / weights.sum(1)}, {})

    return measure
