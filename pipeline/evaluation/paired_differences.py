"""Paired differences between two guards, of one run or of two: on the records that both judged, over the same
resamples.

Thresholds that a difference depends on are chosen anew in every resample
(`marginalia.scoring.measures.refitted_thresholds`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.calibration_fitting import own_thresholds
from marginalia.pipeline.evaluation.estimator_evaluation import NEED_SAFE_RECORDS
from marginalia.pipeline.evaluation.guard_tables import Bounds, GuardTable
from marginalia.pipeline.evaluation.metric_bounds import (
    Range,
    difference_range,
    pooled_ranges,
    verdict_ranges,
    with_range,
)
from marginalia.schemas.evaluation_json import EstimatorEvaluation, Finding, Metric, Split, ThresholdReport
from marginalia.scoring.measures import metric_ranges as ranges
from marginalia.scoring.measures import metrics, refitted_thresholds
from marginalia.scoring.measures.calibration import log_losses
from marginalia.scoring.measures.cell_means import cells_per_record, nothing_judged, per_record
from marginalia.scoring.measures.conclusions import compare
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric, simultaneous
from marginalia.scoring.measures.metrics import Bootstrapped, Measure, Measured

TUNED, VERDICT = "tuned_", "verdict_"  # prefixes of metric names: at own thresholds; of the verdict
FORECAST = ("brier", "log_loss")
LOWER_IS_BETTER = (*metrics.LOWER_IS_BETTER, "ece", "false_positive_rate", *FORECAST)
FALLBACK = "micro_roc_auc"  # tested where the primary metric has no interval
ON_TEST_SPLIT = "test split"
ON_JUDGED_SPLITS = "judged splits"
CellsT = TypeVar("CellsT", Array, Flags)
UNDEFINED = "not defined for one of the two"
NO_COMPLETE_RESAMPLE = "no resample has all that are compared"


@dataclass(frozen=True)
class JudgedEstimator:
    """One estimator of one guard: its scores, and the splits and thresholds that it is judged by."""

    table: GuardTable
    estimator: str
    splits: list[Split]
    threshold: float
    thresholds: ThresholdReport

    @classmethod
    def of(cls, table: GuardTable, evaluation: EstimatorEvaluation) -> JudgedEstimator:
        """The estimator as its evaluation says that it is judged."""
        return cls(table, evaluation.estimator, evaluation.splits, evaluation.threshold, evaluation.thresholds)

    @property
    def scores(self) -> Array:
        """(n, L): its probabilities for every record of the table."""
        return self.table.scores[self.estimator]

    @property
    def rows_by_record(self) -> dict[str, int]:
        """Id of each record of the splits → its row in the table."""
        judged = self.table.on(self.splits)
        return {record: row for row, record in enumerate(self.table.ids) if judged[row]}

    def resampled_thresholds(self, labels: list[str], config: EvaluateSection, seed: int) -> Array:
        """(resamples, L): the thresholds of highest F1, chosen anew in each resample of the calibration split.

        Records are sorted by id, so that two guards with the same records get the same resamples."""
        table = self.table
        in_calibration = np.flatnonzero(table.judged_on(["calibration"]))
        rows = np.array(sorted(in_calibration, key=lambda row: table.ids[row]), dtype=int)
        columns = [table.labels.index(label) for label in labels]
        return refitted_thresholds.chosen_thresholds(
            table.truth[rows],
            self.scores[rows],
            min_positives=config.min_positives,
            resamples=config.resamples,
            seed=seed,
            judged=table.judged[rows],
        )[:, columns]


@dataclass(frozen=True)
class AlignedScores:
    """One of the two estimators on the n shared records and L shared labels; the verdict's on the v records whose
    verdict is known."""

    judged: JudgedEstimator
    p: Array  # (n, L)
    bounds: Bounds | None
    verdict: Array | None  # (v,)
    verdict_bounds: Bounds | None
    own_thresholds: Array | None  # (L,)


@dataclass(frozen=True)
class PairedMeasures:
    """Metrics of one kind for both estimators, with their resamples and the ranges that the probabilities' bounds
    allow."""

    bootstrapped: list[Bootstrapped]
    ranges: list[dict[str, Range]]
    n: int


class PairedDifferences:
    """Differences, b minus a, over `records`, which both judged against the same gold labels.

    Cells count where both runs' gold judged the label, and verdicts where both know them. `records`: how many have such
    a cell. `truth`, `judged`, `in_test` and `both`, the scores of a and b, are of these records."""

    def __init__(
        self, a: JudgedEstimator, b: JudgedEstimator, records: Sequence[str], config: EvaluateSection, seed: int
    ) -> None:
        self._config, self._seed = config, seed
        self.labels = [label for label in a.table.labels if label in b.table.labels]
        rows_of_both = [
            np.array([rows_of[record] for record in records], dtype=np.int64)
            for rows_of in (a.rows_by_record, b.rows_by_record)
        ]
        sides = list(zip((a, b), rows_of_both, strict=True))
        judged_by_a, judged_by_b = (_cells(one.table.judged, rows, _columns(one, self.labels)) for one, rows in sides)
        judged = judged_by_a & judged_by_b
        known = np.logical_and(*(one.table.verdict_judged[rows] for one, rows in sides))
        some = ~nothing_judged(judged)
        self.both = both = [_aligned_scores(one, rows[some], rows[known], self.labels) for one, rows in sides]
        self.truth, self.judged = _cells(a.table.truth, rows_of_both[0][some], _columns(a, self.labels)), judged[some]
        self.records = len(self.truth)
        self.in_test = np.logical_and(*(one.table.splits[rows[some]] == "test" for one, rows in sides))
        self._judged = self._at_fixed_thresholds(both)
        self._label_ranges = [_label_ranges(self.truth, self.judged, scores) for scores in both]
        self._forecasts = self._of_forecasts(both)
        self._verdicts = self._of_verdicts(both, a.table.any_label[rows_of_both[0][known]])
        self._tuned = self._at_own_thresholds(both)

    def _at_fixed_thresholds(self, both: list[AlignedScores]) -> PairedMeasures | None:
        truth, judged = self.truth, self.judged
        measures, allowed_ranges = [], []
        for scores in both:
            threshold = scores.judged.threshold
            decisions = metrics.decisions(truth, scores.p >= threshold, judged)
            measures.append(metrics.combined([decisions, metrics.ranking(truth, scores.p, judged)]))
            allowed_ranges.append(pooled_ranges(truth, scores.bounds, threshold, judged) if scores.bounds else {})
        return self._pair(measures, allowed_ranges, len(truth))

    def _of_forecasts(self, both: list[AlignedScores]) -> PairedMeasures | None:
        in_test, truth, judged = self.in_test, self.truth[self.in_test], self.judged[self.in_test]
        return self._pair(
            [forecast_measure(truth, scores.p[in_test], judged) for scores in both],
            [
                ranges.forecast_ranges(truth, *_bounds_of_rows(scores.bounds, in_test), judged) if scores.bounds else {}
                for scores in both
            ],
            len(truth),
        )

    def _of_verdicts(self, both: list[AlignedScores], any_label: Flags) -> PairedMeasures | None:
        measures, allowed_ranges = [], []
        for scores in both:
            threshold, bounds = scores.judged.threshold, scores.verdict_bounds
            if scores.verdict is not None:
                measures.append(verdict_measure(any_label, scores.verdict, threshold))
            allowed_ranges.append(verdict_ranges(any_label, bounds, threshold) if bounds else {})
        return self._pair(measures, allowed_ranges, len(any_label))

    def _pair(
        self, measures: Sequence[Measure], ranges_of_both: list[dict[str, Range]], n: int
    ) -> PairedMeasures | None:
        if len(measures) < 2 or not n:
            return None
        resamples, seed = self._config.resamples, self._seed
        return PairedMeasures(
            [metrics.bootstrap(measure, n, resamples=resamples, seed=seed) for measure in measures], ranges_of_both, n
        )

    def _at_own_thresholds(self, both: list[AlignedScores]) -> PairedMeasures | None:
        in_test, truth, judged = self.in_test, self.truth[self.in_test], self.judged[self.in_test]
        bootstrapped, allowed_ranges = [], []
        for scores in both:
            has_calibration = scores.judged.table.judged_on(["calibration"]).any()
            if scores.own_thresholds is None or not in_test.any() or not has_calibration:
                return None
            resampled = scores.judged.resampled_thresholds(self.labels, self._config, self._seed)
            bootstrapped.append(
                refitted_thresholds.with_resampled(
                    truth, scores.p[in_test], scores.own_thresholds, resampled, self._seed, judged
                )
            )
            decided = (
                ranges.decision_ranges(truth, *_bounds_of_rows(scores.bounds, in_test), scores.own_thresholds, judged)
                if scores.bounds
                else None
            )
            allowed_ranges.append(decided.pooled if decided else {})
        return PairedMeasures(bootstrapped, allowed_ranges, len(truth))

    def _of(self, name: str) -> tuple[PairedMeasures | None, str]:
        """(the measures that metric `name` belongs to, its name in them)."""
        if name.startswith(TUNED):
            return self._tuned, name.removeprefix(TUNED)
        if name.startswith(VERDICT):
            return self._verdicts, name.removeprefix(VERDICT)
        return (self._forecasts if name in FORECAST else self._judged), name

    def metric(self, name: str) -> Metric | None:
        """The difference in a metric. None where it is not defined, such as own thresholds without test records."""
        measures, key = self._of(name)
        if measures is None or key not in measures.bootstrapped[0].value.pooled:
            return None
        first, second = (
            with_range(
                Metric(value=_finite_or_none(float(bootstrapped.value.pooled[key][0])), n=measures.n), allowed.get(key)
            )
            for bootstrapped, allowed in zip(measures.bootstrapped, measures.ranges, strict=True)
        )
        return paired_metric(first, second, self.replicates(name), confidence=self._config.confidence)

    def effective_records(self, name: str) -> float:
        """How many records the precision of a metric depends on; see the function `effective_records`."""
        rows = self.in_test if measured_on(name) == ON_TEST_SPLIT else np.ones(self.records, dtype=bool)
        truth, judged = self.truth[rows], self.judged[rows]
        counts = (truth & judged).sum(0).tolist(), (~truth & judged).sum(0).tolist()
        return effective_records(name, list(zip(*counts, strict=True)), len(truth))

    def replicates(self, name: str) -> Array:
        """(resamples,): the difference in a metric that both have, in each resample."""
        measures, key = self._of(name)
        assert measures is not None
        first, second = (bootstrapped.replicates.pooled[key] for bootstrapped in measures.bootstrapped)
        return second - first

    def label(self, label: str, metric: str) -> Metric | None:
        """The difference in a metric of one shared label, over the judged splits; None without a common judged cell."""
        if self._judged is None:
            return None
        column = self.labels.index(label)
        true = self.truth[self.judged[:, column], column]
        n, positives = len(true), int(true.sum())
        first, second = (
            with_range(
                Metric(value=_finite_or_none(float(bootstrapped.value.labels[metric][0, column])), n=n),
                (float(allowed[metric][0][column]), float(allowed[metric][1][column])) if allowed else None,
            )
            for bootstrapped, allowed in zip(self._judged.bootstrapped, self._label_ranges, strict=True)
        )
        return paired_metric(
            first,
            second,
            self._label_replicates(column, metric),
            confidence=self._config.confidence,
            rarest=min(positives, n - positives),
        )

    def every_label(self, metric: str) -> dict[str, Metric]:
        """Label → the difference in a metric, with intervals that hold for all shared labels at once."""
        differences = {label: self.label(label, metric) for label in self.labels}
        found = {label: difference for label, difference in differences.items() if difference is not None}
        columns = [self.labels.index(label) for label in found]
        positives, negatives = ((part & self.judged).sum(0)[columns].tolist() for part in (self.truth, ~self.truth))
        changed = with_simultaneous_intervals(
            list(found.values()),
            [self._label_replicates(column, metric) for column in columns],
            [float(min(pair)) for pair in zip(positives, negatives, strict=True)],
            self._config.confidence,
        )
        return dict(zip(found, changed, strict=True))

    def _label_replicates(self, column: int, metric: str) -> Array:
        assert self._judged is not None
        first, second = (bootstrapped.replicates.labels[metric] for bootstrapped in self._judged.bootstrapped)
        return np.asarray(second[:, column] - first[:, column])


def _label_ranges(truth: Flags, judged: Flags, scores: AlignedScores) -> dict[str, ranges.Ends]:
    if scores.bounds is None:
        return {}
    return {
        **ranges.ranking_ranges(truth, *scores.bounds, judged).labels,
        **ranges.decision_ranges(truth, *scores.bounds, scores.judged.threshold, judged).labels,
    }


def _finite_or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _columns(judged: JudgedEstimator, labels: list[str]) -> np.ndarray:
    return np.array([judged.table.labels.index(label) for label in labels], dtype=np.int64)


def _cells(cells: CellsT, rows: np.ndarray, columns: np.ndarray) -> CellsT:
    part: CellsT = cells[np.ix_(rows, columns)]
    return part


def _bounds_of_rows(bounds: Bounds, rows: np.ndarray) -> Bounds:
    return bounds[0][rows], bounds[1][rows]


def _aligned_scores(
    judged: JudgedEstimator, rows: np.ndarray, verdict_rows: np.ndarray, labels: list[str]
) -> AlignedScores:
    table, name, columns = judged.table, judged.estimator, _columns(judged, labels)
    bounds, verdict_bounds = table.bounds.get(name), table.verdict_bounds.get(name)
    return AlignedScores(
        judged=judged,
        p=_cells(judged.scores, rows, columns),
        bounds=(_cells(bounds[0], rows, columns), _cells(bounds[1], rows, columns)) if bounds else None,
        verdict=table.verdicts[name][verdict_rows] if name in table.verdicts else None,
        verdict_bounds=_bounds_of_rows(verdict_bounds, verdict_rows) if verdict_bounds else None,
        own_thresholds=own_thresholds(judged.thresholds, labels),
    )


def paired_metric(
    first: Metric, second: Metric, replicates: Array, *, confidence: float, rarest: int | None = None
) -> Metric:
    """`second` minus `first`, with the interval of the paired resamples and the range that both ranges allow."""
    if first.value is None or second.value is None:
        return Metric(value=None, n=second.n, reason=UNDEFINED)
    value, ends = second.value - first.value, difference_range(first, second)
    usable = replicates[np.isfinite(replicates)]
    if value == 0 and len(usable) and not usable.any():
        same = "the same on every resample"
        metric = Metric(value=0.0, low=0.0, high=0.0, n=second.n, resamples=len(usable), reason=same)
    else:
        metric = bootstrap_metric(
            value, replicates, second.n, confidence=confidence, undefined=UNDEFINED, rarest=rarest
        )
    return with_range(including_value(metric), ends)


def including_value(metric: Metric) -> Metric:
    """The metric with its interval extended to its value: where thresholds are chosen anew, it may lie outside."""
    if metric.value is None or metric.low is None or metric.high is None:
        return metric
    return metric.model_copy(update={"low": min(metric.low, metric.value), "high": max(metric.high, metric.value)})


def with_simultaneous_intervals(
    differences: Sequence[Metric], replicates: Sequence[Array], sizes: Sequence[float], confidence: float
) -> list[Metric]:
    """The metrics with simultaneous intervals: the confidence holds for all of them at once.

    Metrics without an interval stay as they are. `sizes`: see
    `marginalia.scoring.measures.intervals.simultaneous`."""
    with_interval = [
        index for index, metric in enumerate(differences) if metric.low is not None and metric.low != metric.high
    ]
    if not with_interval:
        return list(differences)
    chosen = np.column_stack([replicates[index] for index in with_interval])
    low, high = simultaneous(chosen, confidence, [sizes[index] for index in with_interval])
    changed = list(differences)
    for index, *ends in zip(with_interval, low.tolist(), high.tolist(), strict=True):
        finite = bool(np.isfinite(ends).all())
        update = (
            {"low": ends[0], "high": ends[1]} if finite else {"low": None, "high": None, "reason": NO_COMPLETE_RESAMPLE}
        )
        changed[index] = including_value(differences[index].model_copy(update=update))
    return changed


def effective_records(name: str, classes: Sequence[tuple[int, int]], n: int) -> float:
    """How many of the n records determine the precision of a metric, given each label's numbers of (positives,
    negatives).

    For a macro metric, the harmonic mean of the sizes of each label's rarer class; for others, their sum, at most n."""
    rarer = [min(pair) for pair in classes if min(pair) > 0]
    if "macro" in name:
        return len(rarer) / sum(1 / count for count in rarer) if rarer else 0.0
    return float(min(sum(rarer), n))


