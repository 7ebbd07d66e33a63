"""Calibration maps and thresholds: fitted on the calibration split, judged on the test split."""

from __future__ import annotations

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import NO_LABELS, GuardTable
from marginalia.schemas.calibration_json import Calibration, Identity, LabelMap
from marginalia.schemas.evaluation_json import UNSAFE, CalibrationReport, Metric, Split, Threshold, ThresholdReport
from marginalia.scoring.measures import calibration, thresholds
from marginalia.scoring.measures.cell_means import cells_per_record, per_record
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric
from marginalia.scoring.measures.metrics import Measured, bootstrap
from marginalia.scoring.measures.reliability import qualities


def calibrate(table: GuardTable, name: str, config: EvaluateSection, seed: int, simulated: bool) -> Calibration:
    """The calibration maps of one estimator. The verdict gets a map of its own, or the identity when it has too few
    positives or negatives."""
    in_calibration = table.judged_on(["calibration"])
    fitted = calibration.fit(
        table.truth[in_calibration],
        table.scores[name][in_calibration],
        table.labels,
        guard=table.guard,
        estimator=name,
        method=config.calibration_method,
        min_positives=config.min_positives,
        folds=config.folds,
        seed=seed,
        simulated=simulated,
        judged=table.judged[in_calibration],
    )
    with_verdict = table.verdict_on(["calibration"])
    truth = table.any_label[with_verdict]
    verdict = LabelMap(map=Identity(), source="identity", positives=int(truth.sum()))
    fits_verdict = min(int(truth.sum()), int((~truth).sum())) >= config.min_positives
    if name in table.verdicts and fits_verdict and fitted.method != "identity":
        verdict_map = calibration.METHODS[fitted.method](truth, table.verdicts[name][with_verdict])
        verdict = verdict.model_copy(update={"map": verdict_map, "source": "label"})
    return fitted.model_copy(update={"labels": {**fitted.labels, UNSAFE: verdict}})


def calibration_report(
    table: GuardTable,
    scores: Array,
    calibrated: Array,
    fitted: Calibration,
    config: EvaluateSection,
    seed: int,
) -> CalibrationReport:
    """Calibration quality on the test split before and after recalibration, or the reason why there is none after."""
    in_calibration, in_test = table.judged_on(["calibration"]), table.judged_on(["test"])
    truth, judged = table.truth[in_test], table.judged[in_test]
    recalibrated = in_calibration.any() and fitted.method != "identity"
    probabilities = [scores[in_test], calibrated[in_test]] if recalibrated else [scores[in_test]]
    all_qualities = qualities(
        [(truth, p, judged) for p in probabilities]
        + [
            (truth[:, [column]], p[:, [column]], judged[:, [column]])
            for p in probabilities
            for column in range(len(table.labels))
        ],
        splits=["test"],
        bins=config.bins,
        confidence=config.confidence,
        resamples=config.resamples,
        seed=seed,
    )
    pooled_qualities, label_qualities = all_qualities[: len(probabilities)], all_qualities[len(probabilities) :]
    n_labels = len(table.labels)
    by_label = [
        {label: quality for label, quality in zip(table.labels, part, strict=True) if quality is not None}
        for part in (label_qualities[:n_labels], label_qualities[n_labels:] or [None] * n_labels)
    ]
    pooled = [label for label in table.labels if fitted.labels[label].source == "pooled"]
    reason: str | None
    if not table.labels:
        reason = NO_LABELS
    elif not in_calibration.any():
        reason = "no records on the calibration split"
    elif not in_test.any():
        reason = "no records on the test split to judge it on"
    elif fitted.method == "identity":
        reason = "no map had a lower cross-fitted log loss than leaving the probabilities as they are"
        outcomes = table.truth[in_calibration][table.judged[in_calibration]]
        if min(outcomes.sum(), (~outcomes).sum()) < config.min_positives:
            reason = f"fewer than {config.min_positives} positives on the calibration split"
    else:
        which = "every label" if len(pooled) == n_labels else ", ".join(pooled)
        reason = f"fewer than {config.min_positives} positives, so the pooled map is used: {which}" if pooled else None
    return CalibrationReport(
        method=fitted.method,
        reason=reason,
        raw=pooled_qualities[0],
        recalibrated=pooled_qualities[1] if recalibrated else None,
        **_changes(truth, probabilities, judged, config, seed),
        labels_raw=by_label[0],
        labels_recalibrated=by_label[1],
    )


