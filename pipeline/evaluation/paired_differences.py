"""Differences between two guards, of one run or of two, on the records that both judged and the same resamples.

Thresholds that a difference depends on are chosen anew in every resample
(`marginalia.scoring.measures.refitted_thresholds`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.calibration_fitting import own_thresholds
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
from marginalia.scoring.measures.conclusions import compare
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric, simultaneous
from marginalia.scoring.measures.metrics import Bootstrapped, Measure, Measured

TUNED, VERDICT = "tuned_", "verdict_"  # in front of a metric's name: at own thresholds; of the verdict
FORECAST = ("brier", "log_loss")
LOWER_IS_BETTER = (*metrics.LOWER_IS_BETTER, "ece", "false_positive_rate", *FORECAST)
FALLBACK = "micro_roc_auc"  # tested where the primary metric has no interval
ON_TEST = "test split"
ON_JUDGED = "judged splits"
CellsT = TypeVar("CellsT", Array, Flags)
UNDEFINED = "not defined for one of the two"
NONE_HAS_ALL = "no resample has all that are compared"


@dataclass(frozen=True)
class Judged:
    """One estimator of one guard: its scores, and the splits, the threshold and the own thresholds it is judged by."""

    table: GuardTable
    estimator: str
    splits: list[Split]
    threshold: float
    thresholds: ThresholdReport

    @classmethod
    def of(cls, table: GuardTable, page: EstimatorEvaluation) -> Judged:
        return cls(table, page.estimator, page.splits, page.threshold, page.thresholds)

    @property
    def scores(self) -> Array:
        return self.table.scores[self.estimator]

    @property
    def places(self) -> dict[str, int]:
        """Judged record → its row."""
        judged = self.table.on(self.splits)
        return {record: row for row, record in enumerate(self.table.ids) if judged[row]}

    def resampled_thresholds(self, labels: list[str], config: EvaluateSection, seed: int) -> Array:
        """(resamples, L): its thresholds of highest F1, chosen anew in each resample of the calibration split.

        Its records are taken in the order of their ids, so that two guards with the same ones are resampled alike."""
        table = self.table
        rows = np.array(sorted(np.flatnonzero(table.on(["calibration"])), key=lambda row: table.ids[row]), dtype=int)
        columns = [table.labels.index(label) for label in labels]
        return refitted_thresholds.chosen_thresholds(
            table.truth[rows],
            self.scores[rows],
            min_positives=config.min_positives,
            resamples=config.resamples,
            seed=seed,
        )[:, columns]


@dataclass(frozen=True)
class Side:
    """One of the two on the shared records and labels: probabilities, their bounds, own thresholds."""

    judged: Judged
    p: Array  # (n, L)
    bounds: Bounds | None
    verdict: Array | None  # (n,)
    verdict_bounds: Bounds | None
    at: Array | None  # (L,)


@dataclass(frozen=True)
class Pair:
    """One kind of metric for both: a value and its resamples each, and the ranges that bounds allow."""

    sides: list[Bootstrapped]
    ranges: list[dict[str, Range]]
    n: int


class Paired:
    """Differences over `records`, which both judged with the same gold; all of them are b less a."""

    def __init__(self, a: Judged, b: Judged, records: Sequence[str], config: EvaluateSection, seed: int) -> None:
        self._config, self._seed = config, seed
        self.labels = [label for label in a.table.labels if label in b.table.labels]
        rows = [np.array([place[record] for record in records], dtype=np.int64) for place in (a.places, b.places)]
        sides = [_side(one, row, self.labels) for one, row in zip((a, b), rows, strict=True)]
        self.truth = _part(a.table.truth, rows[0], _columns(a, self.labels))
        any_label = a.table.any_label[rows[0]]
        tested = (a.table.splits[rows[0]] == "test") & (b.table.splits[rows[1]] == "test")
        self._judged = self._pair(
            [
                metrics.together([metrics.decisions(self.truth, side.p >= at), metrics.ranking(self.truth, side.p)])
                for side in sides
                for at in [side.judged.threshold]
            ],
            [pooled_ranges(self.truth, side.bounds, side.judged.threshold) if side.bounds else {} for side in sides],
            len(self.truth),
        )
        self._label_ranges = [
            {
                **ranges.ranking_ranges(self.truth, *side.bounds).labels,
                **ranges.decision_ranges(self.truth, *side.bounds, side.judged.threshold).labels,
            }
            if side.bounds
            else {}
            for side in sides
        ]
        truth, n = self.truth[tested], int(tested.sum())
        self._tested = tested
        self._forecasts = self._pair(
            [forecast(truth, side.p[tested]) for side in sides],
            [ranges.forecast_ranges(truth, *_rows(side.bounds, tested)) if side.bounds else {} for side in sides],
            n,
        )
        self._verdicts = self._pair(
            [verdict(any_label, side.verdict, side.judged.threshold) for side in sides if side.verdict is not None],
            [
                verdict_ranges(any_label, side.verdict_bounds, side.judged.threshold) if side.verdict_bounds else {}
                for side in sides
            ],
            len(any_label),
        )
        self._tuned = self._at_own_thresholds(sides, truth, tested)

    def _pair(self, measures: Sequence[Measure], found: list[dict[str, Range]], n: int) -> Pair | None:
        if len(measures) < 2 or not n:
            return None
        resamples, seed = self._config.resamples, self._seed
        return Pair([metrics.bootstrap(one, n, resamples=resamples, seed=seed) for one in measures], found, n)

    def _at_own_thresholds(self, sides: list[Side], truth: Flags, tested: Flags) -> Pair | None:
        found, allowed = [], []
        for side in sides:
            if side.at is None or not tested.any() or not side.judged.table.on(["calibration"]).any():
                return None
            at = side.judged.resampled_thresholds(self.labels, self._config, self._seed)
            found.append(refitted_thresholds.with_resampled(truth, side.p[tested], side.at, at, self._seed))
            inside = ranges.decision_ranges(truth, *_rows(side.bounds, tested), side.at) if side.bounds else None
            allowed.append(inside.pooled if inside else {})
        return Pair(found, allowed, len(truth))

    def _of(self, name: str) -> tuple[Pair | None, str]:
        """(the kind of metric that `name` belongs to, the metric's name in it)."""
        if name.startswith(TUNED):
            return self._tuned, name.removeprefix(TUNED)
        if name.startswith(VERDICT):
            return self._verdicts, name.removeprefix(VERDICT)
        return (self._forecasts if name in FORECAST else self._judged), name

    def metric(self, name: str) -> Metric | None:
        """The difference in a metric; None where there is none, such as at own thresholds without test records."""
        pair, metric = self._of(name)
        if pair is None or metric not in pair.sides[0].value.pooled:
            return None
        first, second = (
            with_range(Metric(value=_known(float(side.value.pooled[metric][0])), n=pair.n), allowed.get(metric))
            for side, allowed in zip(pair.sides, pair.ranges, strict=True)
        )
        return paired_metric(first, second, self.replicates(name), confidence=self._config.confidence)

    def size(self, name: str) -> float:
        """How many records a metric rests on: see `rests_on`."""
        truth = self.truth[self._tested] if split_of(name) == ON_TEST else self.truth
        return rests_on(name, truth.sum(0).tolist(), len(truth))

    def replicates(self, name: str) -> Array:
        """(resamples,) of the difference in a metric that both have."""
        pair, metric = self._of(name)
        assert pair is not None
        first, second = (side.replicates.pooled[metric] for side in pair.sides)
        return second - first

    def label(self, label: str, metric: str) -> Metric:
        assert self._judged is not None
        place = self.labels.index(label)
        positives = int(self.truth[:, place].sum())
        first, second = (
            with_range(
                Metric(value=_known(float(side.value.labels[metric][0, place])), n=len(self.truth)),
                (float(allowed[metric][0][place]), float(allowed[metric][1][place])) if allowed else None,
            )
            for side, allowed in zip(self._judged.sides, self._label_ranges, strict=True)
        )
        replicates = [side.replicates.labels[metric][:, place] for side in self._judged.sides]
        return paired_metric(
            first,
            second,
            replicates[1] - replicates[0],
            confidence=self._config.confidence,
            rarest=min(positives, len(self.truth) - positives),
        )


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _columns(judged: Judged, labels: list[str]) -> np.ndarray:
    return np.array([judged.table.labels.index(label) for label in labels], dtype=np.int64)


def _part(cells: CellsT, rows: np.ndarray, columns: np.ndarray) -> CellsT:
    part: CellsT = cells[np.ix_(rows, columns)]
    return part


def _rows(bounds: Bounds, rows: np.ndarray) -> Bounds:
    return bounds[0][rows], bounds[1][rows]


def _side(judged: Judged, rows: np.ndarray, labels: list[str]) -> Side:
    table, name, columns = judged.table, judged.estimator, _columns(judged, labels)
    bounds, verdict_bounds = table.bounds.get(name), table.verdict_bounds.get(name)
    return Side(
        judged=judged,
        p=_part(judged.scores, rows, columns),
        bounds=(_part(bounds[0], rows, columns), _part(bounds[1], rows, columns)) if bounds else None,
        verdict=table.verdicts[name][rows] if name in table.verdicts else None,
        verdict_bounds=_rows(verdict_bounds, rows) if verdict_bounds else None,
        at=own_thresholds(judged.thresholds, labels),
    )


def paired_metric(
    first: Metric, second: Metric, replicates: Array, *, confidence: float, rarest: int | None = None
) -> Metric:
    """`second` less `first` with the interval of the paired resamples and the range that both ranges allow."""
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
    return with_range(_holding(metric), ends)


def _holding(metric: Metric) -> Metric:
    """The interval with its value in it: where thresholds are chosen anew, the resamples need not lie around it."""
    if metric.value is None or metric.low is None or metric.high is None:
        return metric
    return metric.model_copy(update={"low": min(metric.low, metric.value), "high": max(metric.high, metric.value)})


def hold_at_once(
    found: Sequence[Metric], replicates: Sequence[Array], sizes: Sequence[float], confidence: float
) -> list[Metric]:
    """The metrics with intervals to test them by, which hold for all of them together; those without an interval stay
    as they are. `sizes`: see `marginalia.scoring.measures.intervals.simultaneous`."""
    several = [place for place, metric in enumerate(found) if metric.low is not None and metric.low != metric.high]
    if not several:
        return list(found)
    chosen = np.column_stack([replicates[place] for place in several])
    low, high = simultaneous(chosen, confidence, [sizes[place] for place in several])
    changed = list(found)
    for place, *ends in zip(several, low.tolist(), high.tolist(), strict=True):
        known = bool(np.isfinite(ends).all())
        update = {"low": ends[0], "high": ends[1]} if known else {"low": None, "high": None, "reason": NONE_HAS_ALL}
        changed[place] = _holding(found[place].model_copy(update=update))
    return changed


def rests_on(name: str, positives: Sequence[int], n: int) -> float:
    """How many records a metric over labels with so many positives among n records rests on: the harmonic mean of each
    label's rarer class for one that averages over labels, else all positives, at most every record."""
    rarer = [min(count, n - count) for count in positives if 0 < count < n]
    if "macro" in name:
        return len(rarer) / sum(1 / count for count in rarer) if rarer else 0.0
    return float(min(sum(rarer), n))


def tested_metric(primary: str, known: dict[str, Metric | None]) -> str | None:
    """The metric that a finding is made of: the primary one, or micro ROC AUC where that has no interval, or none."""
    for name in (primary, FALLBACK):
        metric = known.get(name)
        if metric is not None and metric.low is not None:
            return name
    return None


def split_of(name: str) -> str:
    """What a metric is measured on."""
    return ON_TEST if name.startswith(TUNED) or name in (*FORECAST, "ece") else ON_JUDGED


def finding(name: str, difference: Metric | None, *, tested: bool) -> Finding:
    """What the difference in metric `name` says of b; `descriptive` for a metric that is not the one tested."""
    above, below = compare(difference, 0.0, "above"), compare(difference, 0.0, "below")
    if "not computed" in (above, below):
        return "not known"
    if not tested:
        return "descriptive"
    lower_is_better = name.removeprefix(TUNED).removeprefix(VERDICT) in LOWER_IS_BETTER
    better, worse = (below, above) if lower_is_better else (above, below)
    return "better" if better == "yes" else "worse" if worse == "yes" else "no clear difference"


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