def tested_metric(primary: str, differences: dict[str, Metric | None]) -> str | None:
    """The metric whose difference is tested: the primary one, or micro ROC AUC where that has no interval, or None."""
    for name in (primary, FALLBACK):
        metric = differences.get(name)
        if metric is not None and metric.low is not None:
            return name
    return None


def measured_on(name: str) -> str:
    """The splits that a metric is measured on, as named in the files."""
    return ON_TEST_SPLIT if name.startswith(TUNED) or name in (*FORECAST, "ece") else ON_JUDGED_SPLITS


def finding(name: str, difference: Metric | None, *, tested: bool) -> Finding:
    """Whether b is better in metric `name`; `descriptive` for a metric that is not the tested one."""
    above, below = compare(difference, 0.0, "above"), compare(difference, 0.0, "below")
    if "not computed" in (above, below):
        return "not known"
    if not tested:
        return "descriptive"
    lower_is_better = name.removeprefix(TUNED).removeprefix(VERDICT) in LOWER_IS_BETTER
    better, worse = (below, above) if lower_is_better else (above, below)
    return "better" if better == "yes" else "worse" if worse == "yes" else "no clear difference"


def forecast_measure(truth: Flags, p: Array, judged: Flags) -> Measure:
    """Measures the Brier score and the log loss (nats) over all judged record × label values (n, L)."""
    squared, losses = per_record((p - truth) ** 2, judged), per_record(log_losses(truth, p), judged)
    cells = cells_per_record(judged)

    def measure(weights: Array) -> Measured:
        n = weights @ cells
        return Measured({"brier": weights @ squared / n, "log_loss": weights @ losses / n}, {})

    return measure


