"""One estimator of one guard: metrics, verdict, calibration, thresholds, review and soft labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.calibration_fitting import (
    calibrate,
    calibration_report,
    choose_thresholds,
    own_thresholds,
    tuned_predictions,
)
from marginalia.pipeline.evaluation.guard_tables import LABEL_FREQUENCY, NO_LABELS, GuardTable
from marginalia.pipeline.evaluation.metric_bounds import with_ranges
from marginalia.pipeline.evaluation.review_curve import review_points
from marginalia.pipeline.evaluation.soft_label_evaluation import soft_metrics
from marginalia.schemas.calibration_json import Calibration
from marginalia.schemas.evaluation_json import UNSAFE, Curve, EstimatorEvaluation, LabelMetrics, Metric, ThresholdReport
from marginalia.scoring.measures import calibration, metrics, refitted_thresholds
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric, share
from marginalia.scoring.measures.jackknife import label_variances, pooled_variance

BASELINES = (LABEL_FREQUENCY, "greedy", "max_over_steps", "monte_carlo")
CURVE_POINTS = 200
RANKED = ("roc_auc", "average_precision")
SHARES = ("precision", "recall")
NEED_SAFE_RECORDS = ("average_precision", "f1", "precision", "accuracy")  # of the verdict: else no flag can be wrong
NO_SAFE_RECORDS = "no safe records in gold"
NEVER_JUDGED = "not judged in any record of these splits"


@dataclass(frozen=True)
class EvaluatedEstimator:
    """An estimator's part of evaluation.json, and the arrays that comparisons and calibration.json need."""

    report: EstimatorEvaluation
    judged: metrics.Bootstrapped
    refitted: metrics.Bootstrapped | None  # decisions at own thresholds, chosen anew in each resample
    calibration: Calibration
    calibrated: Array  # (n, L)
    tuned_predictions: Flags | None  # (n, L)


def evaluate_estimator(
    table: GuardTable, name: str, config: EvaluateSection, *, seed: int, simulated: bool
) -> EvaluatedEstimator:
    """Evaluates one estimator. Nothing is judged on the records that it was fitted on."""
    scores = table.scores[name]
    rows, in_test = table.judged_on(config.judged_on), table.judged_on(["test"])
    truth, known, p = table.truth[rows], table.judged[rows], scores[rows]
    judged = _bootstrapped(truth, p, known, config, seed)
    fitted = calibrate(table, name, config, seed, simulated)
    calibrated = (
        np.column_stack(
            [calibration.apply(fitted, label, scores[:, column]) for column, label in enumerate(table.labels)]
        )
        if table.labels
        else scores
    )
    chosen = choose_thresholds(table, name, config)
    predicted = tuned_predictions(chosen, table.labels, scores)
    tuned = (
        metrics.bootstrap(
            metrics.decisions(table.truth[in_test], predicted[in_test], table.judged[in_test]),
            int(in_test.sum()),
            resamples=config.resamples,
            seed=seed,
            left_out=True,
        )
        if predicted is not None
        else None
    )
    decided = _pooled(tuned, table.truth[in_test], table.judged[in_test], config) if tuned else {}
    report = EstimatorEvaluation(
        estimator=name,
        baseline=name in BASELINES or name.startswith("published_"),
        splits=list(config.judged_on),
        n=len(truth),
        threshold=config.threshold,
        metrics=_pooled(judged, truth, known, config),
        labels=_per_label(judged, table.labels, truth, p >= config.threshold, known, config),
        labels_left_out=_left_out(table.labels, truth, known),
        verdict=_verdict(table, name, config, seed),
        tuned=decided,
        calibration=calibration_report(table, scores, calibrated, fitted, config, seed),
        thresholds=chosen,
        review=review_points(table.truth[in_test], predicted[in_test], calibrated[in_test], table.judged[in_test])
        if predicted is not None
        else [],
        soft=soft_metrics(
            table, name, scores >= config.threshold, f"{config.threshold:g}", list(config.judged_on), config, seed
        ),
        soft_tuned=soft_metrics(table, name, predicted, "own thresholds", ["test"], config, seed)
        if predicted is not None
        else None,
        roc=_curve(*metrics.roc_points(truth[known], p[known])),
        precision_recall=_curve(*metrics.precision_recall_points(truth[known], p[known])),
    )
    report = with_ranges(report, table, fitted, calibrated, config)
    return EvaluatedEstimator(
        report, judged, _refitted(table, scores, chosen, config, seed), fitted, calibrated, predicted
    )


def _refitted(
    table: GuardTable, scores: Array, chosen: ThresholdReport, config: EvaluateSection, seed: int
) -> metrics.Bootstrapped | None:
    own = own_thresholds(chosen, table.labels)
    in_calibration, in_test = table.judged_on(["calibration"]), table.judged_on(["test"])
    if own is None or not in_test.any():
        return None
    resampled = refitted_thresholds.chosen_thresholds(
        table.truth[in_calibration],
        scores[in_calibration],
        min_positives=config.min_positives,
        resamples=config.resamples,
        seed=seed,
        judged=table.judged[in_calibration],
    )
    return refitted_thresholds.with_resampled(
        table.truth[in_test], scores[in_test], own, resampled, seed, table.judged[in_test]
    )