def _changes(
    truth: Flags, probabilities: list[Array], judged: Flags, config: EvaluateSection, seed: int
) -> dict[str, Metric | None]:
    """`bias` of the raw probabilities, and `improvement` of the Brier score by the recalibrated ones."""
    if not truth.size:
        return {"bias": None, "improvement": None}
    columns = {"bias": per_record(probabilities[0] - truth, judged)}
    if len(probabilities) > 1:
        improvement = (probabilities[0] - truth) ** 2 - (probabilities[1] - truth) ** 2
        columns["improvement"] = per_record(improvement, judged)
    cells = cells_per_record(judged)

    def measure(weights: Array) -> Measured:
        return Measured({name: weights @ values / (weights @ cells) for name, values in columns.items()}, {})

    bootstrapped = bootstrap(measure, len(truth), resamples=config.resamples, seed=seed)
    return {
        name: bootstrap_metric(
            float(values[0]),
            bootstrapped.replicates.pooled[name],
            len(truth),
            confidence=config.confidence,
            undefined="",
        )
        for name, values in bootstrapped.value.pooled.items()
    }


def choose_thresholds(table: GuardTable, name: str, config: EvaluateSection) -> ThresholdReport:
    """A threshold for every goal: for all labels together, for each label, and for the verdict."""
    scores, truth, judged = table.scores[name], table.truth, table.judged
    chosen_on, judged_on = (
        (truth[rows], scores[rows], judged[rows])
        for rows in (table.judged_on(["calibration"]), table.judged_on(["test"]))
    )
    overall = thresholds.best_f1(chosen_on[0][chosen_on[2]], chosen_on[1][chosen_on[2]])
    missing = "no positives on the calibration split" if table.labels else NO_LABELS
    reason = None if overall is not None else missing
    chosen = Threshold(goal="max_f1", threshold=overall, source="global", reason=reason, chosen_on=None, judged_on=None)
    columns = {
        label: (truth[:, column], scores[:, column], judged[:, column]) for column, label in enumerate(table.labels)
    }
    if name in table.verdicts:
        columns[UNSAFE] = (table.any_label, table.verdicts[name], table.verdict_judged)

    def judged_values(label: str, split: Split) -> tuple[Flags, Array]:
        true, p, known = columns[label]
        rows = table.on([split]) & known
        return true[rows], p[rows]

    return ThresholdReport(
        overall=[thresholds.with_outcomes(chosen, chosen_on, judged_on, confidence=config.confidence)],
        labels={
            label: thresholds.label_thresholds(
                judged_values(label, "calibration"),
                judged_values(label, "test"),
                overall=overall if label != UNSAFE else None,
                precision_targets=config.precision_targets,
                false_positive_targets=config.false_positive_targets,
                min_positives=config.min_positives if label != UNSAFE else 1,
                confidence=config.confidence,
            )
            for label in columns
        },
    )


def tuned_predictions(chosen: ThresholdReport, labels: list[str], scores: Array) -> Flags | None:
    """(n, L): decisions at each label's max-F1 threshold; None when a label has no threshold."""
    at = own_thresholds(chosen, labels)
    return None if at is None else np.asarray(scores >= at, dtype=bool)


def own_thresholds(chosen: ThresholdReport, labels: list[str]) -> Array | None:
    """(L,): each label's max-F1 threshold; None when one is missing."""
    values = [chosen.labels[label][0].threshold for label in labels]
    return None if not values or any(threshold is None for threshold in values) else np.array(values, dtype=np.float64)