def verdict_measure(truth: Flags, p: Array, threshold: float) -> Measure:
    """Measures the verdict's probabilities `p` (n,): ROC AUC, average precision, F1, precision, recall, false-positive
    rate, accuracy. Those of NEED_SAFE_RECORDS are NaN where every record has a label."""
    flagged = p >= threshold
    label_measure = metrics.combined(
        [metrics.decisions(truth[:, None], flagged[:, None]), metrics.ranking(truth[:, None], p[:, None])]
    )
    false_positives, safe, correct = (
        (flagged & ~truth).astype(float),
        (~truth).astype(float),
        (flagged == truth).astype(float),
    )

    def measure(weights: Array) -> Measured:
        values_by_metric = {name: values[:, 0] for name, values in label_measure(weights).labels.items()}
        n_safe = weights @ safe
        with np.errstate(divide="ignore", invalid="ignore"):
            values_by_metric["false_positive_rate"] = np.where(n_safe > 0, weights @ false_positives / n_safe, np.nan)
        values_by_metric["accuracy"] = weights @ correct / weights.sum(1)
        undefined = dict.fromkeys(NEED_SAFE_RECORDS, np.full(len(weights), np.nan)) if truth.all() else {}
        return Measured({**values_by_metric, **undefined}, {})

    return measure