def _bootstrapped(
    truth: Flags, scores: Array, judged: Flags, config: EvaluateSection, seed: int
) -> metrics.Bootstrapped:
    """Metrics of the scores and of decisions at the fixed threshold; all arrays are (n, L)."""
    decided = metrics.decisions(truth, scores >= config.threshold, judged)
    measure = metrics.combined([decided, metrics.ranking(truth, scores, judged)])
    return metrics.bootstrap(measure, len(truth), resamples=config.resamples, seed=seed, left_out=True)


def _pooled(
    bootstrapped: metrics.Bootstrapped, truth: Flags, judged: Flags, config: EvaluateSection
) -> dict[str, Metric]:
    if not truth.shape[1]:  # otherwise the subset accuracy of no labels would be perfect
        return {name: Metric(value=None, n=len(truth), reason=NO_LABELS) for name in bootstrapped.value.pooled}
    rarest = min(int(truth[judged].sum()), int((~truth[judged]).sum()))
    return {
        name: bootstrap_metric(
            float(values[0]),
            bootstrapped.replicates.pooled[name],
            len(truth),
            confidence=config.confidence,
            undefined=_undefined(name, len(truth), len(truth)),
            rarest=rarest if name.endswith(RANKED) else None,
            variance=pooled_variance(bootstrapped, name, truth, judged),
        )
        for name, values in bootstrapped.value.pooled.items()
    }


def _per_label(
    bootstrapped: metrics.Bootstrapped,
    labels: list[str],
    truth: Flags,
    predicted: Flags,
    judged: Flags,
    config: EvaluateSection,
) -> list[LabelMetrics]:
    """Metrics of each label, over the records in which it was judged. Precision and recall are shares of records and
    have exact intervals; the intervals of the others come from their variance."""
    rows = []
    variances = {name: label_variances(bootstrapped, name) for name in bootstrapped.value.labels if name not in SHARES}
    for column, label in enumerate(labels):
        true, flags = truth[judged[:, column], column], predicted[judged[:, column], column]
        n, positives = len(true), int(true.sum())
        undefined = {name: _undefined(name, n, len(truth)) for name in bootstrapped.value.labels}
        label_metrics = {
            name: bootstrap_metric(
                float(values[0, column]),
                bootstrapped.replicates.labels[name][:, column],
                n,
                confidence=config.confidence,
                undefined=undefined[name],
                rarest=min(positives, n - positives),
                variance=variances[name][column],
            )
            for name, values in bootstrapped.value.labels.items()
            if name not in SHARES
        }
        hits, flagged = int((true & flags).sum()), int(flags.sum())
        for name, total in zip(SHARES, (flagged, positives), strict=True):
            label_metrics[name] = share(hits, total, confidence=config.confidence, undefined=undefined[name])
        rows.append(LabelMetrics(label=label, n=n, positives=positives, metrics=label_metrics))
    return rows


def _undefined(name: str, n: int, records: int) -> str:
    """Why a metric has no value: `n` of the `records` judge what it measures."""
    if n == 0:
        return NEVER_JUDGED if records else "no records on these splits"
    if name.endswith("precision") and not name.endswith("average_precision"):
        return "nothing is flagged"
    if name.endswith("roc_auc"):
        return "needs both positives and negatives"
    return "no positives in gold"


def _left_out(labels: list[str], truth: Flags, judged: Flags) -> dict[str, str]:
    reasons = {}
    for column, label in enumerate(labels):
        true = truth[judged[:, column], column]
        if len(truth) and not len(true):
            reasons[label] = f"{NEVER_JUDGED}: left out of macro averages"
        elif not true.any():
            reasons[label] = "no positives: left out of macro averages"
        elif true.all():
            reasons[label] = "no negatives: left out of macro ROC AUC and average precision"
    return reasons


def _verdict(table: GuardTable, name: str, config: EvaluateSection, seed: int) -> dict[str, Metric]:
    """Binary metrics of the verdict, over the records whose verdict is known. Shares have exact intervals; the
    intervals of the others come from their variance. Without safe records only the recall is computed: no flag can be
    wrong, so a guard that flags everything would have a perfect value of all others."""
    if name not in table.verdicts:
        return {}
    rows = table.verdict_on(config.judged_on)
    truth, p = table.any_label[rows], table.verdicts[name][rows]
    n, flagged = len(truth), p >= config.threshold
    false_positives, positives = int((~truth & flagged).sum()), int(truth.sum())
    known = np.ones((n, 1), dtype=np.bool_)
    bootstrapped = _bootstrapped(truth[:, None], p[:, None], known, config, seed)
    label_metrics = _per_label(bootstrapped, [UNSAFE], truth[:, None], flagged[:, None], known, config)[0].metrics
    exact = {
        "false_positive_rate": share(
            false_positives, n - positives, confidence=config.confidence, undefined=NO_SAFE_RECORDS
        ),
        "accuracy": share(int((truth == flagged).sum()), n, confidence=config.confidence, undefined="no records"),
    }
    measured = {**{key: label_metrics[key] for key in ("roc_auc", "average_precision", "f1", *SHARES)}, **exact}
    if n and positives == n:
        measured |= {key: Metric(value=None, n=0, reason=NO_SAFE_RECORDS) for key in NEED_SAFE_RECORDS}
    return measured


def _curve(x: Array, y: Array) -> Curve:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) > CURVE_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
        x, y = x[kept], y[kept]
    return Curve(x=x.round(6).tolist(), y=y.round(6).tolist())
